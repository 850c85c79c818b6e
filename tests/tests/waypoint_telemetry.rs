//! What Telemetry objects ask for at a waypoint, of either kind: spans at real receivers, and lines in the access log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use culvert_lab::{Pod, PodSpec, Process, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, http, lab, programs,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

const WEB: u16 = PORT + 1;
const ATTEMPT: Duration = Duration::from_secs(10);
/// A program of Java, on a machine with other work.
const START: Duration = Duration::from_secs(120);

const OTLP: u16 = 4317;
const OTLP_HTTP: u16 = 4318;
const ZIPKIN: u16 = 9411;

/// A mesh with a Service behind a waypoint, and receivers of spans inside of it.
struct Place<'lab> {
    town: Town<'lab>,
    web: SocketAddr,
    waypoint: Waypoint,
}

impl Place<'_> {
    fn make(lab: &culvert_lab::Lab, kind: Kind) -> Place<'_> {
        let town = Town::meshed(lab);
        http::serve(&town.server, WEB, "app");
        let port = json!({ "name": "http", "port": 80, "targetPort": WEB, "protocol": "TCP" });
        let spec = ServiceSpec::new("town", "web")
            .port_object(port)
            .selector("app", "server")
            .label("culvert.dev/use-waypoint", "wp");
        let web = lab.service(spec).unwrap();
        let waypoint = Waypoint::start(lab, &town.mesh, "town", "wp", kind);
        Place {
            web: SocketAddr::from((web.ip4(), 80)),
            town,
            waypoint,
        }
    }

    /// Who receives spans: a pod of the mesh with a Service.
    fn receiver(&self, name: &str, ports: &[(&str, u16)]) -> Pod {
        let spec = PodSpec::new("town", name).on(2).label("app", name);
        let pod = self.town.lab.pod(spec).unwrap();
        let mut service = ServiceSpec::new("town", name).selector("app", name);
        for (name, port) in ports {
            service = service.port_object(json!({ "name": name, "port": port, "targetPort": port, "protocol": "TCP" }));
        }
        self.town.lab.service(service).unwrap();
        pod
    }

    fn configure(&self, mesh: &Value) {
        self.town.lab.namespace("culvert-system").unwrap();
        let text = serde_json::to_string(mesh).unwrap();
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "culvert-mesh", "namespace": "culvert-system" },
            "data": { "mesh": text },
        });
        self.town.lab.apply(&map).unwrap();
    }

    fn telemetry(&self, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry",
            "metadata": { "name": name, "namespace": "town" }, "spec": spec,
        });
        self.town.lab.apply(&object).unwrap();
    }

    /// A request, and what the application saw of it.
    fn ask(&self, path: &str, fields: &[&str]) -> Option<(http::Head, String)> {
        let mut lines = vec![format!("GET {path} HTTP/1.1"), "host: web.town".to_owned()];
        lines.extend(fields.iter().map(|field| (*field).to_owned()));
        http::ask(&self.town.client, self.web, &lines, ATTEMPT).ok()
    }

    fn wait(&self, what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
        wait_until(what, patience, &mut condition).unwrap_or_else(|error| {
            let findings = self.town.mesh.get_controller("/findings").map(|page| page.body);
            panic!(
                "{error:#}\n{}\n{findings:?}\n{}",
                self.waypoint.process.log_tail(60),
                self.town.lab.logs(20)
            )
        });
    }

    /// Asks until the application sees a span of this trace that is not the client's; which one.
    fn span_of_waypoint(&self, path: &str, trace: &str, field: &str) -> String {
        let parent = "b7ad6b7169203331";
        let sent = format!("traceparent: 00-{trace}-{parent}-01");
        let mut found = String::new();
        self.wait("the waypoint to have a span", PATIENCE, || {
            let Some((_, body)) = self.ask(path, &[&sent]) else {
                return false;
            };
            let mut lines = body.lines().filter_map(|line| line.split_once(": "));
            let value = lines
                .find(|(name, _)| name.eq_ignore_ascii_case(field))
                .map(|(_, value)| value);
            let Some(value) = value else { return false };
            let span = if field == "traceparent" {
                value.split('-').nth(2).unwrap_or_default()
            } else {
                value
            };
            found = span.to_owned();
            !span.is_empty() && span != parent
        });
        found
    }
}

