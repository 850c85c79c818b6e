//! All files together: one set of objects, and what is wrong between them. A change of a file costs what is in that file,
//! and what it concerns in others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::assemble::{Assembly, Place, Reference};
use crate::defaults;
use crate::document::Document;
use crate::few::Few;
use crate::finding::{Finding, Findings};
use crate::kinds::{Kind, Object, Objects};
use crate::name::ObjectName;

/// The documents of all files, and what they come to together. Of several of one name, the first counts: by the files' paths,
/// then by document.
#[derive(Debug)]
pub(crate) struct Merged {
    files: BTreeMap<Arc<Path>, Vec<Document>>,
    /// Where an object of that name is written: mostly in one place.
    written: HashMap<Reference, Few<Place>>,
    /// What is said of those that do not count.
    repeated: HashMap<Reference, Vec<Finding>>,
    assembly: Assembly,
}

impl Merged {
    /// Of no file, which is a cluster without anything.
    pub(crate) fn new() -> Self {
        let mut merged = Self {
            files: BTreeMap::new(),
            written: HashMap::new(),
            repeated: HashMap::new(),
            assembly: Assembly::of_files(),
        };
        for namespace in defaults::NAMESPACES {
            merged.choose(&(Kind::Namespace, ObjectName::cluster(namespace)));
        }
        merged
    }

    /// A file holds these documents now, in the place of what it held before.
    pub(crate) fn set(&mut self, path: &Path, documents: Vec<Document>) {
        let mut concerned = self.take_out(path);
        let file: Arc<Path> = path.into();
        for (nth, document) in documents.iter().enumerate() {
            let reference = reference(&document.object);
            let place = Place {
                file: Arc::clone(&file),
                nth,
                document: document.number,
                line: document.line,
            };
            match self.written.get_mut(&reference) {
                Some(places) => places.push(place),
                None => drop(self.written.insert(reference.clone(), Few::One(place))),
            }
            concerned.insert(reference);
        }
        self.files.insert(file, documents);
        self.choose_all(concerned);
    }

    /// A file is gone.
    pub(crate) fn remove(&mut self, path: &Path) {
        let concerned = self.take_out(path);
        self.choose_all(concerned);
    }

    /// What is in force, and what is wrong.
    pub(crate) fn settle(&mut self) -> (Objects, Findings) {
        let (objects, findings) = self.assembly.settle();
        let (objects, mut findings) = (objects.clone(), findings.clone());
        for finding in self.repeated.values().flatten() {
            findings.insert(Arc::new(finding.clone()), ());
        }
        (objects, findings)
    }

    /// Forgets a file, and returns what was in it.
    fn take_out(&mut self, path: &Path) -> BTreeSet<Reference> {
        let documents = self.files.remove(path).unwrap_or_default();
        let concerned: BTreeSet<Reference> = documents.iter().map(|document| reference(&document.object)).collect();
        for reference in &concerned {
            let is_left = self
                .written
                .get_mut(reference)
                .map(|places| places.retain(|place| *place.file != *path));
            if is_left == Some(false) {
                self.written.remove(reference);
            }
        }
        concerned
    }

    fn choose_all(&mut self, concerned: BTreeSet<Reference>) {
        for reference in concerned {
            self.choose(&reference);
        }
    }

    /// Finds out which object of a name counts.
    fn choose(&mut self, reference: &Reference) {
        let (kind, name) = reference;
        let places = self.written.get(reference).map(Few::as_slice).unwrap_or_default();
        let first = places.iter().min().cloned();
        let repeated: Vec<Finding> = match &first {
            Some(first) => places
                .iter()
                .filter(|place| *place != first)
                .map(|place| already(reference, first, place))
                .collect(),
            None => Vec::new(),
        };
        if repeated.is_empty() {
            self.repeated.remove(reference);
        } else {
            self.repeated.insert(reference.clone(), repeated);
        }
        let document = first
            .as_ref()
            .and_then(|place| self.files.get(&place.file)?.get(place.nth));
        let object = document.map(|document| document.object.clone());
        match object.or_else(|| self.implied(reference)) {
            Some(object) => self.assembly.apply_at(object, first),
            None => drop(self.assembly.remove(*kind, name)),
        }
        if *kind == Kind::Namespace {
            self.choose(&(Kind::ServiceAccount, ObjectName::new(Arc::clone(&name.name), "default")));
        }
    }

    /// What is there in every cluster, and in every namespace.
    fn implied(&self, (kind, name): &Reference) -> Option<Object> {
        match kind {
            Kind::Namespace if defaults::NAMESPACES.contains(&&*name.name) => {
                Some(Object::Namespace(Arc::new(defaults::implied_namespace(&name.name))))
            }
            Kind::ServiceAccount if *name.name == *"default" => {
                let is_housed = self.assembly.held().namespaces.contains_key(&name.home());
                is_housed.then(|| Object::ServiceAccount(Arc::new(defaults::implied_service_account(&name.namespace))))
            }
            _ => None,
        }
    }
}

/// The `previous` objects with what is different now, so that an object which did not change stays the very same.
pub(crate) fn reuse(now: &Objects, previous: &Objects) -> Objects {
    let mut objects = previous.clone();
    for kind in Kind::ALL.iter().copied() {
        for name in previous.changed(kind, now) {
            match now.get(kind, &name) {
                Some(object) if previous.get(kind, &name).as_ref() == Some(&object) => {}
                Some(object) => drop(objects.insert(name, object)),
                None => drop(objects.remove(kind, &name)),
            }
        }
    }
    objects
}

fn reference(object: &Object) -> Reference {
    (object.kind(), object.name())
}

/// What is said of an object that is written once too often.
fn already((kind, name): &Reference, first: &Place, place: &Place) -> Finding {
    let (file, document) = (first.file.display(), first.document);
    let message = format!("already in {file}, document {document}: that one counts, this one does not");
    place.of(Finding::of_object(*kind, name, "metadata.name", message))
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
