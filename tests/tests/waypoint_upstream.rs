//! Where requests go behind a waypoint, and how many: subsets, sessions, limits, endpoints that fail or have too much to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use culvert_lab::{PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    app::{self, Seen},
    http::{self, Head, ask},
    lab,
    scene::service,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

/// How long an answer may take that comes.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How long is waited for one that must not come.
const HANGS: Duration = Duration::from_secs(2);

const APP: u16 = PORT + 5;

/// Services in front of the same two pods, `one` and `two`, and a waypoint for all of them.
struct Place<'lab> {
    town: Town<'lab>,
    waypoint: Waypoint,
}

impl<'lab> Place<'lab> {
    fn make(lab: &'lab culvert_lab::Lab, kind: Kind) -> Self {
        let town = Town::meshed(lab);
        let seen = Seen::default();
        let pods = [("one", 1), ("two", 2)].map(|(name, node)| {
            let spec = PodSpec::new("town", name).on(node).label("app", "pair");
            lab.pod(spec.label("version", name)).unwrap()
        });
        town.mesh.wait_enrolled(&[&pods[0], &pods[1]], true, PATIENCE).unwrap();
        for (pod, name) in [(&pods[0], "one"), (&pods[1], "two")] {
            app::serve(pod, APP, name, &seen);
        }
        let waypoint = Waypoint::start(lab, &town.mesh, "town", "wp", kind);
        Self { town, waypoint }
    }

    /// Another Service, with what is asked for connections to it.
    fn service(&self, name: &str, policy: Option<Value>) -> SocketAddr {
        let spec = service(name, "pair", APP, "http").label("culvert.dev/use-waypoint", "wp");
        let made = self.town.lab.service(spec).unwrap();
        if let Some(policy) = policy {
            self.rule(name, name, json!({ "trafficPolicy": policy }));
        }
        SocketAddr::from((made.ip4(), 80))
    }

    fn rule(&self, name: &str, host: &str, mut spec: Value) {
        spec["host"] = host.into();
        self.apply("networking.istio.io/v1", "DestinationRule", name, &spec);
    }

