//! The imports of every crate of the workspace, held against the rules of the house: no circle of imports among a crate's
//! files, none among its rooms (top-level modules), no program that imports another, and no library of `mesh/` that imports
//! one above it ([`order`]).
//!
//! [`source`] reads a crate's files into modules with the names that each takes from others; [`graph`] finds which file defines
//! a name, follows re-exports, and looks for circles. An import is a `use` that is not itself a re-export, or a path written out
//! in code; tests are left out, as is what macros make.

mod graph;
mod order;
mod source;

use crate::shell;
use anyhow::{Context as _, Result, bail};
use graph::Graph;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Programs, which share code through libraries only.
const PROGRAMS: [&str; 6] = [
    "culvert-agent",
    "culvert-cli",
    "culvert-cni",
    "culvert-controller",
    "culvert-waypoint",
    "culvert-ztunnel",
];

/// Reads all crates of the workspace and fails with every circle, if there is one.
pub(crate) fn check() -> Result<()> {
    shell::say("imports: no circles, no program that imports another, and libraries in their order");
    let mut wrong = Vec::new();
    for package in packages()? {
        wrong.extend(package.forbidden_dependencies());
        wrong.extend(order::imports_upwards(
            &package.name,
            package.in_mesh,
            &package.dependencies,
        ));
        for root in &package.roots {
            let krate = source::Crate::read(root).with_context(|| format!("crate {}", package.name))?;
            let graph = Graph::of(&krate);
            let circles = graph
                .circles()
                .into_iter()
                .map(|circle| ("imports in a circle", circle));
            let rooms = graph.circles_of_rooms();
            let rooms = rooms.into_iter().map(|circle| ("rooms that import each other", circle));
            wrong.extend(circles.chain(rooms).map(|(what, lines)| {
                let lines: Vec<String> = lines.iter().map(|line| format!("    {line}")).collect();
                format!("{}: {what}:\n{}", package.name, lines.join("\n"))
            }));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// A package of the workspace.
struct Package {
    name: String,
    /// Its folder is one of `mesh/`.
    in_mesh: bool,
    dependencies: BTreeSet<String>,
    /// The files with which its library and its programs begin.
    roots: Vec<PathBuf>,
}

impl Package {
    fn forbidden_dependencies(&self) -> Vec<String> {
        if !PROGRAMS.contains(&self.name.as_str()) {
            return Vec::new();
        }
        // The agent carries the plug-in's wire; a program by its own name is its library.
        let other = |name: &&String| PROGRAMS.contains(&name.as_str()) && **name != self.name;
        let found = self.dependencies.iter().filter(other);
        found
            .filter(|name| (self.name.as_str(), name.as_str()) != ("culvert-agent", "culvert-cni"))
            .map(|name| format!("{} imports the program {name}", self.name))
            .collect()
    }
}

fn packages() -> Result<Vec<Package>> {
    let mut cargo = shell::cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked", "--quiet", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&shell::output(&mut cargo)?).context("cargo metadata wrote no JSON")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let read = |package: &Value| -> Option<Package> {
        let linked = list(&package["dependencies"]).into_iter();
        let linked = linked.filter(|one| one["kind"].as_str() != Some("dev"));
        let targets = list(&package["targets"]).into_iter();
        let ours = targets.filter(|target| {
            let kinds = list(&target["kind"]);
            kinds.iter().any(|kind| matches!(kind.as_str(), Some("lib" | "bin")))
        });
        Some(Package {
            name: package["name"].as_str()?.to_owned(),
            in_mesh: Path::new(package["manifest_path"].as_str()?)
                .ancestors()
                .nth(2)
                .is_some_and(|folder| folder.ends_with("mesh")),
            dependencies: linked
                .filter_map(|one| Some(one["name"].as_str()?.to_owned()))
                .collect(),
            roots: ours
                .filter_map(|target| Some(Path::new(target["src_path"].as_str()?).to_owned()))
                .collect(),
        })
    };
    let packages: Vec<Package> = list(&metadata["packages"]).iter().filter_map(read).collect();
    anyhow::ensure!(!packages.is_empty(), "cargo metadata names no package");
    Ok(packages)
}

#[cfg(test)]
mod tests;
