//! Prometheus, as Debian packages it, scrapes all programs, and is asked whatever the shipped dashboards and alerts ask.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use culvert_lab::{Lab, MeshOptions, Pod, PodSpec, Process, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, echo, grpc, lab, probe, programs,
    scene::{Scene, service},
    town::PORT,
    waypoint::Kind,
};
use serde_json::{Value, json};

/// Where Prometheus answers, in the control plane's namespace.
const PROMETHEUS: &str = "127.0.0.1:9090";

const DASHBOARDS: [&str; 3] = ["traffic", "nodes", "controller"];

/// Where the echo is, beside the town's own servers.
const ECHO: u16 = PORT + 1;

/// Where nobody listens.
const CLOSED: u16 = 9;

/// The scraper.
struct Prometheus<'lab> {
    lab: &'lab Lab,
    process: Process,
}

impl<'lab> Prometheus<'lab> {
    /// Starts it with all programs of the lab as targets.
    fn start(lab: &'lab Lab) -> Self {
        Self::start_with(lab, &[])
    }

    /// With these targets beside them, each a job of its own.
    fn start_with(lab: &'lab Lab, more: &[(&str, SocketAddr)]) -> Self {
        let folder = programs::folder(lab, "prometheus");
        let nodes = |port: u16| lab.nodes().each_ref().map(|node| format!("{}:{port}", node.ip4()));
        let job =
            |name: &str, targets: &[String]| json!({ "job_name": name, "static_configs": [{ "targets": targets }] });
        let mut jobs = vec![
            job("ztunnel", &nodes(15020)),
            job("agent", &nodes(15022)),
            job("controller", &["127.0.0.1:15014".to_owned()]),
        ];
        jobs.extend(more.iter().map(|(name, target)| job(name, &[target.to_string()])));
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [folder.join("rules.yaml")],
            "scrape_configs": jobs,
        });
        // JSON is YAML.
        programs::file(&folder, "rules.yaml", rules().to_string().as_bytes());
        let config = programs::file(&folder, "prometheus.yaml", config.to_string().as_bytes());
        let mut command = programs::unprivileged("/usr/bin/prometheus", "prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={PROMETHEUS}"));
        let process = lab.spawn_control("prometheus", &mut command).unwrap();
        Self { lab, process }
    }

    /// What it answers on a page of its API.
    fn ask(&self, page: &str) -> Result<Value, String> {
        let address: SocketAddr = PROMETHEUS.parse().unwrap();
        let get = || culvert_lab::get(address, &format!("/api/v1/{page}"), Duration::from_secs(10));
        let answer = self.lab.control().run(get).unwrap();
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        let mut body: Value =
            serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {}", answer.body))?;
        match body["status"].as_str() {
            Some("success") => Ok(body["data"].take()),
            _ => Err(body["error"].to_string()),
        }
    }

    /// The values that a query has now, each with its labels.
    fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let data = self.ask(&format!("query?query={}", percent_encoded(expression)))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until something is so; `look` says what is missing otherwise.
    fn wait(&mut self, what: &str, mut look: impl FnMut(&Self) -> Result<(), String>) {
        let mut last = String::new();
        let waited = wait_until(what, PATIENCE, || {
            assert!(
                self.process.is_running(),
                "Prometheus ended:\n{}",
                self.process.log_tail(30)
            );
            look(self).inspect_err(|why| last.clone_from(why)).is_ok()
        });
        waited.unwrap_or_else(|error| panic!("{error:#}: {last}\n{}", self.process.log_tail(10)));
    }
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/dashboards")
        .join(file)
}

/// The shipped alerts, as Prometheus has them without its operator.
fn rules() -> Value {
    let text = fs::read_to_string(shipped("alerts.yaml")).unwrap();
    let mut rule: Value = serde_yaml_ng::from_str(&text).unwrap();
    assert_eq!(rule["kind"], "PrometheusRule");
    rule["spec"].take()
}

/// Titles and queries of a dashboard's panels, with a value in place of each of Grafana's variables.
fn queries(dashboard: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(shipped(&format!("{dashboard}.json"))).unwrap();
    let page: Value = serde_json::from_str(&text).unwrap();
    let panels = page["panels"].as_array().unwrap();
    let of_panel = |panel: &Value| {
        let title = format!("{dashboard}: {}", panel["title"].as_str().unwrap());
        let targets = panel["targets"].as_array().unwrap().clone();
        let text = |target: &Value| target["expr"].as_str().unwrap().to_owned();
        targets
            .iter()
            .map(|target| (title.clone(), substituted(&text(target))))
            .collect::<Vec<_>>()
    };
    panels.iter().flat_map(of_panel).collect()
}

fn substituted(expression: &str) -> String {
    let done = expression
        .replace("$__rate_interval", "30s")
        .replace("$namespace", ".*");
    assert!(!done.contains('$'), "a variable that the test does not know: {done}");
    done
}

/// The names of metrics in an expression.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_metric = |word: &&str| word.starts_with("culvert_") || word.starts_with("istio_");
    words.filter(is_metric).map(str::to_owned).collect()
}

/// Traffic of every kind that the dashboards tell apart, again and again.
struct Traffic<'town, 'lab> {
    town: &'town Town<'lab>,
    service: SocketAddr,
    /// A pod outside the mesh.
    stranger: Pod,
    /// A pod whose connections are held.
    holder: Pod,
}

