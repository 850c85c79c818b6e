//! `cargo xtask crds`: the CRDs of Istio and of the Gateway API, which a test compares the table of known kinds with, and which
//! tests on a cluster install. They come from Go's module proxy and lie below `target/`; none is committed.

use crate::{
    cluster::go,
    shell::{self, say},
};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A module whose sources have CRDs.
struct Module {
    path: &'static str,
    version: &'static str,
    /// As `go.sum` would have it.
    sum: &'static str,
    /// Files, or folders of files, in the module; each with its place below the folder of CRDs.
    files: &'static [(&'static str, &'static str)],
}

const MODULES: &[Module] = &[
    Module {
        path: "istio.io/api",
        version: "v1.32.0",
        sum: "h1:37mJvg9I0biYZAEQF+MATs4FNeCpXEIVO3LFpVb6iNM=",
        files: &[("kubernetes/customresourcedefinitions.gen.yaml", "istio/crds.yaml")],
    },
    Module {
        path: "sigs.k8s.io/gateway-api",
        version: "v1.7.0",
        sum: "h1:duVnm7nO6oXfMMUWfcDoBph47CYR/ME3NGxccOVglaY=",
        files: &[
            ("config/crd/standard", "gateway-api/standard"),
            ("config/crd/experimental", "gateway-api/experimental"),
        ],
    },
];

/// Where they are.
fn folder() -> PathBuf {
    shell::target().join("crds")
}

/// Makes them present; no time when they are.
pub(crate) fn ensure() -> Result<()> {
    let wanted: String = MODULES.iter().map(|m| format!("{} {}\n", m.path, m.version)).collect();
    let folder = folder();
    if fs::read_to_string(folder.join("versions")).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    let unfinished = shell::target().join("crds.new");
    for old in [&folder, &unfinished] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", old.display()));
            }
            _ => {}
        }
    }
    for module in MODULES {
        let sources = module.download()?;
        for (from, to) in module.files {
            copy(&sources.join(from), &unfinished.join(to))?;
        }
    }
    fs::write(unfinished.join("versions"), wanted).context("cannot note the versions of the CRDs")?;
    fs::rename(&unfinished, &folder).with_context(|| format!("cannot write {}", folder.display()))?;
    say(&format!("the CRDs are in {}", folder.display()));
    Ok(())
}

impl Module {
    /// Downloads the module, and returns the folder of its sources.
    fn download(&self) -> Result<PathBuf> {
        let module = format!("{}@{}", self.path, self.version);
        say(&format!("CRDs: fetching the Go module {module}"));
        let mut download = go::command()?;
        download
            .args(["mod", "download", "-json", &module])
            .current_dir(shell::root());
        let output = download.output().context("cannot start go")?;
        // A module that wants a newer Go than there is (Gateway API 1.7 wants 1.27) is fetched, checked and unpacked all the same,
        // and called an error: nothing is compiled here.
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let text = |field: &str| told[field].as_str();
        let Some(sum) = text("Sum") else {
            let why = text("Error").map_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned(), str::to_owned);
            bail!("{module} cannot be fetched: {}", why.trim());
        };
        ensure!(
            sum == self.sum,
            "{module} is not what it was: its sum is {sum}, not {}",
            self.sum
        );
        let folder = match text("Dir") {
            Some(folder) => PathBuf::from(folder),
            None => {
                let cache = shell::output(go::command()?.args(["env", "GOMODCACHE"]))?;
                Path::new(cache.trim()).join(&module)
            }
        };
        ensure!(
            folder.is_dir(),
            "{module} was fetched and not unpacked: {}",
            text("Error").unwrap_or_default()
        );
        Ok(folder)
    }
}

/// Copies a file, or the CRDs of a folder. Those of the module cache may not be written to, and copies must.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let text = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    // Beside them are a kustomization and a policy that keeps experimental ones from replacing others.
    if !text.contains("kind: CustomResourceDefinition") {
        return Ok(());
    }
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}
