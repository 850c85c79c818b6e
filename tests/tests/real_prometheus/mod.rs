//! Prometheus, as Debian packages it, scrapes all programs, and is asked whatever the shipped dashboards and alerts ask.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod alerts;
mod scraper;
mod shipped;
mod traffic;

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use culvert_lab::MeshOptions;
use culvert_tests::{
    Town, grpc, lab, probe,
    scene::{Scene, service},
    town::PORT,
    waypoint::Kind,
};
use serde_json::Value;

use scraper::{Prometheus, has_data};
use shipped::{alerts, queries, selectors};
use traffic::Traffic;

const DASHBOARDS: [&str; 5] = ["traffic", "nodes", "controller", "waypoints", "dns"];

fn everything_is_scraped(prometheus: &Prometheus<'_>) -> Result<(), String> {
    let targets = prometheus.ask("targets?state=active")?;
    let targets = targets["activeTargets"].as_array().ok_or("no targets")?;
    if targets.len() != 6 {
        return Err(format!("targets: {targets:?}"));
    }
    let bad = targets
        .iter()
        .find(|target| target["health"] != "up" || target["lastError"] != "");
    bad.map_or(Ok(()), |target| Err(target.to_string()))
}

/// Metrics that only a cluster has, or only what went wrong there: alerts may speak of them.
const OF_CLUSTERS: [&str; 3] = [
    "culvert_agent_standby",
    "culvert_controller_leader",
    "culvert_controller_stale_since_timestamp_seconds",
];

/// Whatever is asked for is a metric of some program: an expression that ends in `or vector(0)` would hide a wrong name.
fn every_metric_exists(prometheus: &Prometheus<'_>, expressions: &[(String, String)]) -> Result<(), String> {
    let known = prometheus.ask("targets/metadata?limit=100000")?;
    let known: BTreeSet<&str> = known
        .as_array()
        .ok_or("no metadata")?
        .iter()
        .filter_map(|one| one["metric"].as_str())
        .collect();
    for (title, expression) in expressions {
        for selector in selectors(expression) {
            let metric = selector.split('{').next().unwrap_or_default();
            let suffixes = ["_total", "_bucket", "_sum"];
            let name = suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix));
            let name = name.unwrap_or(metric);
            let is_known = known.contains(name) || known.contains(metric) || OF_CLUSTERS.contains(&metric);
            if !is_known {
                return Err(format!("{title}: nobody has {metric}"));
            }
        }
    }
    Ok(())
}

/// Every part of an alert finds a series, so that nothing but a value keeps it from being raised.
fn every_alert_finds_series(prometheus: &Prometheus<'_>) -> Result<(), String> {
    let mut without = Vec::new();
    for (alert, expression) in alerts() {
        let here = |selector: &String| !OF_CLUSTERS.iter().any(|metric| selector.starts_with(metric));
        for selector in selectors(&expression).into_iter().filter(here) {
            if has_data(prometheus, &format!("count({selector})")).is_err() {
                without.push(format!("{alert}: {selector}"));
            }
        }
    }
    match without.is_empty() {
        true => Ok(()),
        false => Err(format!("{without:?}")),
    }
}

