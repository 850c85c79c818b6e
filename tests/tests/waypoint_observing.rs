//! What Telemetry objects change about a waypoint's metrics, and what receivers of spans get: headers of their provider, and what waits
//! when the waypoint ends. A receiver that is away costs spans, and nothing else.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    io::{BufReader, Write as _},
    net::SocketAddr,
    time::Duration,
};

use culvert_lab::{PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, echo,
    edge::{Edge, answer},
    http, lab,
    scene::service,
    strict_app::{self, Noted},
    town::PORT,
    waypoint::Kind,
};
use serde_json::{Value, json};

/// How long one connection may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Where spans are received.
const RECEIVER: u16 = 4318;

fn ask(edge: &Edge<'_>, target: &str) -> Option<u16> {
    let mut stream = edge.connect();
    write!(stream, "GET {target} HTTP/1.1\r\nhost: edge.town\r\n\r\n").ok()?;
    let (status, _) = answer(&mut BufReader::new(stream)).ok()??;
    Some(status)
}

fn telemetry(edge: &Edge<'_>, spec: &Value) {
    let object = json!({
        "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry",
        "metadata": { "name": "edge", "namespace": "town" }, "spec": spec,
    });
    edge.scene.town.lab.apply(&object).unwrap();
}

/// The series of a metric of the Service.
fn series(edge: &Edge<'_>, metric: &str) -> Vec<String> {
    let page = http::page(edge.scene.waypoint.place.pod(), 15020, "/metrics").unwrap();
    let is_wanted = |line: &&str| line.starts_with(&format!("{metric}{{")) && line.contains("edge.town.svc");
    page.lines().filter(is_wanted).map(str::to_owned).collect()
}

fn wait(edge: &Edge<'_>, what: &str, mut condition: impl FnMut() -> bool) {
    wait_until(what, PATIENCE, &mut condition).unwrap_or_else(|error| {
        let findings = edge.scene.town.mesh.get_controller("/findings").map(|page| page.body);
        panic!("{error:#}\n{findings:?}\n{}", edge.scene.last_words())
    });
}

#[test]
fn metrics_are_counted_as_telemetry_objects_want_them() {
    let lab = lab("wp_metrics");
    let edge = Edge::set(&lab, Kind::Culvert);
    let target = json!([{ "group": "", "kind": "Service", "name": "edge" }]);
    telemetry(
        &edge,
        &json!({
            "targetRefs": target,
            "metrics": [{ "providers": [{ "name": "prometheus" }], "overrides": [
                { "match": { "metric": "REQUEST_SIZE", "mode": "SERVER" }, "disabled": true },
                { "match": { "metric": "REQUEST_DURATION", "mode": "CLIENT" }, "disabled": true },
                { "match": { "metric": "REQUEST_COUNT" }, "tagOverrides": {
                    "source_principal": { "operation": "REMOVE" },
                    "request_method": { "operation": "UPSERT", "value": "request.method" },
                    "path": { "value": "request.url_path" },
                    "response_code": { "value": "response.code >= 400 ? 'bad' : 'good'" },
                } },
            ] }],
        }),
    );
    wait(&edge, "requests to be counted with other tags", || {
        assert_eq!(ask(&edge, "/counted?x=1"), Some(200));
        let found = series(&edge, "istio_requests_total");
        found.iter().any(|line| {
            let has = |label: &str| line.contains(label);
            has("request_method=\"GET\"")
                && has(",path=\"/counted\"")
                && has("response_code=\"good\"")
                && !has("source_principal")
        })
    });
    // What is not counted does not grow, and what was not meant is as before.
    let count = |metric: &str| -> f64 {
        let values = series(&edge, metric);
        values
            .iter()
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    };
    let metrics = [
        "istio_request_bytes_count",
        "istio_response_bytes_count",
        "istio_request_duration_milliseconds_count",
    ];
    let before = metrics.map(count);
    for _ in 0..10 {
        assert_eq!(ask(&edge, "/counted"), Some(200));
    }
    let mut grown = Vec::new();
    wait(&edge, "requests to be counted", || {
        grown = metrics
            .iter()
            .zip(before)
            .map(|(metric, before)| count(metric) - before)
            .collect();
        grown[1] >= 10.0 && (grown[1] - grown[2]).abs() < 0.5
    });
    // The last one before may have been counted after it was answered.
    assert!(grown[0] == 0.0 && grown[1] <= 11.0, "{grown:?}");
    let durations = series(&edge, "istio_request_duration_milliseconds_count");
    assert!(
        durations.iter().all(|line| line.contains("source_principal=")),
        "{durations:?}"
    );

    // A path for each request is no series for each.
    for number in 0..1100 {
        assert_eq!(ask(&edge, &format!("/many/{number}")), Some(200));
    }
    wait(&edge, "the rest to be counted together", || {
        series(&edge, "istio_requests_total")
            .iter()
            .any(|line| line.contains(",path=\"other\""))
    });
}

