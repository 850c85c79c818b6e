//! Endpoints that are near come first, and others where those fail: by what DestinationRules and Services say, at each kind of waypoint.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_tests::{
    lab,
    pair::{Pair, names},
    waypoint::Kind,
};
use serde_json::{Value, json};

const ATTEMPT: Duration = Duration::from_secs(5);

/// Who fails twice is left out, for so long.
fn outlier(ejection: &str) -> Value {
    json!({
        "consecutive5xxErrors": 2, "interval": "1s", "baseEjectionTime": ejection, "maxEjectionPercent": 100,
    })
}

fn who_is_near_comes_first_fails_and_comes_back(pair: &Pair<'_>) {
    let policy = json!({ "outlierDetection": outlier("3s") });
    let to = pair.service("failover", &json!({}), Some(policy));
    pair.wait("the near one alone to be asked", || {
        pair.apps(to, 20) == names(&["near"])
    });
    pair.wait("the far one to be asked when the near one fails", || {
        for _ in 0..3 {
            let _ = pair.ask(to, &[("x-answers", "503")], ATTEMPT);
        }
        pair.app(to, &[]).as_deref() == Some("far")
    });
    pair.wait("the near one to be back", || pair.apps(to, 20) == names(&["near"]));
    // Switched off by the rule.
    let policy = json!({
        "outlierDetection": outlier("3s"), "loadBalancer": { "localityLbSetting": { "enabled": false } },
    });
    pair.rule("failover", &policy);
    pair.wait("both to be asked", || pair.apps(to, 20) == names(&["near", "far"]));
    // By labels: both are in one region, and nothing else counts.
    let policy = json!({
        "outlierDetection": outlier("3s"),
        "loadBalancer": { "localityLbSetting": { "failoverPriority": ["topology.kubernetes.io/zone"] } },
    });
    pair.rule("failover", &policy);
    pair.wait("the zone to count", || pair.apps(to, 20) == names(&["near"]));
    let policy = json!({
        "outlierDetection": outlier("3s"),
        "loadBalancer": { "localityLbSetting": { "failoverPriority": ["topology.kubernetes.io/region"] } },
    });
    pair.rule("failover", &policy);
    pair.wait("the region alone to count", || {
        pair.apps(to, 20) == names(&["near", "far"])
    });
    // And by a label of pods' own.
    let policy = json!({
        "outlierDetection": outlier("3s"), "loadBalancer": { "localityLbSetting": { "failoverPriority": ["version=far"] } },
    });
    pair.rule("failover", &policy);
    pair.wait("the pods' label to count", || pair.apps(to, 20) == names(&["far"]));
}

fn shares_are_as_they_are_said(pair: &Pair<'_>) -> SocketAddr {
    let distribute = json!([
        { "from": "r1/zb/*", "to": { "r1/zb/*": 80, "r1/za/*": 20 } },
        { "from": "r1/zc/*", "to": { "r1/za/*": 100 } },
    ]);
    let policy = json!({ "loadBalancer": { "localityLbSetting": { "distribute": distribute } } });
    let to = pair.service("shares", &json!({}), Some(policy));
    pair.wait("four of five to go to the near one", || {
        let near = pair.share(to, "near", 200);
        (140..=180).contains(&near)
    });
    to
}

fn a_service_may_say_so(pair: &Pair<'_>) -> SocketAddr {
    let zone = pair.service("zone", &json!({ "trafficDistribution": "PreferSameZone" }), None);
    let node = pair.service("node", &json!({ "trafficDistribution": "PreferSameNode" }), None);
    let any = pair.service("any", &json!({}), None);
    for to in [zone, node] {
        pair.wait("the near one alone to be asked", || {
            pair.apps(to, 20) == names(&["near"])
        });
    }
    pair.wait("both to be asked", || pair.apps(any, 20) == names(&["near", "far"]));
    zone
}

fn a_retry_goes_far_where_that_is_said(pair: &Pair<'_>) {
    let policy = json!({ "outlierDetection": { "consecutive5xxErrors": 1000 } });
    let to = pair.service("remote", &json!({}), Some(policy));
    let retries = json!({ "attempts": 3, "retryOn": "5xx", "retryRemoteLocalities": true });
    let http = json!([{ "route": [{ "destination": { "host": "remote" } }], "retries": retries }]);
    let spec = json!({ "hosts": ["remote"], "http": http });
    pair.apply("networking.istio.io/v1", "VirtualService", "remote", &spec);
    pair.wait("the near one alone to be asked", || {
        pair.apps(to, 20) == names(&["near"])
    });
    let mut number = 0;
    pair.wait("the third try to go to the far one", || {
        number += 1;
        let key = format!("remote-{number}");
        let _ = pair.ask(to, &[("x-answers", "503"), ("x-key", &key)], ATTEMPT);
        let tries: Vec<String> = pair.seen.with_key(&key).into_iter().map(|arrival| arrival.at).collect();
        tries.len() == 4 && tries[..3] == ["near", "near", "far"]
    });
}

/// Of two near ones one fails: what is left of them takes 1.4 times its share, and the rest goes far.
fn who_is_near_takes_more_than_its_share(pair: &Pair<'_>) {
    let policy = json!({ "outlierDetection": {
        "consecutive5xxErrors": 2, "interval": "1s", "baseEjectionTime": "300s", "maxEjectionPercent": 50,
    } });
    pair.join("beside", 2);
    let to = pair.service("spill", &json!({}), Some(policy));
    pair.wait("both near ones to be asked", || {
        pair.apps(to, 20) == names(&["near", "beside"])
    });
    pair.wait("three of ten to go far", || {
        for _ in 0..3 {
            let _ = pair.ask(to, &[("x-answers", "503"), ("x-key", "spill")], ATTEMPT);
        }
        (40..=80).contains(&pair.share(to, "far", 200))
    });
    pair.town.lab.delete("Pod", "town", "beside").unwrap();
    pair.wait("the other one to be gone", || {
        let apps = pair.apps(to, 40);
        !apps.is_empty() && !apps.contains("beside")
    });
}

fn a_node_is_somewhere_else(pair: &Pair<'_>, zone: SocketAddr, shares: SocketAddr) {
    // The waypoint's own node is in another zone now.
    pair.locate(2, "r1", "zc");
    pair.wait("what is said of the other zone to hold", || {
        pair.apps(shares, 20) == names(&["far"])
    });
    assert_eq!(pair.apps(zone, 20), names(&["near"]));
    // And so is the other one's.
    pair.locate(1, "r1", "zc");
    pair.wait("both to be near", || pair.apps(zone, 20) == names(&["near", "far"]));
}

fn goes_by_localities(kind: Kind) {
    let lab = lab(&format!("wp_locality_{}", kind.word()));
    let pair = Pair::make(&lab, kind);
    pair.locate(1, "r1", "za");
    pair.locate(2, "r1", "zb");
    who_is_near_comes_first_fails_and_comes_back(&pair);
    let shares = shares_are_as_they_are_said(&pair);
    let zone = a_service_may_say_so(&pair);
    a_retry_goes_far_where_that_is_said(&pair);
    who_is_near_takes_more_than_its_share(&pair);
    a_node_is_somewhere_else(&pair, zone, shares);
}

#[test]
fn culvert_goes_by_localities() {
    goes_by_localities(Kind::Culvert);
}

#[test]
fn envoy_goes_by_localities() {
    goes_by_localities(Kind::Envoy);
}
