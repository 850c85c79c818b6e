//! Pods behind a waypoint by their own addresses: each kind of waypoint leads there past routes, and not past policies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{Pod, PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, echo, http, lab,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

const WEB: u16 = PORT + 1;
const BYTES: u16 = PORT + 2;
/// HTTP or bytes.
const ANY: u16 = PORT + 3;
const ATTEMPT: Duration = Duration::from_secs(5);

fn policy(name: &str, service: &str, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{ "group": "", "kind": "Service", "name": service }]);
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": "town" }, "spec": spec,
    })
}

/// Everything that is asked for at `web` goes elsewhere.
fn away() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "away", "namespace": "town" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web", "port": 80 }],
            "rules": [{ "filters": [{ "type": "RequestRedirect", "requestRedirect": { "hostname": "away.example" } }] }],
        },
    })
}

fn serve(pod: &Pod, name: &str) {
    http::serve(pod, WEB, name);
    echo::serve(pod, BYTES);
}

fn pods_are_reached_past_routes_and_not_past_policies(kind: Kind) {
    let lab = lab(&format!("wp_own_{}", kind.word()));
    let town = Town::meshed(&lab);
    serve(&town.server, "one");
    serve(&town.neighbour, "two");
    echo::serve(&town.server, ANY);
    http::serve(&town.neighbour, ANY, "any");
    let port = |name: &str, port: u16, target: u16| json!({ "name": name, "port": port, "targetPort": target, "protocol": "TCP" });
    let behind = |name: &str| ServiceSpec::new("town", name).label("culvert.dev/use-waypoint", "wp");
    let web = behind("web")
        .port_object(port("http", 80, WEB))
        .port_object(port("tcp", 90, BYTES))
        .selector("app", "server");
    let web = lab.service(web).unwrap();
    let other = behind("other")
        .port_object(port("http", 80, WEB))
        .port_object(port("tcp", 90, BYTES))
        .selector("app", "neighbour");
    lab.service(other).unwrap();
    for name in ["server", "neighbour"] {
        let spec = behind(&format!("any-{name}")).port_object(port("any", 91, ANY));
        lab.service(spec.selector("app", name)).unwrap();
    }
    let guest = lab
        .pod(PodSpec::new("town", "guest").on(1).service_account("guest"))
        .unwrap();
    lab.apply(&away()).unwrap();
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", kind);
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        wait_until(what, PATIENCE, condition)
            .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", waypoint.process.log_tail(60), lab.logs(30)));
    };
    let at = |pod: &Pod, port: u16| SocketAddr::from((pod.ip4(), port));
    let get = |from: &Pod, to: SocketAddr, path: &str| {
        let answer = http::get(from, to, "web.town", path, ATTEMPT);
        answer.map_or((0, String::new()), |answer| (answer.status, answer.name))
    };
    let reaches = |from: &Pod, to: SocketAddr| echo::connect(from, to, ATTEMPT).is_ok();
    let ok = |name: &str| (200, name.to_owned());

    // The Service has its routes, and each pod answers for itself, again and again over the same connections of the waypoint.
    let service = SocketAddr::from((web.ip4(), 80));
    wait("the route to be in force", &mut || {
        get(&town.client, service, "/").0 == 302
    });
    wait("both pods to be reached by their own addresses", &mut || {
        get(&town.client, at(&town.server, WEB), "/") == ok("one")
            && get(&town.client, at(&town.neighbour, WEB), "/") == ok("two")
    });
    for _ in 0..10 {
        assert_eq!(get(&town.client, at(&town.server, WEB), "/"), ok("one"));
        assert_eq!(get(&town.client, at(&town.neighbour, WEB), "/"), ok("two"));
    }
    assert!(reaches(&town.client, at(&town.server, BYTES)) && reaches(&guest, at(&town.server, BYTES)));
    assert!(
        reaches(&town.client, at(&town.server, ANY)),
        "bytes where HTTP may come, too"
    );
    assert_eq!(get(&town.client, at(&town.neighbour, ANY), "/"), ok("any"));
    town.in_the_tunnel(|| assert_eq!(get(&town.client, at(&town.server, WEB), "/"), ok("one")));

    // The whole answer arrives also where the server closes behind it.
    let lines = ["GET / HTTP/1.1", "host: web", "connection: close"].map(str::to_owned);
    for _ in 0..5 {
        let (head, body) = http::ask(&town.client, at(&town.server, WEB), &lines, ATTEMPT).unwrap();
        assert_eq!(
            (head.status(), body.lines().next()),
            (Some(200), Some("one")),
            "{head:?}"
        );
    }

    // As old as HTTP/1.0, a request may name no host.
    let lines = ["GET / HTTP/1.0".to_owned()];
    let (head, body) = http::ask(&town.client, at(&town.server, WEB), &lines, ATTEMPT).unwrap();
    let host = match kind {
        Kind::Culvert => "host: web.town.svc.cluster.local",
        Kind::Envoy | Kind::EnvoyWorld => "host: pod",
    };
    assert!(
        head.status() == Some(200) && body.lines().any(|line| line == host),
        "{head:?} {body}"
    );

    // Policies bind as they do at the Service, and each binds the endpoints of its own.
    let principal = format!("cluster.local/ns/town/sa/{}", town.client.account());
    let allow = json!({ "action": "ALLOW", "rules": [{ "from": [{ "source": { "principals": [principal] } }] }] });
    lab.apply(&policy("clients", "web", allow)).unwrap();
    wait("the other account to be refused", &mut || {
        get(&guest, at(&town.server, WEB), "/").0 == 403 && !reaches(&guest, at(&town.server, BYTES))
    });
    assert_eq!(get(&town.client, at(&town.server, WEB), "/"), ok("one"));
    assert!(reaches(&town.client, at(&town.server, BYTES)));
    assert_eq!(get(&guest, at(&town.neighbour, WEB), "/"), ok("two"));
    assert!(reaches(&guest, at(&town.neighbour, BYTES)));
    let deny = json!({ "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": ["/admin*"], "ports": [WEB.to_string()] } }] }] });
    lab.apply(&policy("no-admin", "other", deny)).unwrap();
    wait("the path to be denied", &mut || {
        get(&town.client, at(&town.neighbour, WEB), "/admin/x").0 == 403
    });
    assert_eq!(get(&town.client, at(&town.neighbour, WEB), "/open"), ok("two"));
    assert_eq!(get(&town.client, at(&town.server, WEB), "/admin/x"), ok("one"));

    // A pod that comes is reached as well, under the policies of its Service.
    let third = PodSpec::new("town", "third").on(2).label("app", "server");
    let third = lab.pod(third).unwrap();
    serve(&third, "three");
    wait("a new pod to be reached", &mut || {
        get(&town.client, at(&third, WEB), "/") == ok("three")
    });
    // Until it is known whose pod it is, it is reached as any other.
    wait("its Service's policy to bind it", &mut || {
        get(&guest, at(&third, WEB), "/").0 == 403
    });
    assert_eq!(get(&town.client, at(&third, WEB), "/"), ok("three"));
}

#[test]
fn culvert_leads_to_pods_by_their_own_addresses_past_routes_and_not_past_policies() {
    pods_are_reached_past_routes_and_not_past_policies(Kind::Culvert);
}

#[test]
fn envoy_leads_to_pods_by_their_own_addresses_past_routes_and_not_past_policies() {
    pods_are_reached_past_routes_and_not_past_policies(Kind::Envoy);
}
