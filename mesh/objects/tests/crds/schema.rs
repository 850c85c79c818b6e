//! The CRDs as they were fetched: kinds, versions, and the fields of their schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use culvert_objects::known::Known;
use serde::Deserialize as _;
use serde_yaml_ng::Value;

/// What every object has, and what is written by others than people.
const NOT_CONFIGURATION: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// Culvert's own kinds.
const OWN: &str = "deploy/crds/culvert.dev.yaml";

/// All CRDs.
pub(crate) struct Crds {
    /// By group and kind.
    pub(crate) all: Vec<Crd>,
    /// The modules that they are from, with their versions.
    pub(crate) modules: Vec<String>,
}

/// A kind, with what all its versions and channels have together.
#[derive(Default)]
pub(crate) struct Crd {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    pub(crate) versions: BTreeSet<String>,
    /// Paths, and the values that an enumeration allows.
    pub(crate) fields: BTreeMap<String, BTreeSet<String>>,
}

impl Crds {
    /// Reads what `cargo xtask crds` has fetched.
    pub(crate) fn read() -> Self {
        let folder = folder();
        let modules = fs::read_to_string(folder.join("versions"));
        let modules = modules.unwrap_or_else(|error| {
            panic!(
                "there are no CRDs in {} ({error}): `cargo xtask crds` fetches them",
                folder.display()
            )
        });
        let mut all: BTreeMap<(String, String), Crd> = BTreeMap::new();
        for file in files(&folder).into_iter().chain([root().join(OWN)]) {
            let text = fs::read_to_string(&file).unwrap();
            for document in serde_yaml_ng::Deserializer::from_str(&text) {
                let document = Value::deserialize(document).unwrap();
                if text_of(&document["kind"]) == "CustomResourceDefinition" {
                    add(&mut all, &document["spec"]);
                }
            }
        }
        assert!(all.len() > 20, "{} has only {} CRDs", folder.display(), all.len());
        Self {
            all: all.into_values().collect(),
            modules: modules.lines().map(str::to_owned).collect(),
        }
    }

    /// That of a kind.
    pub(crate) fn of(&self, known: &Known) -> Option<&Crd> {
        self.all
            .iter()
            .find(|crd| crd.group == known.group && crd.kind == known.kind)
    }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("CULVERT_CRDS") {
        return folder.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| root().join("target")).join("crds")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found
}

fn add(all: &mut BTreeMap<(String, String), Crd>, spec: &Value) {
    let (group, kind) = (text_of(&spec["group"]), text_of(&spec["names"]["kind"]));
    let crd = all.entry((group.clone(), kind.clone())).or_default();
    (crd.group, crd.kind, crd.plural) = (group, kind, text_of(&spec["names"]["plural"]));
    crd.namespaced = text_of(&spec["scope"]) == "Namespaced";
    for version in spec["versions"].as_sequence().unwrap() {
        crd.versions.insert(text_of(&version["name"]));
        walk(&version["schema"]["openAPIV3Schema"], "", &mut crd.fields);
    }
}

/// Collects the fields below a path.
fn walk(schema: &Value, path: &str, fields: &mut BTreeMap<String, BTreeSet<String>>) {
    let values = schema["enum"].as_sequence().into_iter().flatten().map(text_of);
    let list = path.trim_end_matches("[]");
    if !list.is_empty() {
        fields.entry(list.to_owned()).or_default().extend(values);
    }
    for (name, schema) in schema["properties"].as_mapping().into_iter().flatten() {
        let name = text_of(name);
        if path.is_empty() && NOT_CONFIGURATION.contains(&name.as_str()) {
            continue;
        }
        let path = if path.is_empty() {
            name
        } else {
            format!("{path}.{name}")
        };
        walk(schema, &path, fields);
    }
    if schema["items"].is_mapping() {
        walk(&schema["items"], &format!("{path}[]"), fields);
    }
    if schema["additionalProperties"].is_mapping() {
        walk(&schema["additionalProperties"], &format!("{path}.*"), fields);
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}
