//! Policies whose selector selects no pod.

use culvert_objects::{
    AuthorizationPolicy, Kind, Labels, ObjectName, PeerAuthentication, Pod, RequestAuthentication, Selector,
    WorkloadEntry,
};

use super::problem::Problem;
use crate::model::reader::Reader;

pub(super) fn find(reader: &Reader<'_>) -> Vec<Problem> {
    let policies = reader.all::<AuthorizationPolicy>();
    let policies = policies.map(|(name, policy)| (Kind::AuthorizationPolicy, name, &policy.selector));
    let peers = reader.all::<PeerAuthentication>();
    let peers = peers.map(|(name, policy)| (Kind::PeerAuthentication, name, &policy.selector));
    let tokens = reader.all::<RequestAuthentication>();
    let tokens = tokens.map(|(name, policy)| (Kind::RequestAuthentication, name, &policy.selector));
    let all = policies.chain(peers).chain(tokens);
    let idle =
        all.filter(|(_, name, selector)| matches!(selector, Selector::Labels(_)) && !binds(reader, name, selector));
    idle.map(|(kind, name, _)| {
        let message = "no pod and no WorkloadEntry has these labels: the policy binds nothing".to_owned();
        let remedy = "give the pods that are meant these labels, or change the selector";
        Problem::warning(kind, name, "spec.selector.matchLabels", message, remedy)
    })
    .collect()
}

fn binds(reader: &Reader<'_>, policy: &ObjectName, selector: &Selector) -> bool {
    let is_root = *policy.namespace == *reader.settings().root_namespace;
    let is_bound = |name: &ObjectName, labels: &Labels| {
        (is_root || name.namespace == policy.namespace) && selector.selects(labels)
    };
    reader.all::<Pod>().any(|(name, pod)| is_bound(name, &pod.labels))
        || reader
            .all::<WorkloadEntry>()
            .any(|(name, entry)| is_bound(name, &entry.labels))
}
