//! The suite, and the application that its tests talk to, from Go modules that `tests/tools` pins.

use crate::{
    cluster::{
        go,
        program::{self, Built, Program},
    },
    image::foreign::{self, Foreign},
    shell,
};
use anyhow::{Context as _, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// As the controller's `--envoy-image` is by default.
const ENVOY_IMAGE: &str = "docker.io/envoyproxy/envoy:distroless-v1.40.0";

/// The suite's version, which is also that of the CRDs that it accepts.
pub(super) const VERSION: &str = "v1.6.3";

const SUITE: Program = Program {
    name: "gateway-api-conformance",
    module: "conformance",
    package: ".",
    built: Built::Tests,
    versions: &[],
    takes: "about four minutes the first time",
};

const ECHO_SERVER: Program = Program {
    name: "echo-server",
    module: "echo",
    package: "istio.io/istio/pkg/test/echo/cmd/server",
    built: Built::Program,
    versions: &[],
    takes: "about two minutes the first time",
};

const ECHO_CLIENT: Program = Program {
    name: "echo-client",
    package: "istio.io/istio/pkg/test/echo/cmd/client",
    takes: "a few seconds after the server",
    ..ECHO_SERVER
};

/// What is built, and where the suite's sources are.
pub(super) struct Programs {
    /// The program that runs the suite.
    pub(super) suite: PathBuf,
    server: PathBuf,
    client: PathBuf,
    /// Of the module of the suite.
    sources: PathBuf,
    /// Of the module that has the CRDs.
    api: PathBuf,
}

impl Programs {
    /// Builds what is missing.
    pub(super) fn ensure() -> Result<Self> {
        Ok(Self {
            suite: SUITE.ensure()?,
            server: ECHO_SERVER.ensure()?,
            client: ECHO_CLIENT.ensure()?,
            sources: sources("sigs.k8s.io/gateway-api/conformance")?,
            api: sources("sigs.k8s.io/gateway-api")?,
        })
    }

    /// The definitions of the experimental channel, each a file: the only channel that has all that the suite asks for.
    pub(super) fn crds(&self) -> Result<Vec<PathBuf>> {
        let folder = self.api.join("config/crd/experimental");
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            // Beside them are a kustomization and a policy that keeps one channel from replacing the other.
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if text.contains("kind: CustomResourceDefinition") {
                files.push(path);
            }
        }
        files.sort();
        ensure!(!files.is_empty(), "there are no CRDs in {}", folder.display());
        Ok(files)
    }

    /// The image of the application, under the name that the suite's manifest has for it; where its archive is.
    pub(super) fn image(&self) -> Result<PathBuf> {
        let manifest = self.sources.join("mesh/manifests.yaml");
        let manifest = fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        let mut names = images_of(&manifest);
        let name = names.pop().context("the suite's manifest names no image")?;
        ensure!(
            names.is_empty(),
            "the suite's manifest has several images: {name}, {names:?}"
        );
        let archive = folder().join("echo-advanced.tar");
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = CertificateParams::new(vec!["echo".to_owned()])
            .and_then(|parameters| parameters.self_signed(&key))
            .context("cannot make a certificate")?;
        foreign::write(
            &archive,
            &Foreign {
                reference: &name,
                entrypoint: "/usr/local/bin/server",
                files: vec![
                    ("usr/local/bin/server", 0o755, read(&self.server)?),
                    ("usr/local/bin/client", 0o755, read(&self.client)?),
                    // The server's own, for its port of TLS.
                    ("cert.crt", 0o644, certificate.pem().into_bytes()),
                    ("cert.key", 0o644, key.serialize_pem().into_bytes()),
                ],
            },
        )?;
        Ok(archive)
    }
}

/// The image of Envoy, under the name that the controller has for it: the program of PyPI with the libraries of this machine.
pub(super) fn envoy_image() -> Result<PathBuf> {
    let program = crate::envoy::ensure("run the suite with it as waypoints")?;
    let mut files = vec![("usr/local/bin/envoy".to_owned(), 0o755, read(&program)?)];
    // `NAME => PATH (ADDRESS)`, and for the loader the path alone.
    let libraries = shell::output(shell::command("ldd").arg(&program))?;
    for library in libraries
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
    {
        let inside = library.trim_start_matches('/').to_owned();
        files.push((inside, 0o755, read(Path::new(library))?));
    }
    let archive = folder().join("envoy.tar");
    let files = files
        .iter()
        .map(|(path, mode, bytes)| (path.as_str(), *mode, bytes.clone()));
    foreign::write(
        &archive,
        &Foreign {
            reference: ENVOY_IMAGE,
            entrypoint: "/usr/local/bin/envoy",
            files: files.collect(),
        },
    )?;
    Ok(archive)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Where this chore keeps what it makes.
pub(super) fn folder() -> PathBuf {
    shell::root().join(shell::target()).join("conformance")
}

/// The names of images in a manifest, each once.
fn images_of(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().map(|line| line.trim().trim_start_matches("- "));
    let mut names: Vec<String> = lines
        .filter_map(|line| Some(line.strip_prefix("image:")?.trim().to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The folder of a module's sources, in the version that the suite is built with.
fn sources(path: &str) -> Result<PathBuf> {
    let mut list = go::command()?;
    list.current_dir(program::module(SUITE.module)).args([
        "list",
        "-mod=readonly",
        "-m",
        "-f",
        "{{.Version}} {{.Dir}}",
        path,
    ]);
    let told = shell::output(&mut list)?;
    let (version, folder) = told.trim().split_once(' ').context("go list names no folder")?;
    ensure!(version == VERSION, "{path} is {version} in go.mod, not {VERSION}");
    Ok(PathBuf::from(folder))
}

#[cfg(test)]
mod tests {
    use super::images_of;

    #[test]
    fn an_image_that_several_containers_have_is_named_once() {
        let manifest = "containers:\n- image: a/echo:v1\n  name: x\n- name: y\n  image: a/echo:v1\n";
        assert_eq!(images_of(manifest), ["a/echo:v1"]);
    }
}