/// A connection whose bytes are copied has a line at its end, as a Telemetry object wants it.
fn connections_have_lines(kind: Kind) {
    let lab = lab(&format!("wp_tcplines_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    let server = &edge.scene.town.server;
    let to = echo::serve(server, PORT + 30);
    let raw = service("raw", "server", to.port(), "tcp").label("culvert.dev/use-waypoint", "wp");
    let raw = SocketAddr::from((lab.service(raw).unwrap().ip4(), 80));
    configure(
        &edge,
        &json!({ "name": "lines", "envoyFileAccessLog": { "path": "/dev/stdout", "logFormat": { "text":
        "TCP %BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER_RAW% %DOWNSTREAM_LOCAL_ADDRESS%\n" } } }),
    );
    telemetry(
        &edge,
        &json!({ "accessLogging": [{ "providers": [{ "name": "lines" }] }] }),
    );
    let expected = format!("TCP 3 3 0 - town/wp/town/raw.town.svc.cluster.local:80 {raw}");
    wait(&edge, "a line of a connection", || {
        let Ok(mut stream) = echo::connect(edge.client(), raw, ATTEMPT) else {
            return false;
        };
        let more = echo::round_trip(&mut stream).and_then(|()| echo::round_trip(&mut stream));
        drop(stream);
        more.is_ok() && edge.scene.waypoint.process.log().lines().any(|line| line == expected)
    });
    if matches!(kind, Kind::Envoy) {
        return;
    }
    // What is open is counted while it lasts.
    let mut stream = echo::connect(edge.client(), raw, ATTEMPT).unwrap();
    echo::round_trip(&mut stream).unwrap();
    let count = |name: &str| -> u64 {
        let page = http::page(edge.scene.waypoint.place.pod(), 15020, "/metrics").unwrap();
        let is_wanted = |line: &&str| {
            line.starts_with(&format!("{name}{{"))
                && line.contains("reporter=\"waypoint\"")
                && line.contains("destination_service_name=\"raw\"")
                && line.contains("response_flags=\"-\"")
        };
        let line = page.lines().find(is_wanted);
        line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0)
    };
    wait(&edge, "an open connection to be counted, with its bytes", || {
        let opened = count("istio_tcp_connections_opened_total");
        opened == count("istio_tcp_connections_closed_total") + 1
            && count("istio_tcp_received_bytes_total") > (opened - 1) * 3
    });
}

#[test]
fn culverts_lines_tell_of_connections_that_are_no_http() {
    connections_have_lines(Kind::Culvert);
}

#[test]
fn envoys_lines_tell_of_connections_that_are_no_http() {
    connections_have_lines(Kind::Envoy);
}

/// What is tried out refuses nobody, and lines tell of it; so does what audits, in a metric of Culvert's own.
fn trials_have_lines(kind: Kind) {
    let lab = lab(&format!("wp_trials_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    let left = |key: &str| format!("%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_{key})%");
    let [denied, by, allowed] = [
        "deny_shadow_engine_result",
        "deny_shadow_effective_policy_id",
        "allow_shadow_engine_result",
    ]
    .map(left);
    configure(
        &edge,
        &json!({ "name": "lines", "envoyFileAccessLog": { "path": "/dev/stdout", "logFormat": { "text":
        format!("TRIAL %REQ(:PATH)% {denied} {by} {allowed}\n") } } }),
    );
    telemetry(
        &edge,
        &json!({ "accessLogging": [{ "providers": [{ "name": "lines" }] }] }),
    );
    let policy = |name: &str, action: &str, is_tried: bool, rule: Value| {
        let object = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": name, "namespace": "town", "annotations": { "istio.io/dry-run": is_tried.to_string() } },
            "spec": { "action": action, "rules": [rule], "targetRefs": [{ "group": "", "kind": "Service", "name": "edge" }] },
        });
        lab.apply(&object).unwrap();
    };
    let admin = json!({ "to": [{ "operation": { "paths": ["/admin*"] } }] });
    let nobody = json!({ "from": [{ "source": { "principals": ["cluster.local/ns/town/sa/nobody"] } }] });
    policy("no-admin", "DENY", true, admin.clone());
    policy("only-nobody", "ALLOW", true, nobody);
    policy("look", "AUDIT", false, admin);
    let log = || edge.scene.waypoint.process.log();
    let lines = [
        "TRIAL /admin/x denied town/no-admin[0] denied",
        "TRIAL /open allowed - denied",
    ];
    wait(&edge, "lines that tell what would become of requests", || {
        assert_ne!(ask(&edge, "/admin/x"), Some(403));
        assert_ne!(ask(&edge, "/open"), Some(403));
        lines.iter().all(|expected| log().lines().any(|line| line == *expected))
    });
    if kind == Kind::Culvert {
        let counted = |series: &str| {
            let page = http::page(edge.scene.waypoint.place.pod(), 15020, "/metrics").unwrap();
            page.lines().any(|line| line.starts_with(series))
        };
        for series in [
            "culvert_waypoint_policy_dry_run_total{outcome=\"denied\",policy=\"town/no-admin[0]\"}",
            "culvert_waypoint_policy_dry_run_total{outcome=\"not_allowed\",policy=\"-\"}",
            "culvert_waypoint_policy_audited_total{policy=\"town/look[0]\"}",
        ] {
            wait(&edge, series, || ask(&edge, "/admin/x") == Some(200) && counted(series));
        }
    }
}

