//! How endpoints share requests behind a waypoint: new ones, slow ones, those that a hash leads to, and how many retries there may be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    collections::BTreeMap,
    io::{BufReader, Write as _},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use culvert_lab::{PodSpec, ServiceSpec};
use culvert_tests::{
    PATIENCE,
    http::read_head,
    lab,
    pair::{Pair, names},
    town::PORT,
    waypoint::Kind,
};
use serde_json::json;

/// How long is waited for an answer that must not come.
const HANGS: Duration = Duration::from_secs(2);

/// As long as the window in which an endpoint counts as new.
const WARMING: Duration = Duration::from_secs(8);

fn a_new_endpoint_begins_with_less_and_one_that_goes_moves_few_keys(pair: &Pair<'_>) {
    let warmup =
        json!({ "loadBalancer": { "simple": "ROUND_ROBIN", "warmup": { "duration": "8s", "minimumPercent": 10.0 } } });
    let warm = pair.service("warm", &json!({}), Some(warmup));
    let hashed = json!({ "loadBalancer": { "consistentHash": { "httpHeaderName": "x-user" } } });
    let hashed = pair.service("hashed", &json!({}), Some(hashed));
    let keys: Vec<String> = (0..60).map(|key| format!("user-{key}")).collect();
    let places = || -> Option<BTreeMap<&str, String>> {
        let place = |key: &str| pair.app(hashed, &[("x-user", key)]);
        keys.iter().map(|key| Some((key.as_str(), place(key)?))).collect()
    };
    pair.wait("both to be asked", || pair.apps(warm, 20) == names(&["near", "far"]));
    let since = Instant::now();
    let mut before = BTreeMap::new();
    pair.wait("keys to have their endpoints", || {
        before = places().unwrap_or_default();
        before.values().any(|app| app == "near") && before.values().any(|app| app == "far")
    });
    assert_eq!(places().unwrap(), before, "a key stays where it is");
    pair.wait("the two to be no new ones any more", || since.elapsed() > WARMING);

    let joined = Instant::now();
    pair.join("third", 1);
    let mut first = 0;
    pair.wait("the new one to be asked", || {
        first = pair.share(warm, "third", 30);
        first > 0
    });
    // Beside two of weight 1, by the weight that it may have had at the last of them, and what chance adds.
    let weight = (joined.elapsed().as_secs_f64() / WARMING.as_secs_f64()).clamp(0.1, 1.0);
    let most = 30.0 * weight / (2.0 + weight) + 3.0;
    assert!(
        first as f64 <= most,
        "at first it gets less than its ten of thirty: {first}, not {most}"
    );
    pair.wait("it to have its whole share", || {
        (9..=11).contains(&pair.share(warm, "third", 30))
    });

    let mut after = BTreeMap::new();
    pair.wait("keys to lead to the new one", || {
        after = places().unwrap_or_default();
        after.values().any(|app| app == "third")
    });
    let moved = |from: &BTreeMap<&str, String>, to: &BTreeMap<&str, String>| {
        let others = from
            .iter()
            .filter(|(key, app)| *app != "third" && to[*key] != "third" && to[*key] != **app);
        others.count()
    };
    assert!(moved(&before, &after) <= 20, "{before:?} {after:?}");
    pair.town.lab.delete("Pod", "town", "third").unwrap();
    let mut last = BTreeMap::new();
    pair.wait("no key to lead to the one that goes", || {
        last = places().unwrap_or_default();
        !last.is_empty() && last.values().all(|app| app != "third")
    });
    assert_eq!(last, before, "what the same endpoints are asked for is the same again");
}

