//! Objects that an API server tells of, kind by kind: what holds between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::check as rules;
use crate::finding::Finding;
use crate::merge;
use crate::objects::{Object, ObjectName, Objects};

/// Checks one object by itself, as [`Directory`](crate::Directory) does with every document.
///
/// # Errors
/// What is wrong with it. Such an object must be left out: its names or addresses could be read as something else.
pub fn check(object: &Object) -> Result<(), Finding> {
    rules::object(object).map_err(|problem| {
        let message = format!("{} (the object is left out)", problem.message);
        Finding::of_object(object, problem.field.as_deref().unwrap_or_default(), message)
    })
}

/// Takes out of `objects` what cannot be in force beside the others, and tells what is wrong.
///
/// An object whose namespace is not there is left out without a word: kinds are watched apart, so that a pod may be
/// heard of before its namespace, and until then nobody knows whether it is enrolled.
///
/// An address belongs to one Service or pod. A Service's counts before a pod's, and an older Service's before a newer
/// one's, since the API server gives out each once. Pods' addresses are used again: the pod that is not being deleted
/// counts, then the one that started last. A pod that has ended holds none.
pub fn assemble(objects: &mut Objects) -> Vec<Finding> {
    without_homeless(objects);
    let mut findings = Vec::new();
    let mut owners: HashMap<IpAddr, String> = HashMap::new();
    let services = in_order(&objects.services, |service| {
        age(service.metadata.creation_timestamp.as_ref())
    });
    for (name, service) in services {
        let addresses = merge::service_addresses(&service);
        let object = Object::Service(service);
        if let Some(finding) = claim(&mut owners, &object, addresses, "spec.clusterIPs") {
            findings.push(finding);
            objects.services.remove(&name);
        }
    }
    for (name, pod) in in_order(&objects.pods, seniority) {
        let addresses = merge::claimed_by_pod(&pod);
        if let Some(finding) = claim(&mut owners, &Object::Pod(pod), addresses, "status.podIPs") {
            findings.push(finding);
            objects.pods.remove(&name);
        }
    }
    let namespaces = objects.namespaces.values().cloned().map(Object::Namespace);
    let pods = objects.pods.values().cloned().map(Object::Pod);
    for object in namespaces.chain(pods) {
        let found = merge::complaint(&object, objects).into_iter();
        findings.extend(found.map(|(field, message)| Finding::of_object(&object, &field, message)));
    }
    findings.sort();
    findings
}

fn without_homeless(objects: &mut Objects) {
    let Objects {
        namespaces,
        pods,
        services,
        service_accounts,
        endpoint_slices,
        config_maps,
        nodes: _,
    } = objects;
    let housed = |name: &ObjectName| namespaces.contains_key(&ObjectName::cluster(name.namespace.as_str()));
    pods.retain(|name, _| housed(name));
    services.retain(|name, _| housed(name));
    service_accounts.retain(|name, _| housed(name));
    endpoint_slices.retain(|name, _| housed(name));
    config_maps.retain(|name, _| housed(name));
}

/// Pods and services with an address, the one that counts first. Names decide between equals, so that the outcome does
/// not depend on the order in which objects were heard of.
fn in_order<T, K: Ord>(all: &BTreeMap<ObjectName, Arc<T>>, key: impl Fn(&T) -> K) -> Vec<(ObjectName, Arc<T>)> {
    let mut found: Vec<_> = all.iter().map(|(name, o)| (name.clone(), Arc::clone(o))).collect();
    found.sort_by_cached_key(|(_, object)| key(object));
    found
}

fn age(time: Option<&Time>) -> Option<Time> {
    time.cloned()
}

fn seniority(pod: &Pod) -> (bool, Reverse<Option<Time>>) {
    let started = pod.status.as_ref().and_then(|status| status.start_time.clone());
    let since = started.or_else(|| pod.metadata.creation_timestamp.clone());
    (pod.metadata.deletion_timestamp.is_some(), Reverse(since))
}

fn claim(
    owners: &mut HashMap<IpAddr, String>,
    object: &Object,
    addresses: Vec<IpAddr>,
    field: &str,
) -> Option<Finding> {
    let taken = addresses.iter().find_map(|a| owners.get(a).map(|owner| (a, owner)));
    if let Some((address, owner)) = taken {
        let message = format!("{address} already belongs to {owner}: this object is left out");
        return Some(Finding::of_object(object, field, message));
    }
    for address in addresses {
        owners.insert(address, object.title());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(yaml: &str) -> Objects {
        let mut objects = Objects::default();
        let parsed = crate::parse(yaml, false);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        for document in parsed.documents {
            objects.insert(document.object.name(), document.object);
        }
        objects
    }

    fn pod(name: &str, more: &str, status: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop{more}}}\nstatus: {{{status}}}\n"
        )
    }

    const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\n\
        kind: ServiceAccount\nmetadata: {name: default, namespace: shop}\n";

    fn kept(yaml: &str) -> (Vec<String>, usize) {
        let mut all = objects(&(SHOP.to_owned() + yaml));
        let findings = assemble(&mut all);
        (all.pods.keys().map(|name| name.name.clone()).collect(), findings.len())
    }

    #[test]
    fn an_address_goes_to_the_pod_that_started_last_and_is_not_leaving() {
        let early = "podIP: 198.18.0.9, startTime: '2026-01-01T00:00:00Z'";
        let late = "podIP: 198.18.0.9, startTime: '2026-01-01T00:00:09Z'";
        let two = pod("a", "", early) + &pod("b", "", late);
        assert_eq!(kept(&two), (vec!["b".to_owned()], 1));
        let leaving = pod("a", "", early) + &pod("b", ", deletionTimestamp: '2026-01-01T00:00:10Z'", late);
        assert_eq!(kept(&leaving), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn a_pod_that_has_ended_holds_no_address() {
        for phase in ["Succeeded", "Failed"] {
            let ended = format!("phase: {phase}, podIP: 198.18.0.9, startTime: '2026-01-01T00:00:09Z'");
            let running = "phase: Running, podIP: 198.18.0.9, startTime: '2026-01-01T00:00:00Z'";
            let (names, findings) = kept(&(pod("ended", "", &ended) + &pod("runs", "", running)));
            assert_eq!((names, findings), (vec!["ended".to_owned(), "runs".to_owned()], 0));
        }
    }

    #[test]
    fn a_pod_without_its_namespace_waits_for_it() {
        let orphan = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: unheard}\n";
        assert_eq!(kept(orphan), (Vec::new(), 0));
    }

    #[test]
    fn a_service_keeps_its_address_before_a_pod_and_a_newer_service() {
        let service = |name: &str, year: u32| {
            format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop, creationTimestamp: \
                 '{year}-01-01T00:00:00Z'}}\nspec: {{clusterIP: 198.18.0.9}}\n"
            )
        };
        let yaml = SHOP.to_owned() + &pod("p", "", "podIP: 198.18.0.9") + &service("a", 2026) + &service("b", 2025);
        let mut all = objects(&yaml);
        assert_eq!(assemble(&mut all).len(), 2);
        assert!(all.pods.is_empty());
        assert_eq!(all.services.keys().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn unknown_labels_and_missing_accounts_are_reported_by_object() {
        let mut all = objects(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {culvert.dev/mesh: on}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\n",
        );
        let texts: Vec<String> = assemble(&mut all).iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(
            texts[0].starts_with("Namespace shop: metadata.labels[culvert.dev/mesh]: "),
            "{texts:?}"
        );
        assert!(
            texts[1].starts_with("Pod shop/a: spec.serviceAccountName: "),
            "{texts:?}"
        );
    }
}
