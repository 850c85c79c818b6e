//! Which nodes a DaemonSet means: its node selector and its required node affinity, as the scheduler reads them.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{NodeSelectorRequirement, PodSpec},
};
use std::collections::BTreeMap;

/// The label with a node's architecture.
pub(crate) const ARCHITECTURE: &str = "kubernetes.io/arch";

/// Whether a node with these labels is to have a pod of it.
pub(crate) fn selects(daemon_set: &DaemonSet, labels: &BTreeMap<String, String>) -> bool {
    let Some(spec) = pod_spec(daemon_set) else { return true };
    let selector = spec.node_selector.iter().flatten();
    if !selector.into_iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let terms = terms(spec);
    terms.is_empty() || terms.iter().any(|term| term.iter().all(|one| is_met(one, labels)))
}

/// The architectures that its affinity names; none named: any.
pub(crate) fn architectures(daemon_set: &DaemonSet) -> Vec<String> {
    let terms = pod_spec(daemon_set).map(terms).unwrap_or_default();
    let named = terms
        .into_iter()
        .flatten()
        .filter(|one| one.key == ARCHITECTURE && one.operator == "In");
    named.flat_map(|one| one.values.clone().unwrap_or_default()).collect()
}

fn pod_spec(daemon_set: &DaemonSet) -> Option<&PodSpec> {
    daemon_set.spec.as_ref()?.template.spec.as_ref()
}

fn terms(spec: &PodSpec) -> Vec<Vec<&NodeSelectorRequirement>> {
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required.into_iter().flat_map(|required| &required.node_selector_terms);
    terms
        .map(|term| term.match_expressions.iter().flatten().collect())
        .collect()
}

fn is_met(one: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&one.key);
    let values = one.values.as_deref().unwrap_or_default();
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    match one.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value) > number(values.first()),
        "Lt" => number(value).is_some() && number(value) < number(values.first()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{architectures, selects};
    use k8s_openapi::api::apps::v1::DaemonSet;
    use serde_json::{from_value, json};
    use std::collections::BTreeMap;

    fn daemon_set() -> DaemonSet {
        let arch = json!({ "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"] });
        from_value(
            json!({ "metadata": {}, "spec": { "selector": {}, "template": { "spec": {
            "containers": [], "nodeSelector": { "kubernetes.io/os": "linux" },
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [arch] }] } } } } } } }),
        )
        .unwrap()
    }

    #[test]
    fn a_node_of_another_architecture_or_system_is_not_meant() {
        let labels = |os: &str, arch: &str| {
            let pairs = [("kubernetes.io/os", os), ("kubernetes.io/arch", arch)];
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
        };
        let selected = |labels: BTreeMap<String, String>| selects(&daemon_set(), &labels);
        assert!(selected(labels("linux", "arm64")));
        assert!(!selected(labels("linux", "riscv64")));
        assert!(!selected(labels("windows", "amd64")));
        assert_eq!(architectures(&daemon_set()), ["amd64", "arm64"]);
    }
}
