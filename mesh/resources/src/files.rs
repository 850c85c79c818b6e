//! Objects from files alone, as `culvert` reads them where it asks no cluster, and over those of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use culvert_objects::{Assembly, Finding, Findings, Kind, Object, ObjectName, Objects, Severity};
use serde::{Deserialize, Serialize};

use crate::model::{Model, Settings};

/// A file: its name, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// For messages; one that ends in `.json` is read as JSON.
    pub name: String,
    /// YAML or JSON, several documents or lists of them.
    pub text: String,
}

/// What files hold.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The objects, each with its file and line.
    pub objects: Vec<(Object, String)>,
    /// What cannot be read, and what does not count.
    pub findings: Vec<Finding>,
}

/// Objects, and what is wrong with each by itself.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The objects.
    pub objects: Objects,
    /// What is wrong with them.
    pub findings: Findings,
}

/// Reads files. Of several objects of one name the last counts, as with `kubectl apply`; of the others that is said.
pub fn read(files: &[File]) -> Read {
    let mut read = Read::default();
    // What would be said of each if another one followed.
    let mut last: BTreeMap<String, Finding> = BTreeMap::new();
    for file in files {
        let parsed = culvert_objects::parse(&file.text, file.name.ends_with(".json"));
        let faults = parsed.faults.iter().chain(&parsed.unread);
        read.findings
            .extend(faults.map(|fault| fault.finding(Path::new(&file.name))));
        for document in parsed.documents {
            let place = format!("{}:{}", file.name, document.line);
            let without_effect = Finding {
                file: file.name.clone().into(),
                document: document.number,
                line: Some(document.line),
                object: Some(document.object.title()),
                field: Some("metadata.name".to_owned()),
                message: String::new(),
                severity: Severity::Warning,
            };
            if let Some(earlier) = last.insert(document.object.title(), without_effect) {
                read.findings.push(Finding {
                    message: format!("written again in {place}: that one counts, this one does not"),
                    ..earlier
                });
            }
            read.objects.push((document.object, place));
        }
    }
    read
}

impl World {
    /// Of files alone. The namespaces that they name are taken to be there.
    pub fn of_files(read: &Read) -> Self {
        let mut assembly = Assembly::default();
        let objects = || read.objects.iter().map(|(object, _)| object);
        let written: BTreeSet<ObjectName> = objects()
            .filter(|object| object.kind() == Kind::Namespace)
            .map(Object::name)
            .collect();
        let named = objects().filter(|object| object.kind().descriptor().namespaced);
        let named: BTreeSet<ObjectName> = named.map(|object| object.name().home()).collect();
        for name in named.difference(&written) {
            let mut namespace = culvert_objects::Namespace::default();
            namespace.metadata.name = Some(name.name.to_string());
            assembly.apply(Object::Namespace(Arc::new(namespace)));
        }
        for object in objects() {
            assembly.apply(object.clone());
        }
        let (objects, findings) = assembly.settle();
        let mut findings = findings.clone();
        for finding in &read.findings {
            findings.insert(Arc::new(finding.clone()), ());
        }
        Self {
            objects: objects.clone(),
            findings,
        }
    }

    /// Files over what is there, as if they were applied. Neither pods nor nodes are taken from files: what they come to is the cluster's to
    /// say.
    #[must_use]
    pub fn with(&self, read: &Read) -> Self {
        let of_files = Self::of_files(read);
        let tried: BTreeSet<String> = read.objects.iter().map(|(object, _)| object.title()).collect();
        let mut objects = self.objects.clone();
        for (object, _) in &read.objects {
            if !matches!(object.kind(), Kind::Pod | Kind::Node) {
                objects.insert(object.name(), object.clone());
            }
        }
        let stays = |finding: &&Arc<Finding>| finding.object.as_ref().is_none_or(|object| !tried.contains(object));
        let mut findings: Findings = self
            .findings
            .keys()
            .filter(stays)
            .map(|finding| (Arc::clone(finding), ()))
            .collect();
        for finding in of_files.findings.keys() {
            findings.insert(Arc::clone(finding), ());
        }
        Self { objects, findings }
    }

    /// A model of it.
    pub fn model(&self, settings: Settings) -> Model {
        let mut model = Model::new(settings);
        model.update(&self.objects, Instant::now());
        model
    }
}

#[cfg(test)]
mod tests;
