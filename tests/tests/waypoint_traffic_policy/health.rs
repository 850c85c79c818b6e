//! Endpoints that are asked whether they serve.

use std::net::SocketAddr;

use culvert_lab::{PodSpec, ServiceSpec};
use culvert_tests::{PATIENCE, health_app::HealthApp, http, lab, town::PORT, waypoint::Kind};
use serde_json::{Value, json};

use super::scene::{ATTEMPT, Scene, policy, port, service};

fn looks_after_endpoints(kind: Kind) {
    const APP: u16 = PORT + 10;
    let lab = lab(&format!("wp_health_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let pods = [("one", 1), ("two", 2)].map(|(name, node)| {
        let spec = PodSpec::new("town", name).on(node).label("app", "pair");
        lab.pod(spec).unwrap()
    });
    scene
        .town
        .mesh
        .wait_enrolled(&[&pods[0], &pods[1]], true, PATIENCE)
        .unwrap();
    let [one, two] = [(&pods[0], "one"), (&pods[1], "two")].map(|(pod, name)| HealthApp::serve(pod, APP, name));
    let _third = HealthApp::serve(&pods[0], APP + 2, "one");
    let make = |name: &str, protocol: &str, target: u16| {
        let spec = ServiceSpec::new("town", name)
            .port_object(port(protocol, 80, target))
            .selector("app", "pair")
            .label("culvert.dev/use-waypoint", "wp");
        SocketAddr::from((lab.service(spec).unwrap().ip4(), 80))
    };
    let (web, calls) = (make("pair", "http", APP), make("calls", "grpc", APP + 1));
    let often = json!({"interval": "1s", "timeout": "5s", "healthy": 2, "unhealthy": 2});
    let check = |how: &str, what: Value| {
        let mut check = often.clone();
        check[how] = what;
        json!({"healthCheck": check})
    };
    let statuses = json!({"path": "/healthz", "statuses": ["200-299"]});
    scene.apply(&policy("pair", &service("pair"), &check("http", statuses)));
    scene.apply(&policy("calls", &service("calls"), &check("grpc", json!({}))));
    let apps = |to: SocketAddr| {
        let ask = |_| {
            let lines = ["GET / HTTP/1.1".to_owned(), "host: a".to_owned()];
            let (head, _) = http::ask(&scene.town.client, to, &lines, ATTEMPT).ok()?;
            Some(head.get("x-app").unwrap_or("none").to_owned())
        };
        (0..12).map(ask).collect::<std::collections::BTreeSet<_>>()
    };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| Some((*name).to_owned()))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let both = set(&["one", "two"]);
    if kind != Kind::Culvert {
        // Envoy checks from its main thread, which reaches no internal listener: a check that it obeyed would fail for all endpoints.
        two.set(false);
        scene.wait(
            "all to get requests though one says that it does not serve",
            &mut || apps(web) == set(&["one", "two"]),
        );
        return;
    }
    scene.wait("endpoints to be looked after", &mut || {
        one.checks() > 1 && two.checks() > 1
    });
    scene.wait("both to get requests", &mut || apps(web) == both && apps(calls) == both);
    two.set(false);
    let first = set(&["one"]);
    scene.wait("one to be left out", &mut || apps(web) == first && apps(calls) == first);
    assert_eq!(apps(web), first);
    one.set(false);
    scene.wait("nobody to be there", &mut || apps(web) == set(&["none"]));
    one.set(true);
    two.set(true);
    scene.wait("both to be back", &mut || apps(web) == both && apps(calls) == both);
    let log = scene.waypoint.process.log_tail(5000);
    assert!(
        log.contains("fails its health checks") && log.contains("status 503"),
        "{log}"
    );
    assert!(log.contains("serving status 2"), "{log}");
    let page = http::page(scene.waypoint.place.pod(), 15000, "/config_dump").unwrap();
    assert!(page.contains("checked"), "{page}");
    // Where nobody takes connections nobody gets requests: the second pod has no such port.
    let third = make("third", "http", APP + 2);
    scene.apply(&policy("third", &service("third"), &check("tcp", json!({}))));
    scene.wait("only one to be left", &mut || apps(third) == first);
    assert_eq!(apps(third), first);
}

#[test]
fn culvert_looks_after_endpoints() {
    looks_after_endpoints(Kind::Culvert);
}

#[test]
fn envoy_serves_on_where_health_is_checked() {
    looks_after_endpoints(Kind::Envoy);
}
