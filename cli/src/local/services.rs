//! Services as people see them: where their ports lead, as the endpoints say, and which endpoints take no new connections.

use super::cells::{SERVICE_HEADER, cells, items, text};
use crate::filter::Filter;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A row for each service that is to be shown. `workloads` is the same proxy's page of workloads.
pub(crate) fn rows(services: &Value, workloads: &Value, filter: &Filter) -> Vec<Vec<String>> {
    let workloads = Endpoints::of(workloads);
    let shown = items(services, "services")
        .into_iter()
        .filter(|item| filter.shows(item));
    shown.map(|service| row(service, &workloads)).collect()
}

/// What a proxy knows of workloads, by uid.
#[derive(Default)]
struct Endpoints<'a> {
    workloads: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Endpoints<'a> {
    fn of(page: &'a Value) -> Self {
        let workloads = items(page, "workloads").into_iter();
        Self {
            workloads: workloads.filter_map(|one| Some((one["uid"].as_str()?, one))).collect(),
        }
    }
}

fn row(service: &Value, known: &Endpoints<'_>) -> Vec<String> {
    let endpoints: Vec<&str> = service["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let name = format!(
        "{}/{}",
        service["namespace"].as_str().unwrap_or_default(),
        service["hostname"].as_str().unwrap_or_default()
    );
    let mut row = cells(service, SERVICE_HEADER);
    row[3] = ports(service, &name, &endpoints, known);
    row[4] = match endpoints.as_slice() {
        [] => "-".to_owned(),
        some => some
            .iter()
            .map(|uid| endpoint(uid, known))
            .collect::<Vec<_>>()
            .join(", "),
    };
    row
}

/// `80->9000/HTTP`. Endpoints know best where a port leads: by name it may be another one in each.
fn ports(service: &Value, name: &str, endpoints: &[&str], known: &Endpoints<'_>) -> String {
    let mut targets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for uid in endpoints {
        let workload = known.workloads.get(uid);
        let pairs = workload.and_then(|workload| workload["services"][name].as_array());
        for (port, target) in pairs.into_iter().flatten().filter_map(Value::as_str).filter_map(pair) {
            targets.entry(port.to_owned()).or_default().insert(target.to_owned());
        }
    }
    let shown = service["ports"].as_array().into_iter().flatten().map(|port| {
        let told = text(port);
        let Some((number, rest)) = pair(&told) else { return told };
        let (target, protocol) = rest.split_once('/').unwrap_or((rest, ""));
        let target = match targets.get(number) {
            Some(known) => known.iter().cloned().collect::<Vec<_>>().join("|"),
            None => target.to_owned(),
        };
        // The name of an application's protocol, if somebody gave it; that nobody did says nothing.
        match protocol {
            "" | "UNKNOWN" => format!("{number}->{target}"),
            protocol => format!("{number}->{target}/{protocol}"),
        }
    });
    match shown.collect::<Vec<_>>() {
        none if none.is_empty() => "-".to_owned(),
        some => some.join(", "),
    }
}

fn pair(text: &str) -> Option<(&str, &str)> {
    text.split_once("->")
}

fn endpoint(uid: &str, known: &Endpoints<'_>) -> String {
    let status = known
        .workloads
        .get(uid)
        .and_then(|workload| workload["status"].as_str());
    match status {
        None | Some("healthy") => uid.to_owned(),
        Some(status) => format!("{uid} ({})", status.to_uppercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, rows};
    use serde_json::json;

    #[test]
    fn ports_lead_where_the_endpoints_say_and_those_that_are_not_well_are_marked() {
        let services = json!({ "services": [{
            "name": "db-man", "namespace": "shop", "hostname": "db-man.shop.svc.cluster.local", "addresses": ["/198.18.64.9"],
            "ports": ["80->80/UNKNOWN", "81->8081/HTTP"], "endpoints": ["a", "b"],
        }] });
        let serves = json!({ "shop/db-man.shop.svc.cluster.local": ["80->9000"] });
        let workloads = json!({ "workloads": [
            { "uid": "a", "status": "healthy", "services": serves },
            { "uid": "b", "status": "unhealthy", "services": serves },
        ] });
        let rows = rows(&services, &workloads, &Filter::default());
        assert_eq!(rows[0][3], "80->9000, 81->8081/HTTP");
        assert_eq!(rows[0][4], "a, b (UNHEALTHY)");
        let elsewhere = Filter {
            namespace: Some("plain".to_owned()),
            node: None,
        };
        assert!(super::rows(&services, &workloads, &elsewhere).is_empty());
    }
}
