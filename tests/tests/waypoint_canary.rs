//! Two waypoints in front of one Service: each gets its share of the connections, and nobody gets around them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, http, lab,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

const WEB: u16 = PORT + 1;
const ATTEMPT: Duration = Duration::from_secs(5);

/// A path that the waypoint or the Service of a name refuses.
fn refuse(kind: &str, name: &str, path: &str) -> Value {
    let group = if kind == "Gateway" {
        "gateway.networking.k8s.io"
    } else {
        ""
    };
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": format!("no-{name}"), "namespace": "town" },
        "spec": {
            "targetRefs": [{ "group": group, "kind": kind, "name": name }], "action": "DENY",
            "rules": [{ "to": [{ "operation": { "paths": [path] } }] }],
        },
    })
}

/// A waypoint of one kind and a canary of another.
fn connections_are_shared_with_a_canary(primary: Kind, kind: Kind) {
    let lab = lab(&format!("wp_canary_{}_{}", primary.word(), kind.word()));
    let town = Town::meshed(&lab);
    http::serve(&town.server, WEB, "app");
    let port = json!({ "name": "http", "port": 80, "targetPort": WEB, "protocol": "TCP", "appProtocol": "http" });
    let spec = ServiceSpec::new("town", "web").port_object(port.clone());
    let web = lab.service(spec.selector("app", "server")).unwrap();
    let service = SocketAddr::from((web.ip4(), 80));
    let own = SocketAddr::from((town.server.ip4(), WEB));
    lab.namespace("outside").unwrap();
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let ask = |weight: Option<u32>| {
        let mut labels = json!({ "culvert.dev/use-waypoint": "wp" });
        let mut annotations = json!({});
        if let Some(weight) = weight {
            labels["culvert.dev/use-waypoint-canary"] = json!("wp2");
            annotations["culvert.dev/use-waypoint-canary-weight"] = json!(weight.to_string());
        }
        lab.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "namespace": "town", "labels": labels, "annotations": annotations },
            "spec": {
                "clusterIP": web.ip4(), "clusterIPs": web.addresses(), "selector": { "app": "server" }, "ports": [port],
            },
        }))
        .unwrap();
    };
    let status = |to: SocketAddr, path: &str| {
        let answer = http::get(&town.client, to, "web.town", path, ATTEMPT);
        answer.map_or(0, |answer| answer.status)
    };
    // Each request is a connection of its own.
    let statuses = |path: &str, count: usize| -> Vec<u16> { (0..count).map(|_| status(service, path)).collect() };
    let all = |path: &str, expected: u16| statuses(path, 20).into_iter().all(|status| status == expected);
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(60)));
    };
    let is_let_in = || http::get(&stranger, own, "web.town", "/", ATTEMPT).is_ok();
    let findings = || town.mesh.get_controller("/findings").unwrap().body;

    wait("the pod to be reached by everybody", &mut || {
        is_let_in() && status(own, "/") == 200
    });

    // Each waypoint tells itself by a path that it refuses, and the Service's policy is to bind at both.
    lab.apply(&refuse("Gateway", "wp", "/at-primary")).unwrap();
    lab.apply(&refuse("Gateway", "wp2", "/at-canary")).unwrap();
    lab.apply(&refuse("Service", "web", "/admin")).unwrap();
    let primary = Waypoint::start(&lab, &town.mesh, "town", "wp", primary);
    ask(Some(50));
    wait("a canary that is not there to get nothing", &mut || {
        all("/at-primary", 403) && findings().contains("there is no waypoint town/wp2 of Culvert")
    });

    let mut canary = Waypoint::start(&lab, &town.mesh, "town", "wp2", kind);
    wait("both to get connections", &mut || {
        let found = statuses("/at-canary", 20);
        found.contains(&403) && found.contains(&200) && found.iter().all(|status| [200, 403].contains(status))
    });
    let found = statuses("/at-canary", 200);
    let [at_canary, at_primary] = [403, 200].map(|status| found.iter().filter(|one| **one == status).count());
    assert_eq!(at_canary + at_primary, 200, "{found:?}");
    assert!(
        (60..=140).contains(&at_canary),
        "{at_canary} of 200, with half of the weight"
    );
    wait("the Service's policy to bind at both", &mut || all("/admin", 403));
    assert!(all("/", 200));
    assert!(!findings().contains("wp2"), "{}", findings());

    // Nobody goes around both: whoever dials the pod is led to the first, and who is outside is refused.
    wait("the pod to be reached through the waypoint alone", &mut || {
        status(own, "/at-primary") == 403 && status(own, "/") == 200 && !is_let_in()
    });
    assert!(!is_let_in(), "a stranger reaches the pod");

    for (weight, path) in [(0, "/at-primary"), (100, "/at-canary"), (0, "/at-primary")] {
        ask(Some(weight));
        wait(
            &format!("{path} to be refused alone, with the weight {weight}"),
            &mut || all(path, 403),
        );
        assert!(all("/", 200));
        assert!(!is_let_in(), "a stranger reaches the pod");
    }

    // One that does not answer leaves its share to the other.
    ask(Some(50));
    wait("both to get connections again", &mut || {
        let found = statuses("/at-canary", 20);
        found.contains(&403) && found.contains(&200)
    });
    canary.process.kill().unwrap();
    wait("the waypoint to stand in for its canary", &mut || {
        all("/at-primary", 403)
    });

    // It is taken away.
    ask(None);
    wait("the waypoint to have everything", &mut || {
        all("/at-primary", 403) && all("/", 200) && !findings().contains("wp2 ")
    });
    drop(primary);
}

#[test]
fn culvert_shares_connections_with_a_canary_of_its_own_kind() {
    connections_are_shared_with_a_canary(Kind::Culvert, Kind::Culvert);
}

#[test]
fn culvert_shares_connections_with_envoy_as_its_canary() {
    connections_are_shared_with_a_canary(Kind::Culvert, Kind::Envoy);
}

#[test]
fn envoy_shares_connections_with_culvert_as_its_canary() {
    connections_are_shared_with_a_canary(Kind::Envoy, Kind::Culvert);
}