/// What the traffic is the cause of, with labels of it.
const RAISED: [(&str, &str); 3] = [
    ("CulvertConnectionsFail", r#"source_workload="client""#),
    ("CulvertDnsResolversFail", r#"instance=~".+:15020""#),
    ("CulvertWaypointErrors", r#"destination_service_name="web""#),
];

fn firing(prometheus: &Prometheus<'_>, alert: &str, labels: &str) -> Result<(), String> {
    let expression = format!(r#"count(ALERTS{{alertname="{alert}",alertstate="firing",{labels}}})"#);
    has_data(prometheus, &expression)
}

fn nothing_else_fires_of_waypoints(prometheus: &Prometheus<'_>) -> Result<(), String> {
    let found = prometheus.query(r#"ALERTS{alertname=~"CulvertWaypoint.*",alertname!="CulvertWaypointErrors"}"#)?;
    match found.is_empty() {
        true => Ok(()),
        false => Err(format!("{found:?}")),
    }
}

fn every_rule_is_evaluated(prometheus: &Prometheus<'_>) -> Result<(), String> {
    let answer = prometheus.ask("rules")?;
    let groups = answer["groups"].as_array().ok_or("no groups")?;
    let rules: Vec<&Value> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    if rules.len() != alerts().len() {
        return Err(format!("rules: {rules:?}"));
    }
    let bad = rules.iter().find(|rule| rule["health"] != "ok");
    bad.map_or(Ok(()), |rule| Err(rule.to_string()))
}

#[test]
fn every_program_is_scraped_every_query_has_an_answer_and_alerts_fire_by_what_goes_wrong() {
    let lab = lab("real_prometheus");
    let options = MeshOptions {
        agent_args: vec!["--monitoring-listen=0.0.0.0:15022".to_owned()],
        ..MeshOptions::default()
    };
    let town = Town::with(&lab, options);
    let traffic = Traffic::new(&town);
    let waypoint = SocketAddr::from((traffic.waypoint.place.pod().ip4(), 15020));
    let mut prometheus = Prometheus::start(&lab, &[("waypoint", waypoint)]);
    traffic.while_doing(|| {
        prometheus.wait("every target is up", everything_is_scraped);
        let all: Vec<_> = DASHBOARDS.into_iter().flat_map(queries).collect();
        assert!(all.len() > 100, "{} queries", all.len());
        for (title, expression) in &all {
            prometheus.wait(title, |prometheus| has_data(prometheus, expression));
        }
        let asked = [all, alerts()].concat();
        prometheus.wait("metrics exist", |prometheus| every_metric_exists(prometheus, &asked));
        prometheus.wait("rules", every_rule_is_evaluated);
        prometheus.wait("series of alerts", every_alert_finds_series);
        for (alert, labels) in RAISED {
            prometheus.wait(alert, |prometheus| firing(prometheus, alert, labels));
        }
        prometheus.wait("waypoints without other alerts", nothing_else_fires_of_waypoints);
    });
    prometheus.wait("every target is up still", everything_is_scraped);
    // What the kinds of traffic look like.
    for (what, expression) in [
        (
            "allowed",
            r#"istio_tcp_connections_opened_total{source_workload="client",destination_workload="server",reporter="destination",connection_security_policy="mutual_tls"}"#,
        ),
        (
            "to a service",
            r#"istio_tcp_connections_opened_total{source_workload="client",destination_service_name="echo",reporter="source"}"#,
        ),
        (
            "denied at its destination",
            r#"istio_tcp_connections_failed_total{source_workload="neighbour",reporter="destination",response_flags="DENY"}"#,
        ),
        (
            "denied, as its source sees it",
            r#"istio_tcp_connections_failed_total{source_workload="neighbour",reporter="source",response_flags="DENY"}"#,
        ),
        (
            "failed",
            r#"istio_tcp_connections_failed_total{source_workload="client",reporter="source",response_flags="CONNECT"}"#,
        ),
        (
            "by policy",
            r#"culvert_ztunnel_policy_denials_total{policy="town/not-the-neighbour"}"#,
        ),
        (
            "plaintext",
            r#"istio_tcp_connections_opened_total{destination_workload="server",connection_security_policy="none",reporter="destination"}"#,
        ),
        (
            "held and met",
            r#"culvert_ztunnel_held_connections_total{outcome="met"}"#,
        ),
        ("tunnels", r#"culvert_ztunnel_tunnels{role="client"}"#),
        (
            "keys",
            r#"culvert_ztunnel_tunnels_opened_total{role="server",key_exchange="X25519MLKEM768"}"#,
        ),
        (
            "configuration",
            r#"culvert_ztunnel_xds_resources_total{type="address"}"#,
        ),
        (
            "certificates",
            r#"culvert_ztunnel_certificate_requests_total{outcome="signed"}"#,
        ),
        (
            "held and refused",
            r#"culvert_ztunnel_held_connections_total{outcome="refused"}"#,
        ),
        (
            "requests that a waypoint reads",
            r#"istio_requests_total{reporter="waypoint",source_workload="client",destination_workload="server",destination_service_name="web",response_code="200"}"#,
        ),
        (
            "requests that are sent once more",
            r#"culvert_waypoint_retries_total{service="town/web.town.svc.cluster.local"}"#,
        ),
        (
            "bytes that a waypoint copies",
            r#"istio_tcp_connections_opened_total{reporter="waypoint",source_workload="client",destination_service_name="bytes"}"#,
        ),
        ("names of the mesh", "culvert_ztunnel_dns_answers_total"),
        ("names of others", "istio_dns_upstream_requests_total"),
        (
            "resolvers that refuse",
            r#"istio_dns_upstream_failures_total{reason="refused"}"#,
        ),
        // What has not happened is there: what appears with its first event is no increase.
        (
            "configuration that no waypoint has refused",
            r#"culvert_waypoint_xds_nacks_total{type="listener"} == bool 0"#,
        ),
        (
            "limits that are not reached",
            r#"culvert_waypoint_overloads_total{limit="memory"} == bool 0"#,
        ),
        (
            "endpoints that are not left out",
            r#"culvert_waypoint_ejected_endpoints{cluster=~".*web.town.*"} == bool 0"#,
        ),
    ] {
        prometheus.wait(what, |prometheus| {
            has_data(prometheus, &format!("sum({expression}) > 0"))
        });
    }
    probe::dial(&town.client, (town.server.ip4(), PORT), &[]).unwrap();
}

#[test]
fn a_waypoint_is_scraped_with_the_messages_of_grpc() {
    let lab = lab("prometheus_wp");
    let _server;
    let scene = Scene::set(&lab, Kind::Culvert);
    _server = grpc::serve(&scene.town.server, PORT + 8, "books");
    let books = service("books", "server", PORT + 8, "grpc").label("culvert.dev/use-waypoint", "wp");
    let books = SocketAddr::from((lab.service(books).unwrap().ip4(), 80));
    let waypoint = SocketAddr::from((scene.waypoint.place.pod().ip4(), 15020));
    let mut prometheus = Prometheus::start(&lab, &[("waypoint", waypoint)]);
    for metric in [
        "istio_requests_total",
        "istio_request_messages_total",
        "istio_response_messages_total",
    ] {
        let labels = r#"reporter="waypoint",request_protocol="grpc",grpc_response_status="0",destination_service_name="books",source_workload="client""#;
        let expression = format!("sum({metric}{{{labels}}}) > 0");
        prometheus.wait(metric, |prometheus| {
            let _reply = grpc::call(&scene.town.client, books, "/shop.Books/Get", Duration::from_secs(5));
            has_data(prometheus, &expression)
        });
    }
}