#[test]
fn culverts_lines_tell_what_policies_would_do_that_are_tried_out() {
    trials_have_lines(Kind::Culvert);
}

#[test]
fn envoys_lines_tell_what_policies_would_do_that_are_tried_out() {
    trials_have_lines(Kind::Envoy);
}

/// Makes a provider part of the mesh's configuration.
fn configure(edge: &Edge<'_>, provider: &Value) {
    let lab = edge.scene.town.lab;
    lab.namespace("culvert-system").unwrap();
    let mesh = json!({ "extensionProviders": [provider] });
    lab.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "culvert-mesh", "namespace": "culvert-system" },
        "data": { "mesh": serde_json::to_string(&mesh).unwrap() },
    }))
    .unwrap();
}

/// A receiver of spans in the mesh, and the mesh's configuration with it as a provider.
fn receiver(edge: &Edge<'_>, provider: &Value) -> Noted {
    let lab = edge.scene.town.lab;
    let pod = lab
        .pod(PodSpec::new("town", "spans").on(2).label("app", "spans"))
        .unwrap();
    let port = json!({ "name": "http", "port": RECEIVER, "targetPort": RECEIVER, "protocol": "TCP" });
    lab.service(
        ServiceSpec::new("town", "spans")
            .port_object(port)
            .selector("app", "spans"),
    )
    .unwrap();
    let noted = strict_app::serve(&pod, RECEIVER);
    configure(edge, provider);
    let tracing = json!([{ "providers": [{ "name": "spans" }], "randomSamplingPercentage": 100 }]);
    telemetry(edge, &json!({ "tracing": tracing }));
    noted
}

