//! The labels of what a Workload was made of: messages do not carry them.

use std::collections::BTreeMap;

use culvert_objects::{ObjectName, Pod, WorkloadEntry};
use culvert_proto::workload::Workload;

use super::super::reader::Reader;
use super::super::wire;

/// Whether it has all of these labels. An endpoint that is written by hand has none.
pub(super) fn has(reader: &Reader<'_>, workload: &Workload, labels: &BTreeMap<String, String>) -> bool {
    if labels.is_empty() {
        return true;
    }
    let name = ObjectName::new(workload.namespace.as_str(), workload.name.as_str());
    let has_all = |label: &dyn Fn(&str) -> bool| labels.keys().all(|key| label(key));
    if workload.uid == wire::pod_uid(reader.settings(), &name) {
        let Some(pod) = reader.get::<Pod>(&name) else {
            return false;
        };
        return has_all(&|key| pod.labels.get(key) == labels.get(key).map(String::as_str));
    }
    if workload.uid == wire::workload_entry_uid(reader.settings(), &name) {
        let Some(entry) = reader.get::<WorkloadEntry>(&name) else {
            return false;
        };
        return has_all(&|key| entry.labels.get(key) == labels.get(key).map(String::as_str));
    }
    false
}
