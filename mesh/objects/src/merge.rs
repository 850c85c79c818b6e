//! All files together: one set of objects, and what is wrong between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};

use crate::defaults;
use crate::document::Document;
use crate::enrolment;
use crate::finding::Finding;
use crate::objects::{Object, ObjectName, Objects};

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
    let namespaces: Vec<String> = objects.namespaces.keys().map(|n| n.name.clone()).collect();
    for namespace in namespaces {
        let name = ObjectName::new(namespace.as_str(), "default");
        let account = || Arc::new(defaults::implied_service_account(&namespace));
        objects.service_accounts.entry(name).or_insert_with(account);
    }
    for entry in &kept {
        report_labels_and_accounts(entry, &objects, &mut findings);
    }
    (objects, findings)
}

/// Keeps the `Arc` of every object that is equal to its predecessor.
pub(crate) fn reuse(objects: &mut Objects, previous: &Objects) {
    fn keep<T: PartialEq>(now: &mut BTreeMap<ObjectName, Arc<T>>, before: &BTreeMap<ObjectName, Arc<T>>) {
        for (name, object) in now {
            if let Some(old) = before
                .get(name)
                .filter(|old| !Arc::ptr_eq(old, object) && **old == *object)
            {
                *object = Arc::clone(old);
            }
        }
    }
    keep(&mut objects.namespaces, &previous.namespaces);
    keep(&mut objects.pods, &previous.pods);
    keep(&mut objects.services, &previous.services);
    keep(&mut objects.service_accounts, &previous.service_accounts);
    keep(&mut objects.endpoint_slices, &previous.endpoint_slices);
    keep(&mut objects.nodes, &previous.nodes);
    keep(&mut objects.config_maps, &previous.config_maps);
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
        }
    }
}

fn without_duplicates<'a>(entries: Vec<Entry<'a>>, findings: &mut Vec<Finding>) -> Vec<Entry<'a>> {
    let mut seen: HashMap<(&str, ObjectName), Entry<'a>> = HashMap::new();
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
    let mut namespaces: BTreeSet<String> = defaults::NAMESPACES.iter().map(|n| (*n).to_owned()).collect();
    for entry in &entries {
        if let Object::Namespace(namespace) = &entry.document.object {
            namespaces.extend(namespace.metadata.name.clone());
        }
    }
    entries.retain(|entry| {
        let object = &entry.document.object;
        let name = object.name();
        let housed = !object.is_namespaced() || namespaces.contains(&name.namespace);
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
        let (addresses, field) = match &entry.document.object {
            Object::Pod(pod) => (claimed_by_pod(pod), "status.podIPs"),
            Object::Service(service) => (service_addresses(service), "spec.clusterIPs"),
            _ => return true,
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

/// Pods on the host's network share addresses; pods that have ended have given theirs back.
pub(crate) fn claimed_by_pod(pod: &Pod) -> Vec<IpAddr> {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if enrolment::is_host_network(pod) || matches!(phase, Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    enrolment::pod_addresses(pod)
}

pub(crate) fn service_addresses(service: &Service) -> Vec<IpAddr> {
    let texts = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn report_labels_and_accounts(entry: &Entry<'_>, objects: &Objects, findings: &mut Vec<Finding>) {
    let found = complaint(&entry.document.object, objects);
    let found = found.into_iter();
    findings.extend(found.map(|(field, message)| entry.finding(&field, message)));
}

/// What is wrong with an object that stays: the field, and what in words.
pub(crate) fn complaint(object: &Object, objects: &Objects) -> Vec<(String, String)> {
    let labels = object.metadata().labels.as_ref();
    let unknown = match object {
        Object::Namespace(_) => enrolment::decided_by(labels, true).err(),
        Object::Pod(_) => enrolment::decided_by(labels, false).err(),
        _ => None,
    };
    let unknown = unknown.map(|unknown| (format!("metadata.labels[{}]", unknown.label), unknown.to_string()));
    let mut found: Vec<_> = unknown.into_iter().collect();
    if let Object::Pod(pod) = object {
        let account = ObjectName::new(object.name().namespace, enrolment::service_account(pod));
        if !objects.service_accounts.contains_key(&account) {
            let message = format!("there is no ServiceAccount {account}: the pod gets no certificate");
            found.push(("spec.serviceAccountName".to_owned(), message));
        }
    }
    found
}
