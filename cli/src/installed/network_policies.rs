//! NetworkPolicies that keep the tunnel out: between pods of the mesh all TCP goes to port 15008, and a policy that admits an
//! application's ports alone cuts its pods off. Whether the cluster's network enforces policies at all is not known here.

use super::membership::Membership;
use crate::{cluster::names::TUNNEL, line::Line, survey::Survey};
use k8s_openapi::{
    api::{
        core::v1::Pod,
        networking::v1::{NetworkPolicy, NetworkPolicyPort},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::ResourceExt;
use std::collections::BTreeMap;

/// A direction of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Ingress,
    Egress,
}

pub(super) fn judged(survey: &Survey, members: &BTreeMap<(String, String), Membership>) -> Vec<Line> {
    let Some(policies) = &survey.network_policies else {
        return vec![Line::ok(
            "cluster",
            "network policies",
            "not looked at: they may not be listed",
        )];
    };
    // By the policies that together select a pod and do not admit the tunnel: one line for each such set.
    let mut blocked: BTreeMap<(Direction, Vec<String>), Vec<String>> = BTreeMap::new();
    for pod in &survey.pods {
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        if !matches!(members.get(&key), Some(Membership::In(_) | Membership::Waiting(_))) {
            continue;
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            let selecting: Vec<&NetworkPolicy> = policies
                .iter()
                .filter(|policy| selects(policy, pod, &key.0) && has_direction(policy, direction))
                .collect();
            if !selecting.is_empty() && !selecting.iter().any(|policy| admits(policy, direction, pod)) {
                let names = selecting
                    .iter()
                    .map(|policy| format!("{}/{}", key.0, policy.name_any()));
                blocked
                    .entry((direction, names.collect()))
                    .or_default()
                    .push(format!("{}/{}", key.0, key.1));
            }
        }
    }
    if blocked.is_empty() {
        let found = "none keeps the tunnel (port 15008) from pods of the mesh";
        return vec![Line::ok("cluster", "network policies", found)];
    }
    let line = |((direction, policies), pods): ((Direction, Vec<String>), Vec<String>)| {
        let (what, rule) = match direction {
            Direction::Ingress => ("no pod of the mesh can reach", "ingress"),
            Direction::Egress => ("no pod of the mesh can be reached from", "egress"),
        };
        let found = format!(
            "{} do not admit TCP port {TUNNEL}: through the tunnel {what} {} pods, the first is {}",
            policies.join(", "),
            pods.len(),
            pods[0]
        );
        let remedy = format!(
            "add port {TUNNEL} to the ports of its {rule} rules: the tunnel comes from, and goes to, the same pods as before"
        );
        Line::fail("cluster", "network policies", found, remedy)
    };
    blocked.into_iter().map(line).collect()
}

fn selects(policy: &NetworkPolicy, pod: &Pod, namespace: &str) -> bool {
    let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    policy.namespace().as_deref() == Some(namespace) && selector.is_none_or(|selector| matches(selector, pod.labels()))
}

fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let pairs = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    pairs.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|one| {
            let value = labels.get(&one.key);
            let values = one.values.as_deref().unwrap_or_default();
            match one.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}

/// Absent types: ingress always, egress where there is a rule for it.
fn has_direction(policy: &NetworkPolicy, direction: Direction) -> bool {
    let Some(spec) = &policy.spec else {
        return direction == Direction::Ingress;
    };
    match (&spec.policy_types, direction) {
        (Some(types), Direction::Ingress) => types.iter().any(|one| one == "Ingress"),
        (Some(types), Direction::Egress) => types.iter().any(|one| one == "Egress"),
        (None, Direction::Ingress) => true,
        (None, Direction::Egress) => spec.egress.is_some(),
    }
}

/// Whether some rule lets the tunnel's port through, to or from whomever.
fn admits(policy: &NetworkPolicy, direction: Direction, pod: &Pod) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let admits = |ports: &Option<Vec<NetworkPolicyPort>>| {
        let ports = ports.as_deref().unwrap_or_default();
        ports.is_empty() || ports.iter().any(|port| is_tunnel(port, pod))
    };
    match direction {
        Direction::Ingress => spec.ingress.iter().flatten().any(|rule| admits(&rule.ports)),
        Direction::Egress => spec.egress.iter().flatten().any(|rule| admits(&rule.ports)),
    }
}

fn is_tunnel(port: &NetworkPolicyPort, pod: &Pod) -> bool {
    if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return false;
    }
    let tunnel = i32::from(TUNNEL);
    match &port.port {
        None => true,
        Some(IntOrString::Int(first)) => (*first..=port.end_port.unwrap_or(*first)).contains(&tunnel),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|one| one.ports.iter().flatten());
            ports.any(|one| one.name.as_ref() == Some(name) && one.container_port == tunnel)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::judged;
    use crate::{installed::Membership, line::Level, survey::Survey};
    use serde_json::{Value, from_value, json};

    fn lines(spec: &Value) -> Vec<(Level, String)> {
        let pod = json!({ "metadata": { "namespace": "shop", "name": "db-0", "labels": { "app": "db" } },
            "spec": { "containers": [{ "name": "db", "ports": [{ "name": "sql", "containerPort": 5432 }] }] } });
        let policy = json!({ "metadata": { "namespace": "shop", "name": "only-sql" }, "spec": spec });
        let survey = Survey {
            pods: vec![from_value(pod).unwrap()],
            network_policies: Some(vec![from_value(policy).unwrap()]),
            ..Survey::default()
        };
        let members = [(("shop".to_owned(), "db-0".to_owned()), Membership::In(None))].into();
        let lines = judged(&survey, &members);
        lines.into_iter().map(|line| (line.level, line.found)).collect()
    }

    #[test]
    fn a_policy_that_admits_the_applications_port_alone_cuts_its_pods_off() {
        let selector = json!({ "matchLabels": { "app": "db" } });
        for port in [json!(5432), json!("sql")] {
            let ingress = json!([{ "from": [{ "podSelector": {} }], "ports": [{ "port": port, "protocol": "TCP" }] }]);
            let found = lines(&json!({ "podSelector": selector, "ingress": ingress }));
            assert_eq!(found[0].0, Level::Fail);
            assert!(
                found[0].1.contains("shop/only-sql") && found[0].1.contains("15008"),
                "{found:?}"
            );
        }
        let denied = lines(&json!({ "podSelector": {}, "policyTypes": ["Egress"] }));
        assert_eq!(denied[0].0, Level::Fail);
    }

    #[test]
    fn a_policy_that_lets_the_tunnel_through_is_well() {
        let with = |ports: Value| json!({ "podSelector": {}, "ingress": [{ "ports": ports }] });
        for ports in [
            json!([]),
            json!([{ "port": 15008 }]),
            json!([{ "port": 15000, "endPort": 15100 }]),
            json!([{}]),
        ] {
            assert_eq!(lines(&with(ports))[0].0, Level::Ok);
        }
        assert_eq!(
            lines(&with(json!([{ "port": 15008, "protocol": "UDP" }])))[0].0,
            Level::Fail
        );
        let others =
            json!({ "podSelector": { "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": ["db"] }] } });
        assert_eq!(lines(&others)[0].0, Level::Ok);
    }
}
