//! All files put together at once, for the property test: what [`Merged`](super::Merged) comes to by steps.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use crate::claims;
use crate::complaint;
use crate::defaults;
use crate::document::Document;
use crate::finding::Finding;
use crate::kinds::{Kind, Object, Objects};
use crate::name::ObjectName;
use crate::severity::Severity;

/// Merges `files`, each with its documents, in the order of their paths.
pub(crate) fn merge<'a>(files: impl Iterator<Item = (&'a Path, &'a [Document])>) -> (Objects, Vec<Finding>) {
    let mut findings = Vec::new();
    let all: Vec<Entry<'_>> = files
        .flat_map(|(file, documents)| documents.iter().map(move |document| Entry { file, document }))
        .collect();
    let unique = without_duplicates(all, &mut findings);
    let housed = without_homeless(unique, &mut findings);
    let kept = without_taken_addresses(housed, &mut findings);

    let mut objects = Objects::default();
    for name in defaults::NAMESPACES {
        objects.insert(
            ObjectName::cluster(name),
            Object::Namespace(Arc::new(defaults::implied_namespace(name))),
        );
    }
    for entry in &kept {
        objects.insert(entry.document.object.name(), entry.document.object.clone());
    }
    let namespaces: Vec<Arc<str>> = objects.namespaces.keys().map(|n| Arc::clone(&n.name)).collect();
    for namespace in namespaces {
        let account = defaults::implied_service_account(&namespace);
        let name = ObjectName::new(namespace, "default");
        if !objects.service_accounts.contains_key(&name) {
            objects.service_accounts.insert(name, Arc::new(account));
        }
    }
    for entry in &kept {
        report_labels_and_accounts(entry, &objects, &mut findings);
    }
    (objects, findings)
}

#[derive(Clone, Copy)]
struct Entry<'a> {
    file: &'a Path,
    document: &'a Document,
}

impl Entry<'_> {
    fn finding(&self, field: &str, message: String) -> Finding {
        Finding {
            file: self.file.to_owned(),
            document: self.document.number,
            line: Some(self.document.line),
            object: Some(self.document.object.title()),
            field: (!field.is_empty()).then(|| field.to_owned()),
            message,
            severity: Severity::Error,
        }
    }
}

fn without_duplicates<'a>(entries: Vec<Entry<'a>>, findings: &mut Vec<Finding>) -> Vec<Entry<'a>> {
    let mut seen: HashMap<(Kind, ObjectName), Entry<'a>> = HashMap::new();
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        let key = (entry.document.object.kind(), entry.document.object.name());
        if let Some(first) = seen.get(&key) {
            let (file, number) = (first.file.display(), first.document.number);
            let message = format!("already in {file}, document {number}: that one counts, this one does not");
            findings.push(entry.finding("metadata.name", message));
        } else {
            seen.insert(key, entry);
            kept.push(entry);
        }
    }
    kept
}

fn without_homeless<'a>(mut entries: Vec<Entry<'a>>, findings: &mut Vec<Finding>) -> Vec<Entry<'a>> {
    let mut namespaces: BTreeSet<&str> = defaults::NAMESPACES.into();
    for entry in &entries {
        if let Object::Namespace(namespace) = &entry.document.object {
            namespaces.extend(namespace.metadata.name.as_deref());
        }
    }
    entries.retain(|entry| {
        let object = &entry.document.object;
        let name = object.name();
        let housed = !object.is_namespaced() || namespaces.contains(&*name.namespace);
        if !housed {
            let message = format!("there is no Namespace {}: the object is left out", name.namespace);
            findings.push(entry.finding("metadata.namespace", message));
        }
        housed
    });
    entries
}

/// An address belongs to one object: traffic to it could otherwise be taken for another's.
fn without_taken_addresses<'a>(mut entries: Vec<Entry<'a>>, findings: &mut Vec<Finding>) -> Vec<Entry<'a>> {
    let mut owners: HashMap<IpAddr, String> = HashMap::new();
    entries.retain(|entry| {
        let addresses = claims::addresses(&entry.document.object);
        let field = match &entry.document.object {
            Object::Pod(_) => "status.podIPs",
            _ => "spec.clusterIPs",
        };
        if let Some((address, owner)) = addresses.iter().find_map(|a| owners.get(a).map(|owner| (a, owner))) {
            let message = format!("{address} already belongs to {owner}: this object is left out");
            findings.push(entry.finding(field, message));
            return false;
        }
        owners.extend(
            addresses
                .into_iter()
                .map(|address| (address, entry.document.object.title())),
        );
        true
    });
    entries
}

fn report_labels_and_accounts(entry: &Entry<'_>, objects: &Objects, findings: &mut Vec<Finding>) {
    let found = complaint::complaint(&entry.document.object, objects);
    let found = found.into_iter();
    findings.extend(found.map(|(field, message, severity)| entry.finding(&field, message).of_severity(severity)));
}
