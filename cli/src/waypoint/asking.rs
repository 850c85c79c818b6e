//! Who asks for a waypoint by label.

use crate::{
    cluster::{Cluster, Failure, list},
    print::Section,
};
use culvert_objects::{Asked, AskedCanary, USE_WAYPOINT, USE_WAYPOINT_CANARY, waypoint, waypoint_canary};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::{Api, Resource, ResourceExt as _, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Debug};

/// The label by which `culvert waypoint apply --enroll-namespace` asks.
pub(super) const LABEL: &str = culvert_objects::USE_WAYPOINT[0];

/// An object whose label asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Label {
    kind: &'static str,
    object: String,
    what_for: &'static str,
}

impl Label {
    pub(super) fn json(&self) -> Value {
        json!({ "kind": self.kind, "object": self.object, "as": self.what_for })
    }
}

/// Every namespace, Service and pod that asks for this waypoint.
pub(super) async fn all(cluster: &Cluster, namespace: &str, name: &str) -> Result<Vec<Label>, Failure> {
    let mut found = Vec::new();
    let wanted = (namespace, name);
    of_kind::<Namespace>(&cluster.all(), "namespace", wanted, &mut found).await?;
    of_kind::<Service>(&cluster.all(), "service", wanted, &mut found).await?;
    of_kind::<Pod>(&cluster.all(), "pod", wanted, &mut found).await?;
    Ok(found)
}

async fn of_kind<K>(
    api: &Api<K>,
    kind: &'static str,
    wanted: (&str, &str),
    found: &mut Vec<Label>,
) -> Result<(), Failure>
where
    K: Clone + Debug + DeserializeOwned + Resource,
{
    for label in USE_WAYPOINT.into_iter().chain(USE_WAYPOINT_CANARY) {
        let labelled = ListParams::default().labels(&format!("{label}={}", wanted.1));
        for object in list(api, &labelled, &format!("listing who has the label {label}")).await? {
            // A namespace is named by itself.
            let home = object.namespace().unwrap_or_else(|| object.name_any());
            let Some(what_for) = asks(object.labels(), &home, wanted) else {
                continue;
            };
            let name = match object.namespace() {
                Some(namespace) => format!("{namespace}/{}", object.name_any()),
                None => object.name_any(),
            };
            let one = Label {
                kind,
                object: name,
                what_for,
            };
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    Ok(())
}

/// As what labels ask for the waypoint of this namespace and name, if they do.
fn asks(labels: &BTreeMap<String, String>, home: &str, wanted: (&str, &str)) -> Option<&'static str> {
    let label = |key: &str| labels.get(key).map(String::as_str);
    let is_wanted = |name: &str, namespace: Option<&str>| (namespace.unwrap_or(home), name) == wanted;
    match (waypoint(label), waypoint_canary(label, |_| None)) {
        (Asked::Waypoint { name, namespace, .. }, _) if is_wanted(name, namespace) => Some("waypoint"),
        (_, AskedCanary::Waypoint { name, namespace, .. }) if is_wanted(name, namespace) => Some("canary"),
        _ => None,
    }
}

/// For people.
pub(super) fn section(labels: &[Label]) -> Section {
    Section {
        title: "asked for by",
        header: &["KIND", "OBJECT", "AS"],
        rows: labels
            .iter()
            .map(|label| vec![label.kind.to_owned(), label.object.clone(), label.what_for.to_owned()])
            .collect(),
        when_empty: format!("nobody asks for it: label a namespace, a Service or a pod with {LABEL}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::asks;
    use std::collections::BTreeMap;

    #[test]
    fn the_namespace_of_a_waypoint_is_that_of_who_asks_unless_it_is_named() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let here = labels(&[("istio.io/use-waypoint", "wp")]);
        assert_eq!(asks(&here, "shop", ("shop", "wp")), Some("waypoint"));
        assert_eq!(asks(&here, "bank", ("shop", "wp")), None);
        let there = labels(&[
            ("culvert.dev/use-waypoint", "wp"),
            ("istio.io/use-waypoint-namespace", "infra"),
        ]);
        assert_eq!(asks(&there, "shop", ("infra", "wp")), Some("waypoint"));
        assert_eq!(asks(&there, "shop", ("shop", "wp")), None);
        let ours_wins = labels(&[("culvert.dev/use-waypoint", "none"), ("istio.io/use-waypoint", "wp")]);
        assert_eq!(asks(&ours_wins, "shop", ("shop", "wp")), None);
        let canary = labels(&[
            ("istio.io/use-waypoint", "wp"),
            ("culvert.dev/use-waypoint-canary", "wp2"),
        ]);
        assert_eq!(asks(&canary, "shop", ("shop", "wp2")), Some("canary"));
    }
}
