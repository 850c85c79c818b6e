//! Ports inside pods of the mesh: three are the mesh's own, and the connections that it makes there need local ports.

use super::membership::Membership;
use crate::{
    cluster::names::PORTS_IN_PODS,
    line::Line,
    survey::{NodeReport, Survey, metric},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::collections::BTreeMap;

pub(super) fn judged(survey: &Survey, members: &BTreeMap<(String, String), Membership>) -> Vec<Line> {
    let mut lines = Vec::new();
    for pod in &survey.pods {
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        if matches!(members.get(&key), Some(Membership::In(_))) {
            lines.extend(wanted_by_application(pod, &format!("{}/{}", key.0, key.1)));
        }
    }
    for node in &survey.nodes {
        lines.extend(node.report.as_ref().and_then(|report| ran_out(&node.name, report)));
    }
    lines
}

/// An application that declares one of the mesh's ports, or ends because an address is in use.
fn wanted_by_application(pod: &Pod, place: &str) -> Option<Line> {
    let list = PORTS_IN_PODS.map(|port| port.to_string()).join(", ");
    let remedy = format!(
        "let the application use other ports than {list}, or keep the pod out of the mesh (culvert.dev/mesh: none)"
    );
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let declared = containers.flat_map(|one| {
        let ports = one.ports.iter().flatten();
        ports.map(move |port| (one.name.as_str(), port.container_port))
    });
    let is_taken = |port: i32| u16::try_from(port).is_ok_and(|port| PORTS_IN_PODS.contains(&port));
    if let Some((container, port)) = declared.into_iter().find(|(_, port)| is_taken(*port)) {
        let found = format!("container {container} declares port {port}, which the mesh takes inside each of its pods");
        return Some(Line::fail(place, "ports", found, remedy));
    }
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let ended = statuses.filter(|one| !one.ready).filter_map(|one| {
        let state = one.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let now = one.state.as_ref().and_then(|state| state.terminated.as_ref());
        let message = now.or(state)?.message.as_deref()?;
        let line = message.lines().rev().find(|line| is_in_use(line))?;
        Some(format!("container {} ends: {}", one.name, line.trim()))
    });
    let found = ended.into_iter().next()?;
    Some(Line::warn(place, "ports", found, remedy))
}

fn is_in_use(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("address already in use") || line.contains("address in use") || line.contains("eaddrinuse")
}

/// Connections of a proxy that failed for want of a local port.
fn ran_out(node: &str, report: &NodeReport) -> Option<Line> {
    let page = report.proxy_metrics.as_ref().ok()?;
    let count: f64 = metric(&page.body, PORTS_EXHAUSTED).iter().map(|(_, count)| count).sum();
    (count > 0.0).then(|| {
        let found = format!(
            "{count} connections failed since the proxy began because no local port was free for them inside a pod"
        );
        let remedy = "widen net.ipv4.ip_local_port_range of the pod that the proxy's access log names, or spread its load over more pods";
        Line::warn(node, "local ports", found, remedy)
    })
}

/// Counts them.
const PORTS_EXHAUSTED: &str = "culvert_ztunnel_local_ports_exhausted_total";

#[cfg(test)]
mod tests {
    use super::judged;
    use crate::{
        cluster::{Page, Unanswered},
        installed::Membership,
        line::Level,
        survey::{NodeFacts, NodeReport, Survey},
    };
    use serde_json::{Value, from_value, json};

    fn survey(spec: &Value, status: &Value) -> Survey {
        let pod = json!({ "metadata": { "namespace": "shop", "name": "p" }, "spec": spec, "status": status });
        Survey {
            pods: vec![from_value(pod).unwrap()],
            ..Survey::default()
        }
    }

    fn lines(survey: &Survey) -> Vec<crate::line::Line> {
        judged(
            survey,
            &[(("shop".to_owned(), "p".to_owned()), Membership::In(None))].into(),
        )
    }

    #[test]
    fn an_application_that_wants_a_port_of_the_mesh_is_named() {
        let declared = json!({ "containers": [{ "name": "app", "ports": [{ "containerPort": 15006 }] }] });
        let found = lines(&survey(&declared, &json!({})));
        assert_eq!(found[0].level, Level::Fail);
        assert!(found[0].found.contains("15006"), "{}", found[0].found);
        let message = "starting\nOSError: [Errno 98] Address already in use\n";
        let status = json!({ "containerStatuses": [{ "name": "app", "ready": false, "restartCount": 4, "image": "", "imageID": "",
            "lastState": { "terminated": { "exitCode": 1, "message": message } } }] });
        let found = lines(&survey(&json!({ "containers": [] }), &status));
        assert_eq!(found[0].level, Level::Warn);
        assert!(found[0].found.contains("Errno 98"), "{}", found[0].found);
        let ordinary = json!({ "containers": [{ "name": "app", "ports": [{ "containerPort": 8080 }] }] });
        assert!(lines(&survey(&ordinary, &json!({}))).is_empty());
    }

    #[test]
    fn a_range_of_local_ports_that_ran_out_is_named_with_its_node() {
        let report = NodeReport {
            proxy_metrics: Ok(Page {
                status: 200,
                body: "culvert_ztunnel_local_ports_exhausted_total 7\n".to_owned(),
            }),
            ..NodeReport::unanswered(&Unanswered("silent".to_owned()))
        };
        let survey = Survey {
            nodes: vec![NodeFacts {
                name: "n1".to_owned(),
                report: Some(report),
                ..NodeFacts::default()
            }],
            ..Survey::default()
        };
        let found = judged(&survey, &[].into());
        assert_eq!((found[0].level, found[0].place.as_str()), (Level::Warn, "n1"));
    }
}