impl<'town, 'lab> Traffic<'town, 'lab> {
    fn new(town: &'town Town<'lab>) -> Self {
        let lab = town.lab;
        lab.namespace("outside").unwrap();
        let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
        let holder = PodSpec::new("town", "holder").on(1).service_account("holder");
        let holder = lab
            .pod(holder.annotation("culvert.dev/hold-connections", "true"))
            .unwrap();
        town.mesh.wait_enrolled(&[&holder], true, PATIENCE).unwrap();
        let service = lab.service(
            ServiceSpec::new("town", "echo")
                .port_to(80, ECHO)
                .selector("app", "server"),
        );
        let service = (service.unwrap().ip4(), 80).into();
        echo::serve(&town.server, ECHO);
        let deny = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "not-the-neighbour", "namespace": "town" },
            "spec": {
                "action": "DENY",
                "rules": [{ "from": [{ "source": { "principals": ["cluster.local/ns/town/sa/neighbour"] } }] }],
            },
        });
        lab.apply(&deny).unwrap();
        Self {
            town,
            service,
            stranger,
            holder,
        }
    }

    /// One connection of each kind. How they end is not looked at here: the metrics tell.
    fn round(&self) {
        let server = SocketAddr::from((self.town.server.ip4(), ECHO));
        let closed = SocketAddr::from((self.town.server.ip4(), CLOSED));
        let patience = Duration::from_secs(5);
        for (from, to) in [
            (&self.town.client, server),
            (&self.town.client, self.service),
            (&self.town.client, closed),
            (&self.town.neighbour, server),
            (&self.stranger, server),
            (&self.holder, server),
            (&self.holder, closed),
        ] {
            let _how = echo::connect(from, to, patience);
        }
    }

    /// Makes rounds while `work` is at it.
    fn while_doing<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Stops the rounds also where the work panics.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = Stop(&stop);
            let flag = stop.0;
            scope.spawn(move || {
                while !flag.load(Ordering::Relaxed) {
                    self.round();
                }
            });
            let done = work();
            drop(stop);
            done
        })
    }
}

fn everything_is_scraped(prometheus: &Prometheus<'_>) -> Result<(), String> {
    let targets = prometheus.ask("targets?state=active")?;
    let targets = targets["activeTargets"].as_array().ok_or("no targets")?;
    if targets.len() != 5 {
        return Err(format!("targets: {targets:?}"));
    }
    let bad = targets
        .iter()
        .find(|target| target["health"] != "up" || target["lastError"] != "");
    bad.map_or(Ok(()), |target| Err(target.to_string()))
}

/// A query returns numbers, at least one.
fn has_data(prometheus: &Prometheus<'_>, expression: &str) -> Result<(), String> {
    let found = prometheus.query(expression)?;
    let is_number = |one: &Value| {
        one["value"][1]
            .as_str()
            .and_then(|v| v.parse::<f64>().ok())
            .is_some_and(f64::is_finite)
    };
    match !found.is_empty() && found.iter().all(is_number) {
        true => Ok(()),
        false => Err(format!("{expression}: {found:?}")),
    }
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
        for metric in metrics(expression) {
            let name = metric.strip_suffix("_total").unwrap_or(&metric);
            let is_known = known.contains(name) || known.contains(&*metric) || OF_CLUSTERS.contains(&name);
            if !is_known {
                return Err(format!("{title}: nobody has {metric}"));
            }
        }
    }
    Ok(())
}

fn alerts() -> Vec<(String, String)> {
    let groups = rules()["groups"].as_array().unwrap().clone();
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules.map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
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
fn every_program_is_scraped_and_every_query_of_the_dashboards_and_alerts_has_an_answer() {
    let lab = lab("real_prometheus");
    let options = MeshOptions {
        agent_args: vec!["--monitoring-listen=0.0.0.0:15022".to_owned()],
        ..MeshOptions::default()
    };
    let town = Town::with(&lab, options);
    let traffic = Traffic::new(&town);
    let mut prometheus = Prometheus::start(&lab);
    traffic.while_doing(|| {
        prometheus.wait("every target is up", everything_is_scraped);
        let all: Vec<_> = DASHBOARDS.into_iter().flat_map(queries).collect();
        assert!(all.len() > 50, "{} queries", all.len());
        for (title, expression) in &all {
            prometheus.wait(title, |prometheus| has_data(prometheus, expression));
        }
        let asked = [all, alerts()].concat();
        prometheus.wait("metrics exist", |prometheus| every_metric_exists(prometheus, &asked));
        prometheus.wait("rules", every_rule_is_evaluated);
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
    let mut prometheus = Prometheus::start_with(&lab, &[("waypoint", waypoint)]);
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

#[test]
fn the_shipped_alerts_are_rules_that_promtool_accepts() {
    let folder = std::env::temp_dir().join(format!("culvert-rules-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("rules.yaml");
    fs::write(&file, rules().to_string()).unwrap();
    let mut promtool = programs::command("/usr/bin/promtool", "prometheus");
    let said = programs::run(promtool.args(["check", "rules"]).arg(&file));
    fs::remove_dir_all(&folder).unwrap();
    assert!(said.contains(&format!("{} rules found", alerts().len())), "{said}");
}