fn tool(path: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target").join(path);
    assert!(path.exists(), "no {}: `cargo xtask test` makes it", path.display());
    path
}

/// A real OpenTelemetry Collector, which writes what it receives to a file.
fn collector(place: &Place<'_>, pod: &Pod) -> (Process, PathBuf) {
    let folder = place.town.lab.dir();
    let spans = folder.join("spans.json");
    let address = pod.ip4();
    let config = json!({
        "receivers": { "otlp": { "protocols": {
            "grpc": { "endpoint": format!("{address}:{OTLP}") },
            "http": { "endpoint": format!("{address}:{OTLP_HTTP}") },
        } } },
        "exporters": { "file": { "path": spans, "flush_interval": "100ms" } },
        "service": { "pipelines": { "traces": { "receivers": ["otlp"], "exporters": ["file"] } } },
    });
    let file = folder.join("collector.json");
    fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(tool("cluster/bin/otel-collector"));
    command.arg(format!("--config=file:{}", file.display()));
    let process = programs::serve(pod, "collector", &mut command, OTLP);
    (process, spans)
}

/// All spans that came, as OTLP's JSON has them.
fn spans(file: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let batches = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let resources = batches.flat_map(|batch| list(&batch, "resourceSpans"));
    let scopes = resources.flat_map(|resource| list(&resource, "scopeSpans"));
    scopes.flat_map(|scope| list(&scope, "spans")).collect()
}