fn no_more_is_tried_again_than_the_budget_has(pair: &Pair<'_>) {
    let budget = json!({ "retryBudget": { "percent": 1.0, "minRetryConcurrency": 3 } });
    let all = pair.service("budget", &json!({ "selector": { "version": "near" } }), Some(budget));
    let retries = json!({ "attempts": 1, "retryOn": "5xx" });
    let http = json!([{ "route": [{ "destination": { "host": "budget" } }], "retries": retries }]);
    let spec = json!({ "hosts": ["budget"], "http": http });
    pair.apply("networking.istio.io/v1", "VirtualService", "budget", &spec);
    pair.wait("one endpoint to be asked", || pair.apps(all, 20) == names(&["near"]));
    let mut round = 0;
    pair.wait(
        "three of twenty to be tried again, and others to be answered as they were",
        || {
            round += 1;
            let hanging: Vec<bool> = thread::scope(|scope| {
                let one = |number: usize| {
                    let key = format!("budget-{round}-{number}");
                    scope.spawn(move || {
                        let headers = [("x-key", key.as_str()), ("x-answers", "503,hang")];
                        pair.ask(all, &headers, HANGS).is_none()
                    })
                };
                let asked: Vec<_> = (0..20).map(one).collect();
                asked.into_iter().map(|one| one.join().unwrap()).collect()
            });
            hanging.into_iter().filter(|hangs| *hangs).count() == 3
        },
    );
}

/// Beside Envoy, which has no such balancer.
#[allow(clippy::disallowed_methods, reason = "an endpoint is slow; nothing is waited for")]
fn a_slow_endpoint_gets_less(pair: &Pair<'_>) {
    const PEAK: u16 = PORT + 9;
    for (name, node, delay) in [("quick", 1, 0), ("slow", 2, 60)] {
        let spec = PodSpec::new("town", name).on(node).label("app", "peak");
        let pod = pair.town.lab.pod(spec).unwrap();
        let listener = pod.listen(SocketAddr::from((pod.ip4(), PEAK))).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    let mut reader = BufReader::new(stream);
                    while let Ok(Some(_)) = read_head(&mut reader) {
                        thread::sleep(Duration::from_millis(delay));
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-app: {name}\r\n\r\n");
                        if writer.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        pair.town.mesh.wait_enrolled(&[&pod], true, PATIENCE).unwrap();
    }
    let port = json!({ "name": "http", "port": 80, "targetPort": PEAK, "appProtocol": "http" });
    let service = |name: &str| {
        let spec = ServiceSpec::new("town", name)
            .port_object(port.clone())
            .selector("app", "peak");
        let made = pair
            .town
            .lab
            .service(spec.label("culvert.dev/use-waypoint", "wp"))
            .unwrap();
        made.ip4()
    };
    let (plain, peak) = (service("plain"), service("peak"));
    let annotated = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "peak", "namespace": "town", "labels": { "culvert.dev/use-waypoint": "wp" },
            "annotations": { "culvert.dev/load-balancer": "peak-ewma" },
        },
        "spec": { "clusterIP": peak.to_string(), "clusterIPs": [peak.to_string()], "selector": { "app": "peak" }, "ports": [port] },
    });
    pair.town.lab.apply(&annotated).unwrap();
    let (plain, peak) = ((plain, 80).into(), (peak, 80).into());
    // One request after the other: by requests under way alone both get the same, and by time the slow one where it is drawn twice.
    pair.wait("half to go to the slow one without", || {
        (12..=28).contains(&pair.share(plain, "slow", 40))
    });
    // More than once where the machine was slower than the endpoint.
    pair.wait("few to go to the slow one", || pair.share(peak, "slow", 120) <= 45);
}

fn endpoints_share(kind: Kind) {
    let lab = lab(&format!("wp_balancing_{}", kind.word()));
    let pair = Pair::make(&lab, kind);
    a_new_endpoint_begins_with_less_and_one_that_goes_moves_few_keys(&pair);
    no_more_is_tried_again_than_the_budget_has(&pair);
    if kind == Kind::Culvert {
        a_slow_endpoint_gets_less(&pair);
    }
}

#[test]
fn culvert_endpoints_share() {
    endpoints_share(Kind::Culvert);
}

#[test]
fn envoy_endpoints_share() {
    endpoints_share(Kind::Envoy);
}
