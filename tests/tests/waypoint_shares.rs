//! Which endpoints get how many requests behind a waypoint: busy ones, those with weights, and those that fail where hardly any other is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use culvert_tests::{
    app, lab,
    pair::{Pair, names},
    waypoint::Kind,
};
use serde_json::{Value, json};

/// How long an answer may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Where servers on the nodes listen.
const SERVED: u16 = 8091;
/// Outside of the mesh's ranges, and nobody's.
const WEIGHTED: [u8; 4] = [198, 18, 0, 52];

/// Of two that are drawn the one with fewer requests under way is taken, and the same may be drawn twice: of two endpoints the busy one
/// gets a quarter.
fn a_busy_endpoint_gets_a_quarter(pair: &Pair<'_>) {
    let to = pair.service("busy", &json!({}), None);
    let backends = json!([{ "name": "busy", "port": 80 }]);
    let session = json!({ "type": "Header", "header": { "name": "x-who" } });
    let rules = json!([
        { "matches": [{ "headers": [{ "name": "x-pin", "value": "yes" }] }], "sessionPersistence": session, "backendRefs": backends },
        { "backendRefs": backends },
    ]);
    let parents = json!([{ "group": "", "kind": "Service", "name": "busy" }]);
    let spec = json!({ "parentRefs": parents, "rules": rules });
    pair.apply("gateway.networking.k8s.io/v1", "HTTPRoute", "busy", &spec);
    let mut found = None;
    pair.wait("a session to begin", || {
        let answer = pair.ask(to, &[("x-pin", "yes")], ATTEMPT);
        found = answer.and_then(|(head, _)| Some((head.get("x-who")?.to_owned(), head.get("x-app")?.to_owned())));
        found.is_some()
    });
    let (who, app) = found.unwrap();
    let hanging: Vec<_> = (0..20)
        .map(|number| {
            let mut stream = pair.town.client.connect(to, ATTEMPT).unwrap();
            let head = format!("x-pin: yes\r\nx-who: {who}\r\nx-answers: hang\r\nx-key: busy-{number}");
            write!(stream, "GET / HTTP/1.1\r\nhost: x.town\r\n{head}\r\n\r\n").unwrap();
            stream
        })
        .collect();
    pair.wait("all of them to be under way at one endpoint", || {
        (0..20).all(|number| {
            pair.seen
                .with_key(&format!("busy-{number}"))
                .iter()
                .any(|arrival| arrival.at == app)
        })
    });
    let share = pair.share(to, &app, 200);
    assert!((25..=78).contains(&share), "the busy one gets {share} of 200");
    drop(hanging);
}

/// In turn, as their weights are.
fn endpoints_get_what_their_weights_are(pair: &Pair<'_>) {
    // On the nodes: what is known of a pod counts before what an entry says of its address.
    let endpoints = [(1, "heavy", 3), (2, "light", 1)].map(|(number, name, weight)| {
        let node = pair.town.lab.node(number);
        let listener = node.run(|| TcpListener::bind((node.ip4(), SERVED))).unwrap();
        app::serve_at(listener.unwrap(), name, &pair.seen);
        json!({ "address": node.ip4().to_string(), "weight": weight })
    });
    let to = SocketAddr::from((WEIGHTED, 80));
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": { "name": "weighted", "namespace": "town", "labels": { "culvert.dev/use-waypoint": "wp" } },
        "spec": {
            "hosts": ["weighted.example"], "addresses": [to.ip().to_string()], "location": "MESH_EXTERNAL", "resolution": "STATIC",
            "ports": [{ "number": 80, "name": "http", "protocol": "HTTP", "targetPort": SERVED }], "endpoints": endpoints,
        },
    });
    pair.town.lab.apply(&object).unwrap();
    pair.rule(
        "weighted.example",
        &json!({ "loadBalancer": { "simple": "ROUND_ROBIN" } }),
    );
    // Each thread has a turn of its own.
    pair.wait("three of four to go to the heavier one", || {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..80 {
            *counts.entry(pair.app(to, &[]).unwrap_or_default()).or_default() += 1;
        }
        let of = |name: &str| counts.get(name).copied().unwrap_or_default();
        (57..=63).contains(&of("heavy")) && of("heavy") + of("light") == 80
    });
}

/// One of two is left out once it fails; nobody is where no share of them may be; and both get requests again where fewer than the
/// rule wants are left.
fn who_fails_is_left_out_as_far_as_the_rule_lets(pair: &Pair<'_>) {
    let outlier = |more: Value| {
        let mut outlier = json!({ "consecutive5xxErrors": 2, "interval": "1s", "baseEjectionTime": "300s" });
        outlier
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Some(json!({ "outlierDetection": outlier }))
    };
    let services = [
        ("spared", json!({})),
        ("panic", json!({ "maxEjectionPercent": 50, "minHealthPercent": 51 })),
        ("half", json!({ "maxEjectionPercent": 50, "minHealthPercent": 50 })),
    ];
    let both = names(&["near", "far"]);
    let made = services.map(|(name, more)| (name, pair.service(name, &json!({}), outlier(more))));
    for (name, to) in &made {
        pair.wait(&format!("both to be asked for {name}"), || pair.apps(*to, 20) == both);
    }
    pair.wait("one of two to be left out", || {
        for (_, to) in &made {
            for _ in 0..10 {
                let _ = pair.ask(*to, &[("x-answers", "503")], ATTEMPT);
            }
        }
        pair.apps(made[2].1, 20).len() == 1
    });
    assert_eq!(pair.apps(made[0].1, 40), both, "a tenth of two is nobody");
    assert_eq!(pair.apps(made[1].1, 40), both, "half is less than the rule wants");
}

fn endpoints_share(kind: Kind) {
    let lab = lab(&format!("wp_shares_{}", kind.word()));
    let pair = Pair::make(&lab, kind);
    a_busy_endpoint_gets_a_quarter(&pair);
    endpoints_get_what_their_weights_are(&pair);
    who_fails_is_left_out_as_far_as_the_rule_lets(&pair);
}

#[test]
fn culvert_gives_endpoints_their_shares() {
    endpoints_share(Kind::Culvert);
}

#[test]
fn envoy_gives_endpoints_their_shares() {
    endpoints_share(Kind::Envoy);
}