    fn apply(&self, version: &str, kind: &str, name: &str, spec: &Value) {
        let metadata = json!({ "name": name, "namespace": "town" });
        let object = json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec });
        self.town.lab.apply(&object).unwrap();
    }

    fn ask(&self, to: SocketAddr, path: &str, headers: &[(&str, &str)], patience: Duration) -> Option<(Head, String)> {
        let mut lines = vec![format!("GET {path} HTTP/1.1"), "host: x.town".to_owned()];
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        ask(&self.town.client, to, &lines, patience).ok()
    }

    /// Which application answers.
    fn app(&self, to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Option<String> {
        let (head, _) = self.ask(to, path, headers, ATTEMPT)?;
        (head.status() == Some(200)).then(|| head.get("x-app").unwrap_or_default().to_owned())
    }

    /// Those that answer any of `times` requests; none where one was not answered.
    fn apps(&self, to: SocketAddr, path: &str, headers: &[(&str, &str)], times: usize) -> BTreeSet<String> {
        let answers: Option<BTreeSet<String>> = (0..times).map(|_| self.app(to, path, headers)).collect();
        answers.unwrap_or_default()
    }

    /// The sum of the waypoint's series that begin like this.
    fn metric(&self, series: &str) -> u64 {
        let page = http::page(self.waypoint.place.pod(), 15020, "/metrics").unwrap();
        let found = page.lines().filter(|line| line.starts_with(series));
        found
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// How many of so many requests at once, which no application answers, are refused since there is too much.
    fn overloaded(&self, to: SocketAddr, times: usize) -> usize {
        std::thread::scope(|scope| {
            let one = || {
                let (head, body) = self.ask(to, "/", &[("x-answers", "hang")], HANGS)?;
                let is_overloaded = head.status() == Some(503) && head.get("x-envoy-overloaded") == Some("true");
                assert!(
                    is_overloaded == body.ends_with("reset reason: overflow"),
                    "{head:?}: {body}"
                );
                is_overloaded.then_some(())
            };
            let all: Vec<_> = (0..times).map(|_| scope.spawn(one)).collect();
            all.into_iter().filter_map(|one| one.join().unwrap()).count()
        })
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| {
            let log = self.waypoint.process.log_tail(40);
            panic!("{error:#}\n{log}\n{}", self.town.lab.logs(20))
        });
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn sessions_persist(place: &Place<'_>) {
    let web = place.service("sessions", None);
    let rule = |path: &str, session: Value| {
        let matches = json!([{ "path": { "value": path } }]);
        json!({ "matches": matches, "sessionPersistence": session, "backendRefs": [{ "name": "sessions", "port": 80 }] })
    };
    let rules = json!([
        rule("/cookie", json!({ "cookie": { "name": "who" } })),
        rule(
            "/permanent",
            json!({ "absoluteTimeout": "1h", "cookie": { "name": "long", "lifetimeType": "Permanent" } })
        ),
        rule("/header", json!({ "type": "Header", "header": { "name": "x-who" } })),
    ]);
    let parents = json!([{ "group": "", "kind": "Service", "name": "sessions" }]);
    let spec = json!({ "parentRefs": parents, "rules": rules });
    place.apply("gateway.networking.k8s.io/v1", "HTTPRoute", "sessions", &spec);
    let mut first = None;
    place.wait("a session to begin", || {
        first = place.ask(web, "/cookie", &[], ATTEMPT);
        first.as_ref().is_some_and(|(head, _)| head.get("set-cookie").is_some())
    });
    place.wait("both to be chosen", || {
        place.apps(web, "/cookie", &[], 20) == names(&["one", "two"])
    });
    let (head, _) = first.unwrap();
    let set = head.get("set-cookie").unwrap();
    assert!(
        set.starts_with("who=\"") && set.ends_with("; Path=/; HttpOnly") && !set.contains("Max-Age"),
        "{set}"
    );
    let cookie = set.split(';').next().unwrap();
    let own = names(&[head.get("x-app").unwrap()]);
    assert_eq!(place.apps(web, "/cookie", &[("cookie", cookie)], 20), own);
    let (again, _) = place.ask(web, "/cookie", &[("cookie", cookie)], ATTEMPT).unwrap();
    assert_eq!(again.get("set-cookie"), None, "what it has it need not be told");
    let (strange, _) = place
        .ask(web, "/cookie", &[("cookie", "who=\"MS4yLjMuNDo1\"")], ATTEMPT)
        .unwrap();
    assert!(
        strange.status() == Some(200) && strange.get("set-cookie").is_some(),
        "{strange:?}"
    );

    let (permanent, _) = place.ask(web, "/permanent", &[], ATTEMPT).unwrap();
    assert!(
        permanent.get("set-cookie").unwrap().contains("; Max-Age=3600; Path=/"),
        "{permanent:?}"
    );
    let (header, _) = place.ask(web, "/header", &[], ATTEMPT).unwrap();
    let (who, own) = (header.get("x-who").unwrap(), header.get("x-app").unwrap());
    assert_eq!(place.apps(web, "/header", &[("x-who", who)], 20), names(&[own]));
}

/// Of several backends of a rule a session has the one with its endpoint. Envoy chooses the backend before it looks at the session.
fn sessions_choose_backends(place: &Place<'_>, kind: Kind) {
    let web = place.service("divided", None);
    let port = json!({ "name": "http", "port": 80, "targetPort": APP, "protocol": "TCP", "appProtocol": "http" });
    let backends = ["one", "two"].map(|version| {
        let name = format!("half-{version}");
        let spec = ServiceSpec::new("town", &name).port_object(port.clone());
        place.town.lab.service(spec.selector("version", version)).unwrap();
        json!({ "name": name, "port": 80, "weight": 1 })
    });
    let rule = json!({ "sessionPersistence": { "cookie": { "name": "half" } }, "backendRefs": backends });
    let parents = json!([{ "group": "", "kind": "Service", "name": "divided" }]);
    let spec = json!({ "parentRefs": parents, "rules": [rule] });
    place.apply("gateway.networking.k8s.io/v1", "HTTPRoute", "divided", &spec);
    let mut first = None;
    place.wait("a session to begin", || {
        first = place.ask(web, "/", &[], ATTEMPT);
        first.as_ref().is_some_and(|(head, _)| head.get("set-cookie").is_some())
    });
    place.wait("both to be chosen", || place.apps(web, "/", &[], 20).len() == 2);
    let (head, _) = first.unwrap();
    let cookie = head.get("set-cookie").and_then(|set| set.split(';').next()).unwrap();
    let found = place.apps(web, "/", &[("cookie", cookie)], 40);
    match kind {
        Kind::Culvert => assert_eq!(found, names(&[head.get("x-app").unwrap()])),
        Kind::Envoy | Kind::EnvoyWorld => assert_eq!(found.len(), 2),
    }
}

fn subsets_of_two_rules_hold_together(place: &Place<'_>) {
    let web = place.service("parts", None);
    let subset = |name: &str| json!([{ "name": name, "labels": { "version": name } }]);
    place.rule("parts-a", "parts", json!({ "subsets": subset("one") }));
    place.rule("parts-b", "parts", json!({ "subsets": subset("two") }));
    let rule = |name: &str| {
        let route = json!([{ "destination": { "host": "parts", "subset": name } }]);
        json!({ "match": [{ "uri": { "prefix": format!("/{name}") } }], "route": route })
    };
    let spec = json!({ "hosts": ["parts"], "http": [rule("one"), rule("two")] });
    place.apply("networking.istio.io/v1", "VirtualService", "parts", &spec);
    place.wait("each subset to have its endpoint alone", || {
        ["one", "two"]
            .iter()
            .all(|name| place.apps(web, &format!("/{name}"), &[], 10) == names(&[name]))
    });
}

fn limits_hold(place: &Place<'_>) {
    let pool = |pool: Value| Some(json!({ "connectionPool": pool }));
    let few = place.service("few", pool(json!({ "http": { "http2MaxRequests": 2 } })));
    place.wait("requests beyond the limit to be refused", || {
        place.overloaded(few, 8) == 6
    });
    let narrow = json!({ "tcp": { "maxConnections": 1 }, "http": { "http1MaxPendingRequests": 1 } });
    let narrow = place.service("narrow", pool(narrow));
    // Each thread may have one connection to each endpoint.
    place.wait("requests to wait for a connection, and more to be refused", || {
        (5..40).contains(&place.overloaded(narrow, 40))
    });
    place.wait("requests to be answered again", || {
        place.apps(narrow, "/", &[], 10).len() == 2
    });
}

/// Who may not be tried again gets the endpoint's answer. How long a retry waits is left to chance, so that one or more have ended it.
fn retries_have_a_limit(place: &Place<'_>) {
    let again = place.service("again", None);
    let subsets = json!([{ "name": "one", "labels": { "version": "one" } }]);
    let traffic = json!({ "connectionPool": { "http": { "maxRetries": 1 } } });
    place.rule(
        "again",
        "again",
        json!({ "trafficPolicy": traffic, "subsets": subsets }),
    );
    let rule = json!({
        "retries": { "attempts": 1, "retryOn": "503", "backoff": "5s" },
        "headers": { "response": { "set": { "x-rule": "again" } } },
        "route": [{ "destination": { "host": "again", "subset": "one" } }],
    });
    let spec = json!({ "hosts": ["again"], "http": [rule] });
    place.apply("networking.istio.io/v1", "VirtualService", "again", &spec);
    place.wait("the rule to be in force", || {
        let answer = place.ask(again, "/", &[], ATTEMPT);
        answer.is_some_and(|(head, _)| head.status() == Some(200) && head.get("x-rule") == Some("again"))
    });
    let statuses: Vec<Option<u16>> = thread::scope(|scope| {
        let one = |number: usize| {
            let key = format!("again-{number}");
            let headers = [("x-key", key.as_str()), ("x-answers", "503,200")];
            let (head, body) = place.ask(again, "/", &headers, ATTEMPT * 4)?;
            assert_eq!((head.get("x-app"), body.as_str()), (Some("one"), "one"), "{head:?}");
            head.status()
        };
        let all: Vec<_> = (0..8).map(|number| scope.spawn(move || one(number))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for status in [200, 503] {
        assert!(statuses.contains(&Some(status)), "{statuses:?}");
    }
}

fn who_fails_is_left_out(place: &Place<'_>) {
    let outlier =
        json!({ "consecutive5xxErrors": 2, "interval": "1s", "baseEjectionTime": "300s", "maxEjectionPercent": 50 });
    let weak = place.service("weak", Some(json!({ "outlierDetection": outlier })));
    place.wait("both to be chosen", || place.apps(weak, "/", &[], 20).len() == 2);
    place.wait("the first that fails to be left out", || {
        for _ in 0..10 {
            let _ = place.ask(weak, "/", &[("x-answers", "503")], ATTEMPT);
        }
        place.apps(weak, "/", &[], 20).len() == 1
    });
}

/// After both of the above.
fn metrics_show_what_was_refused_and_who_is_left_out(place: &Place<'_>) {
    let refused = place.metric("culvert_waypoint_overloads_total{limit=\"cluster\"}");
    assert!(refused >= 6 + 5, "{refused}");
    let left_out = |service: &str| {
        let series = format!("culvert_waypoint_ejected_endpoints{{cluster=\"town/wp/town/{service}.town.");
        place.metric(&series)
    };
    assert_eq!(left_out("weak"), 1);
}

/// Beside Envoy, which has no such thing.
fn who_has_too_much_to_do_gets_less(place: &Place<'_>) {
    let busy = place.service("busy", None);
    place.wait("both to be chosen", || place.apps(busy, "/", &[], 20).len() == 2);
    place.wait("the one that asks for less to get less", || {
        let Some((refused, _)) = place.ask(busy, "/", &[("x-answers", "429")], ATTEMPT) else {
            return false;
        };
        let begun = Instant::now();
        let app = refused.get("x-app").unwrap_or_default();
        let answers: Vec<_> = (0..20)
            .map_while(|_| (begun.elapsed() < Duration::from_millis(800)).then(|| place.app(busy, "/", &[])))
            .collect();
        let same = answers.iter().filter(|answer| answer.as_deref() == Some(app)).count();
        answers.len() >= 10 && same * 4 <= answers.len()
    });
}

fn sends_requests_where_they_should_go(kind: Kind) {
    let lab = lab(&format!("wp_upstream_{}", kind.word()));
    let place = Place::make(&lab, kind);
    sessions_persist(&place);
    sessions_choose_backends(&place, kind);
    subsets_of_two_rules_hold_together(&place);
    limits_hold(&place);
    retries_have_a_limit(&place);
    who_fails_is_left_out(&place);
    if kind == Kind::Culvert {
        metrics_show_what_was_refused_and_who_is_left_out(&place);
        who_has_too_much_to_do_gets_less(&place);
    }
}

#[test]
fn culvert_sends_requests_where_they_should_go() {
    sends_requests_where_they_should_go(Kind::Culvert);
}

#[test]
fn envoy_sends_requests_where_they_should_go() {
    sends_requests_where_they_should_go(Kind::Envoy);
}

/// Ends a load.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn rules_change_under_load(kind: Kind) {
    let lab = lab(&format!("wp_changes_{}", kind.word()));
    let place = Place::make(&lab, kind);
    let to = place.service("web", None);
    let both = BTreeSet::from(["one".to_owned(), "two".to_owned()]);
    place.wait("both to be asked", || place.apps(to, "/", &[], 12) == both);
    let ends = AtomicBool::new(false);
    let load = || {
        let mut answers = Vec::new();
        while !ends.load(Ordering::Relaxed) {
            answers.push(place.ask(to, "/load", &[], ATTEMPT).and_then(|(head, _)| head.status()));
        }
        answers
    };
    let sticky = json!({ "loadBalancer": { "consistentHash": { "httpHeaderName": "x-user" } } });
    let random = json!({ "loadBalancer": { "simple": "RANDOM" } });
    let answers: Vec<Option<u16>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(load)).collect();
        // Also where what is waited for does not come.
        let end = Ends(&ends);
        for _ in 0..3 {
            for (policy, count) in [(&sticky, 1), (&random, 2)] {
                place.rule("web", "web", json!({ "trafficPolicy": policy }));
                place.wait("a rule to be in force", || {
                    place.apps(to, "/", &[("x-user", "ann")], 12).len() == count
                });
            }
        }
        drop(end);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    eprintln!("{} requests while rules changed", answers.len());
    let failed: Vec<_> = answers.iter().filter(|status| **status != Some(200)).collect();
    let log = place.waypoint.process.log_tail(40);
    assert!(failed.is_empty(), "{failed:?} of {}\n{log}", answers.len());
    if kind == Kind::Culvert {
        let all = place.waypoint.process.log_tail(100_000);
        assert!(!all.contains("did not come in time"), "{all}");
        let metrics = http::page(place.waypoint.place.pod(), 15020, "/metrics").unwrap();
        assert!(metrics.contains("culvert_waypoint_warming_clusters 0"), "{metrics}");
        let dump = http::page(place.waypoint.place.pod(), 15000, "/config_dump").unwrap();
        assert!(dump.contains("\"warming\": {}"), "{dump}");
    }
}

#[test]
fn culvert_fails_no_request_while_rules_change() {
    rules_change_under_load(Kind::Culvert);
}

#[test]
fn envoy_fails_no_request_while_rules_change() {
    rules_change_under_load(Kind::Envoy);
}
