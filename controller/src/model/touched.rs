//! Which resources have to be made anew after a change. Errs on the side of too many: what comes out equal is not sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use culvert_objects::{ObjectName, Objects, Pod, Service};

use super::{Source, service, slice};

pub(crate) fn touched(before: &Objects, now: &Objects) -> BTreeSet<Source> {
    let mut found = BTreeSet::new();
    found.extend(changed(&before.pods, &now.pods).cloned().map(Source::Pod));
    for name in changed(&before.services, &now.services) {
        found.insert(Source::Service(name.clone()));
        let selectors: Vec<&Arc<Service>> = [before, now].iter().filter_map(|o| o.services.get(name)).collect();
        let selected = |pod: &Pod| selectors.iter().any(|s| service::selects(s, pod));
        let pods = in_namespace(&now.pods, &name.namespace).filter(|(_, pod)| selected(pod));
        found.extend(pods.map(|(pod, _)| Source::Pod(pod.clone())));
        let slices = in_namespace(&now.endpoint_slices, &name.namespace);
        for (slice_name, written) in slices.filter(|(_, s)| slice::service_name(s) == Some(&name.name)) {
            found.insert(Source::Slice(slice_name.clone()));
            found.extend(slice::pods(slice_name, written).map(Source::Pod));
        }
    }
    for name in changed(&before.endpoint_slices, &now.endpoint_slices) {
        found.insert(Source::Slice(name.clone()));
        for written in [before, now].iter().filter_map(|o| o.endpoint_slices.get(name)) {
            found.extend(slice::pods(name, written).map(Source::Pod));
        }
    }
    for name in changed(&before.namespaces, &now.namespaces) {
        found.extend(in_namespace(&now.pods, &name.name).map(|(pod, _)| Source::Pod(pod.clone())));
        found.extend(in_namespace(&now.services, &name.name).map(|(name, _)| Source::Service(name.clone())));
    }
    let nodes: BTreeSet<&str> = changed(&before.nodes, &now.nodes)
        .map(|name| name.name.as_str())
        .collect();
    if !nodes.is_empty() {
        let on_one = |pod: &Pod| {
            pod.spec
                .as_ref()
                .and_then(|s| s.node_name.as_deref())
                .is_some_and(|n| nodes.contains(n))
        };
        found.extend(
            now.pods
                .iter()
                .filter(|(_, pod)| on_one(pod))
                .map(|(name, _)| Source::Pod(name.clone())),
        );
    }
    found
}

/// Names of what was added, replaced or removed.
fn changed<'a, T>(
    before: &'a BTreeMap<ObjectName, Arc<T>>,
    now: &'a BTreeMap<ObjectName, Arc<T>>,
) -> impl Iterator<Item = &'a ObjectName> {
    let differs = |name: &ObjectName, object: &Arc<T>| before.get(name).is_none_or(|old| !Arc::ptr_eq(old, object));
    let new = now
        .iter()
        .filter(move |(name, object)| differs(name, object))
        .map(|(name, _)| name);
    new.chain(before.keys().filter(|name| !now.contains_key(name)))
}

/// The part of `objects` that lies in one namespace.
pub(crate) fn in_namespace<'a, T>(
    objects: &'a BTreeMap<ObjectName, Arc<T>>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a ObjectName, &'a Arc<T>)> {
    objects
        .range(ObjectName::new(namespace, "")..)
        .take_while(move |(name, _)| name.namespace == namespace)
}
