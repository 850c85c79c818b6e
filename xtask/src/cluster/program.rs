//! Programs that are built from Go modules: from `go.mod` and `go.sum` of a folder below `tests/tools`, once for the same sources.

use super::go;
use crate::shell::{self, say};
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};

const KUBERNETES: &str = "1.34.4";

/// Where the programs are.
fn bin() -> PathBuf {
    shell::target().join("cluster/bin")
}

/// A program that is built from Go modules.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// Folder of its module, below `tests/tools`.
    pub(crate) module: &'static str,
    /// Package in the module.
    pub(crate) package: &'static str,
    pub(crate) built: Built,
    /// Packages whose variables say which version of Kubernetes this is.
    pub(crate) versions: &'static [&'static str],
    /// How long a build takes, as a person would say it.
    pub(crate) takes: &'static str,
}

/// What becomes of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    /// Its program.
    Program,
    /// The program that runs its tests.
    Tests,
}

impl Program {
    /// Builds the program unless it was built from the same sources before; where it is.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        let tools = &tools();
        let program = bin().join(self.name);
        let stamp = bin().join(format!("{}.stamp", self.name));
        let wanted = self.digest(tools)?;
        if program.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
            return Ok(program);
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
            .args(self.built.arguments())
            .args(["-trimpath", "-mod=readonly", "-buildvcs=false"])
            .args(["-ldflags", &self.link_flags(), "-o"])
            .arg(&unfinished)
            .arg(self.package);
        go::build(self.name, &mut build)?;
        // Renamed, so that a running cluster keeps the old file.
        fs::rename(&unfinished, &program).with_context(|| format!("cannot write {}", program.display()))?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(program)
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

impl Built {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Program => &["build"],
            Self::Tests => &["test", "-c"],
        }
    }
}

/// The folder of a module, below `tests/tools`.
pub(crate) fn module(name: &str) -> PathBuf {
    tools().join(name)
}

fn tools() -> PathBuf {
    shell::root().join("tests/tools")
}