fn tag<'a>(span: &'a Value, name: &str) -> Option<&'a str> {
    let tags = span["attributes"].as_array()?.iter();
    let mut found = tags.filter(|tag| tag["key"] == name);
    found.next()?["value"]["stringValue"].as_str()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn spans_reach_their_receivers(kind: Kind) {
    let lab = lab(&format!("wp_spans_{}", kind.word()));
    let place = Place::make(&lab, kind);
    let collecting = place.receiver("collector", &[("grpc-otlp", OTLP), ("http-otlp", OTLP_HTTP)]);
    let (_collector, file) = collector(&place, &collecting);
    let showing = place.receiver("zipkin", &[("http", ZIPKIN)]);
    let mut java = programs::command("/usr/bin/java", "openjdk-17-jdk-headless");
    java.args(["-Xmx256m", "-jar"])
        .arg(tool("tools/zipkin/zipkin-server-3.4.4-slim.jar"));
    java.env("QUERY_PORT", ZIPKIN.to_string());
    let _zipkin = showing.spawn("zipkin", &mut java).unwrap();
    place.configure(&json!({ "extensionProviders": [
        { "name": "otlp", "opentelemetry": { "service": "collector.town.svc.cluster.local", "port": OTLP } },
        { "name": "otlp-http", "opentelemetry": {
            "service": "collector.town.svc.cluster.local", "port": OTLP_HTTP, "http": { "path": "/v1/traces", "timeout": "5s" } } },
        { "name": "zipkin", "zipkin": { "service": "zipkin.town.svc.cluster.local", "port": ZIPKIN } },
    ] }));
    let ask_for = |provider: &str| {
        place.telemetry(
            "spans",
            &json!({ "tracing": [{
                "providers": [{ "name": provider }],
                "randomSamplingPercentage": 100,
                "customTags": { "who": { "literal": { "value": provider } }, "agent": { "header": { "name": "user-agent", "defaultValue": "none" } } },
            }] }),
        );
    };
    for (number, provider) in ["otlp", "otlp-http"].into_iter().enumerate() {
        ask_for(provider);
        let trace = format!("{}{number}", &TRACE[..31]);
        let span = place.span_of_waypoint(&format!("/{provider}"), &trace, "traceparent");
        // Listener and routes come one after the other: until both have, Envoy calls it `ingress`.
        let is_it = |found: &&Value| {
            let is_named = found["name"] == "web.town.svc.cluster.local:80/*";
            let is_answered = tag(found, "http.status_code") == Some("200");
            is_named && is_answered && found["traceId"] == *trace && tag(found, "who") == Some(provider)
        };
        let mut found = Value::Null;
        // The first may have been lost, while the way there was being made.
        place.wait("the collector to have the span", PATIENCE, || {
            place.ask(
                &format!("/{provider}"),
                &[&format!("traceparent: 00-{trace}-b7ad6b7169203331-01")],
            );
            found = spans(&file).iter().find(is_it).cloned().unwrap_or_default();
            !found.is_null()
        });
        assert_eq!(found["parentSpanId"], "b7ad6b7169203331", "{found}");
        assert_eq!(found["kind"], json!(2), "{found}");
        assert_eq!(span.len(), 16);
        // Behind an internal listener Envoy has no address.
        let client = match kind {
            Kind::Culvert => place.town.client.ip4().to_string(),
            Kind::Envoy | Kind::EnvoyWorld => "envoy://internal_client_address/".to_owned(),
        };
        let url = format!("http://web.town/{provider}");
        for (name, value) in [
            ("component", "proxy"),
            ("http.method", "GET"),
            ("http.url", &url),
            ("http.status_code", "200"),
            ("http.protocol", "HTTP/1.1"),
            ("response_flags", "-"),
            ("upstream_cluster", "town/wp/town/web.town.svc.cluster.local:80"),
            ("peer.address", &client),
            ("agent", "none"),
            ("user_agent", "-"),
            ("downstream_cluster", "-"),
            ("request_size", "0"),
        ] {
            assert_eq!(tag(&found, name), Some(value), "{name}: {found}");
        }
        // The application was asked in that very span.
        let ids: Vec<Value> = spans(&file).iter().map(|span| span["spanId"].clone()).collect();
        if number > 0 {
            continue;
        }
        place.wait("the span that the application saw to be there", PATIENCE, || {
            let (_, body) = place
                .ask("/joined", &[&format!("traceparent: 00-{trace}-b7ad6b7169203331-01")])
                .unwrap();
            let mut lines = body.lines().filter_map(|line| line.split_once(": "));
            let seen = lines
                .find(|(name, _)| name.eq_ignore_ascii_case("traceparent"))
                .unwrap()
                .1
                .to_owned();
            let seen = seen.split('-').nth(2).unwrap().to_owned();
            wait_until("it", Duration::from_secs(8), || {
                spans(&file).iter().any(|span| span["spanId"] == *seen)
            })
            .is_ok()
        });
        assert!(!ids.is_empty());
    }
    ask_for("zipkin");
    let trace = format!("{}f", &TRACE[..31]);
    place.wait("Zipkin to answer", START, || {
        let lines = ["GET /health HTTP/1.1".to_owned(), "host: zipkin".to_owned()];
        let to = SocketAddr::from((showing.ip4(), ZIPKIN));
        http::ask(&place.town.client, to, &lines, ATTEMPT).is_ok_and(|(head, _)| head.status() == Some(200))
    });
    let multi = [
        format!("x-b3-traceid: {trace}"),
        "x-b3-spanid: b7ad6b7169203331".to_owned(),
        "x-b3-sampled: 1".to_owned(),
    ];
    let multi: Vec<&str> = multi.iter().map(String::as_str).collect();
    place.wait("Zipkin to show the span", PATIENCE, || {
        place.ask("/zipkin", &multi);
        let lines = [format!("GET /api/v2/trace/{trace} HTTP/1.1"), "host: zipkin".to_owned()];
        let to = SocketAddr::from((showing.ip4(), ZIPKIN));
        let page = http::ask(&place.town.client, to, &lines, ATTEMPT);
        page.is_ok_and(|(_, page)| {
            page.contains("\"parentId\":\"b7ad6b7169203331\"")
                && page.contains("\"http.url\":\"http://web.town/zipkin\"")
                && page.contains("\"who\":\"zipkin\"")
                && page.contains("\"kind\":\"SERVER\"")
        })
    });
    let (_, body) = place.ask("/zipkin", &multi).unwrap();
    assert!(
        body.to_ascii_lowercase()
            .contains("x-b3-parentspanid: b7ad6b7169203331"),
        "{body}"
    );
}

#[test]
fn culverts_spans_reach_a_real_collector_and_zipkin() {
    spans_reach_their_receivers(Kind::Culvert);
}

#[test]
fn envoys_spans_reach_a_real_collector_and_zipkin() {
    spans_reach_their_receivers(Kind::Envoy);
}

