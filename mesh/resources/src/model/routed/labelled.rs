//! The labels of what a Workload was made of: messages do not carry them.

use std::collections::BTreeMap;

use culvert_objects::{Labels, ObjectName, Pod, WorkloadEntry};
use culvert_proto::workload::Workload;

use super::super::reader::Reader;
use super::super::wire;

/// Whether it has all of these labels. An endpoint that is written by hand has none.
pub(super) fn has(reader: &Reader<'_>, workload: &Workload, labels: &BTreeMap<String, String>) -> bool {
    if labels.is_empty() {
        return true;
    }
    let own = of(reader, workload);
    let has = |(key, value): (&String, &String)| own.is_some_and(|own| own.get(key) == Some(value));
    labels.iter().all(has)
}

/// Those of its labels that have one of these names.
pub(super) fn named(reader: &Reader<'_>, workload: &Workload, names: &[&str]) -> BTreeMap<String, String> {
    if names.is_empty() {
        return BTreeMap::new();
    }
    let own = of(reader, workload);
    let value = |name: &&str| Some(((*name).to_owned(), own?.get(name)?.to_owned()));
    names.iter().filter_map(value).collect()
}

fn of<'a>(reader: &Reader<'a>, workload: &Workload) -> Option<&'a Labels> {
    let name = ObjectName::new(workload.namespace.as_str(), workload.name.as_str());
    if workload.uid == wire::pod_uid(reader.settings(), &name) {
        return reader.get::<Pod>(&name).map(|pod| &pod.labels);
    }
    if workload.uid == wire::workload_entry_uid(reader.settings(), &name) {
        return reader.get::<WorkloadEntry>(&name).map(|entry| &entry.labels);
    }
    None
}
