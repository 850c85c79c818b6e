//! `cargo xtask cluster`: a real Kubernetes cluster on this machine, with everything that it is made of built first.
//!
//! Kubernetes' own programs and CoreDNS are built from Go modules that `tests/tools` pins; the rest is Debian's. What
//! the cluster is and does is in the crate `culvert-cluster`, whose program gets this chore's arguments.

pub(crate) mod go;

use crate::{
    setup,
    shell::{self, say},
};
use anyhow::{Context as _, Result};
use clap::Args;
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// The arguments of `cargo xtask cluster`, which are those of the program `culvert-cluster`.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// up, down, status or shell, with their options; --help tells more. Or programs: builds what `up` would, and Helm and
    /// h2spec, for tests
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds what is missing, then becomes `culvert-cluster`.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.arguments.first().is_some_and(|first| first == "programs") {
        ensure_programs()?;
        ensure_helm()?;
        return ensure_h2spec();
    }
    let needs_programs = options.arguments.first().is_some_and(|first| first == "up");
    let launcher = if needs_programs { ensure_programs()? } else { build()? };
    let mut command = Command::new(&launcher);
    command.args(&options.arguments);
    let mut command = setup::as_root(command)?;
    Err(command.exec()).with_context(|| format!("cannot start {}", launcher.display()))
}

/// Makes every program of a cluster present: Debian's, Kubernetes', CoreDNS, and our own; the path of the last.
///
/// Takes about ten minutes the first time, and no time when nothing has changed.
pub(crate) fn ensure_programs() -> Result<PathBuf> {
    setup::ensure_packages(
        &[
            "containerd",
            "runc",
            "containernetworking-plugins",
            "nftables",
            "iproute2",
        ],
        "run Kubernetes nodes",
    )?;
    let tools = shell::root().join("tests/tools");
    for program in [KUBE, COREDNS] {
        program.ensure(&tools)?;
    }
    build()
}

/// Makes Helm present, for the tests of the chart; minutes the first time.
pub(crate) fn ensure_helm() -> Result<()> {
    HELM.ensure(&shell::root().join("tests/tools"))
}

/// Makes h2spec present, for the test of the tunnel's HTTP/2; half a minute the first time.
pub(crate) fn ensure_h2spec() -> Result<()> {
    H2SPEC.ensure(&shell::root().join("tests/tools"))
}

/// Builds our own program.
fn build() -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--quiet", "--package", "culvert-cluster"]);
    let status = cargo.status().context("cannot start cargo")?;
    anyhow::ensure!(status.success(), "culvert-cluster does not build");
    Ok(shell::target().join("debug/culvert-cluster"))
}

/// Where the programs are.
fn bin() -> PathBuf {
    shell::target().join("cluster/bin")
}

/// A program that is built from Go modules.
struct Program {
    name: &'static str,
    /// Folder of its module, below `tests/tools`.
    module: &'static str,
    /// Package in the module.
    package: &'static str,
    /// Packages whose variables say which version of Kubernetes this is.
    versions: &'static [&'static str],
    takes: &'static str,
}

const KUBERNETES: &str = "1.34.4";

const KUBE: Program = Program {
    name: "kube",
    module: ".",
    package: "./kube",
    versions: &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
    takes: "about ten minutes the first time",
};

const COREDNS: Program = Program {
    name: "coredns",
    module: "coredns",
    package: ".",
    versions: &[],
    takes: "about three minutes the first time",
};

/// Renders our chart in tests; no cluster needs it.
const HELM: Program = Program {
    name: "helm",
    module: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    versions: &[],
    takes: "about four minutes the first time",
};

/// Tests HTTP/2 servers; no cluster needs it.
const H2SPEC: Program = Program {
    name: "h2spec",
    module: "h2spec",
    package: "github.com/summerwind/h2spec/cmd/h2spec",
    versions: &[],
    takes: "about half a minute the first time",
};

impl Program {
    /// Builds the program unless it was built from the same sources before.
    fn ensure(&self, tools: &Path) -> Result<()> {
        let program = bin().join(self.name);
        let stamp = bin().join(format!("{}.stamp", self.name));
        let wanted = self.digest(tools)?;
        if program.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
            return Ok(());
        }
        fs::create_dir_all(bin()).context("cannot make the folder of programs")?;
        say(&format!(
            "{} is built from Go modules: {}, then only when its sources change",
            self.name, self.takes
        ));
        let unfinished = bin().join(format!("{}.new", self.name));
        let mut build = go::command()?;
        build
            .current_dir(tools.join(self.module))
            .env("CGO_ENABLED", "0")
            .args(["build", "-trimpath", "-mod=readonly", "-buildvcs=false"])
            .args(["-ldflags", &self.link_flags(), "-o"])
            .arg(&unfinished)
            .arg(self.package);
        go::build(self.name, &mut build)?;
        // Renamed, so that a running cluster keeps the old file.
        fs::rename(&unfinished, &program).with_context(|| format!("cannot write {}", program.display()))?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
    }

    fn link_flags(&self) -> String {
        let (major, minor) = KUBERNETES.split_once('.').map_or((KUBERNETES, ""), |(major, rest)| {
            (major, rest.split('.').next().unwrap_or_default())
        });
        let mut flags = "-s -w".to_owned();
        for package in self.versions {
            for (variable, value) in [
                ("gitVersion", format!("v{KUBERNETES}").as_str()),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitTreeState", "archive"),
                ("gitCommit", "unknown"),
                ("buildDate", "2026-01-01T00:00:00Z"),
            ] {
                flags.push_str(&format!(" -X {package}.{variable}={value}"));
            }
        }
        flags
    }

    /// Changes when anything changes that the program is made from.
    fn digest(&self, tools: &Path) -> Result<String> {
        let module = tools.join(self.module);
        let package = module.join(self.package);
        let mut files = vec![module.join("go.mod"), module.join("go.sum")];
        // A package of another module has no folder here: go.sum says what is in it.
        let sources = fs::read_dir(&package).into_iter().flatten();
        let sources = sources.flatten().map(|entry| entry.path());
        files.extend(sources.filter(|path| path.extension().is_some_and(|extension| extension == "go")));
        files.sort();
        let mut digest = Sha256::new();
        digest.update(self.link_flags());
        for file in files {
            digest.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        Ok(format!("{:x}", digest.finalize()))
    }
}
