//! EndpointSlices that lead to a pod of the mesh without naming it. Whoever has the address decides how it is reached, so such
//! traffic goes through the tunnel like any other; a proxy that holds the address for one outside the mesh sends in plaintext.

use super::membership::Membership;
use crate::{
    line::Line,
    survey::{HandMade, Survey},
};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn judged(survey: &Survey, members: &BTreeMap<(String, String), Membership>) -> Vec<Line> {
    let in_mesh = |one: &&HandMade| matches!(members.get(&one.pod), Some(Membership::In(_)));
    survey
        .hand_made
        .iter()
        .filter(in_mesh)
        .map(|one| judged_one(one, survey))
        .collect()
}

fn judged_one(one: &HandMade, survey: &Survey) -> Line {
    let what = format!(
        "EndpointSlice {}/{} of Service {} leads to pod {}/{} by its address, without naming it",
        one.namespace, one.slice, one.service, one.pod.0, one.pod.1
    );
    let mistaken: Vec<&str> = survey
        .nodes
        .iter()
        .filter(|node| {
            let page = node.report.as_ref().and_then(|report| report.workloads.as_ref());
            page.is_some_and(|page| is_plaintext(page, &one.address))
        })
        .map(|node| node.name.as_str())
        .collect();
    if mistaken.is_empty() {
        let found = format!("{what}; it is reached as that pod, through the tunnel");
        return Line::ok("cluster", "endpoints by hand", found);
    }
    let found = format!("{what}; proxies of {} reach it in plaintext", mistaken.join(", "));
    let remedy = "give the endpoint a targetRef with kind Pod, or let the Service select its pods";
    Line::fail("cluster", "endpoints by hand", found, remedy)
}

/// Whether a proxy has a workload with this address that takes no tunnel.
fn is_plaintext(page: &Value, address: &str) -> bool {
    let workloads = page["workloads"].as_array().or(page.as_array());
    workloads.into_iter().flatten().any(|workload| {
        let mut addresses = workload["addresses"].as_array().into_iter().flatten();
        workload["protocol"] == "TCP" && addresses.any(|one| one == address)
    })
}

#[cfg(test)]
mod tests {
    use super::judged;
    use crate::{
        cluster::Unanswered,
        installed::Membership,
        line::Level,
        survey::{HandMade, NodeFacts, NodeReport, Survey},
    };
    use serde_json::{Value, json};

    fn survey(workloads: Value) -> Survey {
        let report = NodeReport {
            workloads: Some(workloads),
            ..NodeReport::unanswered(&Unanswered("silent".to_owned()))
        };
        Survey {
            nodes: vec![NodeFacts {
                name: "n1".to_owned(),
                report: Some(report),
                ..NodeFacts::default()
            }],
            hand_made: vec![HandMade {
                namespace: "shop".to_owned(),
                slice: "db-man-hand".to_owned(),
                service: "db-man".to_owned(),
                address: "198.19.1.2".to_owned(),
                pod: ("shop".to_owned(), "db".to_owned()),
            }],
            ..Survey::default()
        }
    }

    #[test]
    fn what_goes_in_plaintext_to_a_pod_of_the_mesh_is_named_with_the_node() {
        let members = [(("shop".to_owned(), "db".to_owned()), Membership::In(None))].into();
        let page = |protocol: &str| json!({ "workloads": [{ "name": "db-man-hand", "addresses": ["198.19.1.2"], "protocol": protocol }] });
        let wrong = judged(&survey(page("TCP")), &members);
        assert_eq!(wrong[0].level, Level::Fail);
        assert!(
            wrong[0].found.contains("n1") && wrong[0].found.contains("shop/db"),
            "{}",
            wrong[0].found
        );
        assert_eq!(judged(&survey(page("HBONE")), &members)[0].level, Level::Ok);
        assert!(
            judged(&survey(page("TCP")), &[].into()).is_empty(),
            "no pod of the mesh: none of our business"
        );
    }
}
