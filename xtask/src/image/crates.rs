//! Which crates a program is made of, by cargo's resolved graph.

use crate::shell;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A crate at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    /// An SPDX expression.
    pub(super) license: Option<String>,
    /// From crates.io; otherwise it is part of this repository.
    pub(super) from_registry: bool,
}

/// A package and all that is linked into it.
#[derive(Debug)]
pub(super) struct Graph {
    root: String,
    crates: BTreeMap<String, Crate>,
    /// What each one needs, by cargo's package id.
    needs: BTreeMap<String, BTreeSet<String>>,
}

/// What `cargo metadata` says of a workspace.
pub(super) struct Metadata(Value);

impl Metadata {
    /// Asks cargo about the workspace with this manifest, as built for a target.
    pub(super) fn read(manifest: &str, target: &str) -> Result<Self> {
        let mut cargo = shell::cargo();
        cargo.args(["metadata", "--format-version", "1", "--locked", "--quiet"]);
        cargo.args(["--manifest-path", manifest, "--filter-platform", target]);
        let text = shell::output(&mut cargo)?;
        Ok(Self(
            serde_json::from_str(&text).context("cargo metadata wrote no JSON")?,
        ))
    }

    /// A package and what is linked into it; what only builds or tests it is left out.
    pub(super) fn graph(&self, package: &str) -> Result<Graph> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let known: BTreeMap<String, Crate> = list(&self.0["packages"])
            .iter()
            .filter_map(|one| Some((one["id"].as_str()?.to_owned(), read(one)?)))
            .collect();
        let nodes: BTreeMap<String, BTreeSet<String>> = list(&self.0["resolve"]["nodes"])
            .iter()
            .filter_map(|node| {
                let linked = list(&node["deps"]).into_iter().filter(is_linked);
                let needs = linked.filter_map(|dependency| Some(dependency["pkg"].as_str()?.to_owned()));
                Some((node["id"].as_str()?.to_owned(), needs.collect()))
            })
            .collect();

        let root = known
            .iter()
            .find(|(_, one)| one.name == package && !one.from_registry)
            .map(|(id, _)| id.clone())
            .with_context(|| format!("cargo metadata does not know {package}"))?;
        let mut graph = Graph {
            root: root.clone(),
            crates: BTreeMap::new(),
            needs: BTreeMap::new(),
        };
        let mut ahead = vec![root];
        while let Some(id) = ahead.pop() {
            if graph.crates.contains_key(&id) {
                continue;
            }
            let needs = nodes.get(&id).cloned().unwrap_or_default();
            ahead.extend(needs.iter().cloned());
            let one = known
                .get(&id)
                .with_context(|| format!("cargo metadata does not describe {id}"))?;
            graph.crates.insert(id.clone(), one.clone());
            graph.needs.insert(id, needs);
        }
        Ok(graph)
    }
}

impl Graph {
    /// The package itself.
    pub(super) fn root(&self) -> &Crate {
        &self.crates[&self.root]
    }

    /// All crates, the package itself among them.
    pub(super) fn crates(&self) -> impl Iterator<Item = &Crate> {
        self.crates.values()
    }

    /// Which needs which.
    pub(super) fn edges(&self) -> impl Iterator<Item = (&Crate, &Crate)> {
        let pairs = self
            .needs
            .iter()
            .flat_map(|(one, needs)| needs.iter().map(move |other| (one, other)));
        pairs.map(|(one, other)| (&self.crates[one], &self.crates[other]))
    }

    /// Adds Rust's standard library, which no manifest names.
    pub(super) fn with_standard_library(mut self, version: &str) -> Self {
        let id = "rust-std".to_owned();
        let library = Crate {
            name: id.clone(),
            version: version.to_owned(),
            license: Some("MIT OR Apache-2.0".to_owned()),
            from_registry: false,
        };
        self.crates.insert(id.clone(), library);
        self.needs.entry(self.root.clone()).or_default().insert(id);
        self
    }
}

fn read(package: &Value) -> Option<Crate> {
    let text = |field: &str| package[field].as_str().map(ToOwned::to_owned);
    Some(Crate {
        name: text("name")?,
        version: text("version")?,
        // Older manifests write a stroke where SPDX has a word.
        license: text("license").map(|license| license.replace(" / ", "/").replace('/', " OR ")),
        from_registry: text("source").is_some(),
    })
}

fn is_linked(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata() -> Metadata {
        let package = |name: &str, source: Value| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": source });
        let dependency = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let registry = json!("registry+https://github.com/rust-lang/crates.io-index");
        Metadata(json!({
            "packages": [
                package("program", Value::Null),
                package("library", registry.clone()),
                package("deeper", registry.clone()),
                package("builder", registry.clone()),
                package("stranger", registry),
            ],
            "resolve": { "nodes": [
                { "id": "program", "deps": [dependency("library", Value::Null), dependency("builder", json!("build"))] },
                { "id": "library", "deps": [dependency("deeper", Value::Null), dependency("stranger", json!("dev"))] },
            ] },
        }))
    }

    #[test]
    fn what_is_linked_is_listed_and_what_builds_or_tests_is_not() {
        let graph = metadata().graph("program").unwrap().with_standard_library("1.95.0");
        let names: Vec<&str> = graph.crates().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["deeper", "library", "program", "rust-std"]);
        let edges: Vec<_> = graph
            .edges()
            .map(|(one, other)| (one.name.as_str(), other.name.as_str()))
            .collect();
        assert_eq!(
            edges,
            [("library", "deeper"), ("program", "library"), ("program", "rust-std")]
        );
        assert_eq!(graph.root().license.as_deref(), Some("MIT OR Apache-2.0"));
    }

    #[test]
    fn a_package_that_is_not_there_is_named() {
        let said = metadata().graph("library").unwrap_err().to_string();
        assert!(
            said.contains("library"),
            "only packages of the repository are roots: {said}"
        );
    }
}