fn headers_are_sent(kind: Kind, name: &str, provider: &Value, path: &str) {
    let lab = lab(&format!("wp_{name}_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    let noted = receiver(&edge, provider);
    wait(&edge, "spans to come with the provider's headers", || {
        assert_eq!(ask(&edge, "/traced"), Some(200));
        let sent = noted.under(path);
        sent.iter()
            .any(|post| post.get("x-tenant") == Some("100% town") && !post.body.is_empty())
    });
    assert!(noted.flaws().is_empty(), "{:?}", noted.flaws());
}

fn otlp() -> Value {
    json!({ "name": "spans", "opentelemetry": {
        "service": "spans.town.svc.cluster.local", "port": RECEIVER,
        "http": { "path": "/v1/traces", "headers": [{ "name": "X-Tenant", "value": "100% town" }] },
    } })
}

fn zipkin() -> Value {
    json!({ "name": "spans", "zipkin": {
        "service": "spans.town.svc.cluster.local", "port": RECEIVER,
        "headers": [{ "name": "X-Tenant", "value": "100% town" }],
    } })
}

#[test]
fn culverts_spans_come_with_headers_to_a_receiver_of_otlp() {
    headers_are_sent(Kind::Culvert, "otlph", &otlp(), "/v1/traces");
}

#[test]
fn envoys_spans_come_with_headers_to_a_receiver_of_otlp() {
    headers_are_sent(Kind::Envoy, "otlph", &otlp(), "/v1/traces");
}

#[test]
fn culverts_spans_come_with_headers_to_zipkin() {
    headers_are_sent(Kind::Culvert, "zipkinh", &zipkin(), "/api/v2/spans");
}

#[test]
fn envoys_spans_come_with_headers_to_zipkin() {
    headers_are_sent(Kind::Envoy, "zipkinh", &zipkin(), "/api/v2/spans");
}

#[test]
fn a_receiver_that_is_away_costs_spans_and_nothing_else_and_the_last_ones_are_sent_at_the_end() {
    let lab = lab("wp_lostspans");
    let mut edge = Edge::set(&lab, Kind::Culvert);
    let noted = receiver(&edge, &otlp());
    wait(&edge, "spans to come", || {
        ask(&edge, "/traced") == Some(200) && !noted.under("/v1/traces").is_empty()
    });

    // What waits is sent when the waypoint is told to end, at once.
    let batches = noted.under("/v1/traces").len();
    for _ in 0..5 {
        assert_eq!(ask(&edge, "/last"), Some(200));
    }
    let status = edge.scene.waypoint.process.stop(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    let sent = noted.under("/v1/traces");
    let is_last = |post: &strict_app::Request| post.body.windows(5).any(|bytes| bytes == b"/last");
    assert!(
        sent[batches..].iter().any(is_last),
        "{} batches since",
        sent.len() - batches
    );

    // And where nobody takes them they are counted.
    let waypoint = &mut edge.scene.waypoint;
    waypoint.process = waypoint.place.0.start(&edge.scene.town.mesh).unwrap();
    waypoint.place.0.wait_open(&waypoint.process, PATIENCE).unwrap();
    wait(&edge, "requests to be answered again", || {
        ask(&edge, "/untaken") == Some(200)
    });
    lab.delete("Pod", "town", "spans").unwrap();
    wait(&edge, "lost spans to be counted", || {
        // Answered sooner than the receiver is given up.
        assert_eq!(ask(&edge, "/untaken"), Some(200), "{}", edge.scene.last_words());
        let page = http::page(edge.scene.waypoint.place.pod(), 15020, "/metrics").unwrap();
        let mut lost = page
            .lines()
            .filter(|line| line.starts_with("culvert_waypoint_lost_spans_total{"));
        lost.any(|line| line.contains("receiver") && !line.ends_with(" 0"))
    });
}
