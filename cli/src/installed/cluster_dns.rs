//! Cluster DNS that is in the mesh: its pods wait for their node's proxy, and a proxy finds the controller by its name.

use super::membership::Membership;
use crate::{line::Line, pod::is_ready, survey::Survey};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::collections::BTreeMap;

/// Labels of the pods that answer a cluster's DNS, as installers set them.
const LABELS: [(&str, &str); 5] = [
    ("k8s-app", "kube-dns"),
    ("k8s-app", "coredns"),
    ("k8s-app", "node-local-dns"),
    ("app.kubernetes.io/name", "coredns"),
    ("dns.operator.openshift.io/daemonset-dns", "default"),
];

pub(super) fn judged(survey: &Survey, members: &BTreeMap<(String, String), Membership>) -> Option<Line> {
    let in_mesh: Vec<&Pod> = survey
        .pods
        .iter()
        .filter(|pod| {
            LABELS
                .iter()
                .any(|(key, value)| pod.labels().get(*key).is_some_and(|one| one == value))
        })
        .filter(|pod| {
            let key = (pod.namespace().unwrap_or_default(), pod.name_any());
            let stands = members.get(&key);
            stands.is_some_and(|stands| !matches!(stands, Membership::Out | Membership::Unlabelled))
        })
        .collect();
    let first = in_mesh.first()?;
    let namespace = first.namespace().unwrap_or_default();
    let ready = in_mesh.iter().filter(|pod| is_ready(pod)).count();
    let what = format!(
        "{} pods of {namespace} are in the mesh, {ready} of them ready",
        in_mesh.len()
    );
    let waiting = waiting_proxies(survey);
    if ready > 0 {
        return Some(Line::ok("cluster", "cluster DNS", what));
    }
    let found = match waiting.len() {
        0 => format!("{what}: nothing in the cluster finds a name"),
        count => format!(
            "{what}, and {count} proxies are without a controller, whose name they have to find: they wait for each other"
        ),
    };
    let remedy = format!(
        "take it out of the mesh: kubectl -n {namespace} label pods {} culvert.dev/mesh=none, and label its template likewise",
        first
            .labels()
            .iter()
            .find(|(key, _)| LABELS.iter().any(|(one, _)| one == key))
            .map_or_else(String::new, |(key, value)| format!("-l {key}={value}"))
    );
    Some(Line::fail("cluster", "cluster DNS", found, remedy))
}

/// Nodes whose proxy is not ready.
fn waiting_proxies(survey: &Survey) -> Vec<&str> {
    let is_waiting = |node: &&crate::survey::NodeFacts| {
        let report = node.report.as_ref();
        report.is_some_and(|report| report.proxy_ready.as_ref().is_ok_and(|page| page.status != 200))
    };
    survey
        .nodes
        .iter()
        .filter(is_waiting)
        .map(|node| node.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::judged;
    use crate::{
        cluster::{Page, Unanswered},
        installed::Membership,
        line::Level,
        survey::{NodeFacts, NodeReport, Survey},
    };
    use serde_json::{from_value, json};

    fn survey(is_ready: &str, status: u16) -> Survey {
        let pod = json!({ "metadata": { "namespace": "kube-system", "name": "coredns-1", "labels": { "k8s-app": "kube-dns" } },
            "spec": { "containers": [] }, "status": { "conditions": [{ "type": "Ready", "status": is_ready }] } });
        let report = NodeReport {
            proxy_ready: Ok(Page {
                status,
                body: "missing:\nconfiguration from the controller\n".to_owned(),
            }),
            ..NodeReport::unanswered(&Unanswered("silent".to_owned()))
        };
        Survey {
            pods: vec![from_value(pod).unwrap()],
            nodes: vec![NodeFacts {
                name: "n1".to_owned(),
                report: Some(report),
                ..NodeFacts::default()
            }],
            ..Survey::default()
        }
    }

    #[test]
    fn dns_and_proxies_that_wait_for_each_other_are_named_together() {
        let key = || ("kube-system".to_owned(), "coredns-1".to_owned());
        let waiting = [(key(), Membership::Waiting("waits for the node's proxy".to_owned()))].into();
        let line = judged(&survey("False", 503), &waiting).unwrap();
        assert_eq!(line.level, Level::Fail);
        assert!(line.found.contains("wait for each other"), "{}", line.found);
        assert!(line.remedy.unwrap().contains("culvert.dev/mesh=none"));
        let is_in = [(key(), Membership::In(None))].into();
        assert_eq!(judged(&survey("True", 200), &is_in).unwrap().level, Level::Ok);
        assert!(judged(&survey("False", 503), &[(key(), Membership::Unlabelled)].into()).is_none());
    }
}