const FORMAT: &str = "LINE %REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% \
    \"%REQ(USER-AGENT):4%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" %UPSTREAM_CLUSTER_RAW% %DOWNSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQUESTED_SERVER_NAME% %ROUTE_NAME% %RESP(X-NONE?CONTENT-LENGTH)% 100%%\n";

/// Both kinds are to write these very lines.
fn lines_are_as_they_are_asked_for(kind: Kind) {
    let lab = lab(&format!("wp_lines_{}", kind.word()));
    let place = Place::make(&lab, kind);
    place.configure(&json!({ "extensionProviders": [
        { "name": "text", "envoyFileAccessLog": { "path": "/dev/stdout", "logFormat": { "text": FORMAT } } },
        { "name": "json", "envoyFileAccessLog": { "path": "/dev/stdout", "logFormat": { "labels": {
            "path": "%REQ(:PATH)%", "code": "%RESPONSE_CODE%", "none": "%REQ(X-NONE)%", "both": "%RESPONSE_CODE% %REQ(X-NONE)%", "kind": "json" } } } },
        { "name": "odd", "envoyFileAccessLog": { "logFormat": { "text": "%NO_SUCH_OPERATOR%" } } },
    ] }));
    let log = || place.waypoint.process.log();
    place.telemetry(
        "lines",
        &json!({ "accessLogging": [{ "providers": [{ "name": "text" }] }] }),
    );
    let fields = ["user-agent: curl/8", "x-request-id: given"];
    let mut sent = 0;
    place.wait("a line in the format", PATIENCE, || {
        if let Some((_, body)) = place.ask("/a?b=1", &fields) {
            sent = body.len();
        }
        // Listener and routes come one after the other, and a request between them has none.
        log().contains("LINE GET /a?b=1 HTTP/1.1 200")
    });
    let text = log();
    let found = text
        .lines()
        .find(|line| line.starts_with("LINE GET /a?b=1 HTTP/1.1 200"))
        .unwrap();
    let (client, web) = (place.town.client.ip4(), place.web);
    let expected = format!(
        "LINE GET /a?b=1 HTTP/1.1 200 - via_upstream - 0 {sent} \"curl\" \"given\" \"web.town\" \
         town/wp/town/web.town.svc.cluster.local:80 {web} {client} - "
    );
    assert!(found.starts_with(&expected), "{found}\n{expected}");
    assert!(found.ends_with(&format!(" {sent} 100%")), "{found}");

    // A Service's own object holds before its namespace's, and an expression chooses.
    let target = json!([{ "kind": "Service", "group": "", "name": "web" }]);
    place.telemetry(
        "narrow",
        &json!({ "targetRefs": target, "accessLogging": [{ "providers": [{ "name": "json" }, { "name": "odd" }],
            "filter": { "expression": "request.url_path == '/chosen' && response.code >= 200" } }] }),
    );
    let chosen = "{\"both\":\"200 -\",\"code\":200,\"kind\":\"json\",\"none\":null,\"path\":\"/chosen?x\"}";
    place.wait("a line of JSON", PATIENCE, || {
        place.ask("/left-out", &fields);
        place.ask("/chosen?x", &fields);
        log().lines().any(|line| line == chosen)
    });
    assert!(!log().lines().any(|line| line.contains("\"path\":\"/left-out\"")));
    let findings = place.town.mesh.get_controller("/findings").unwrap().body;
    assert!(
        findings.contains("%NO_SUCH_OPERATOR% is not an operator that is served"),
        "{findings}"
    );

    // Where lines are not wanted there is none.
    place.telemetry(
        "narrow",
        &json!({ "targetRefs": target, "accessLogging": [{ "disabled": true }] }),
    );
    let mut count = 0;
    place.wait("lines to end", PATIENCE, || {
        count += 1;
        let path = format!("/silent-{count}");
        place.ask(&path, &fields);
        // One that is written comes at once.
        wait_until("no line", Duration::from_secs(2), || log().contains(&path)).is_err()
    });
}

#[test]
fn culverts_lines_are_as_they_are_asked_for() {
    lines_are_as_they_are_asked_for(Kind::Culvert);
}

#[test]
fn envoys_lines_are_as_they_are_asked_for() {
    lines_are_as_they_are_asked_for(Kind::Envoy);
}
