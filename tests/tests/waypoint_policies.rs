//! Policies at waypoints, as each kind of waypoint enforces what the controller tells it.
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
const ATTEMPT: Duration = Duration::from_secs(5);

fn object(kind: &str, name: &str, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{ "group": "", "kind": "Service", "name": "web" }]);
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": { "name": name, "namespace": "town" }, "spec": spec,
    })
}

fn refuses_what_policies_say(kind: Kind) {
    let lab = lab(&format!("wp_policies_{}", kind.word()));
    let town = Town::meshed(&lab);
    http::serve(&town.server, WEB, "app");
    echo::serve(&town.server, BYTES);
    let port = |name: &str, port: u16, target: u16| json!({ "name": name, "port": port, "targetPort": target, "protocol": "TCP" });
    let spec = ServiceSpec::new("town", "web")
        .port_object(port("http", 80, WEB))
        .port_object(port("tcp", 90, BYTES))
        .selector("app", "server")
        .label("culvert.dev/use-waypoint", "wp");
    let web = lab.service(spec).unwrap();
    let guest = lab
        .pod(PodSpec::new("town", "guest").on(1).service_account("guest"))
        .unwrap();
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", kind);
    let [requests, bytes] = [80, 90].map(|port| SocketAddr::from((web.ip4(), port)));
    let status = |from: &Pod, path: &str| {
        let answer = http::get(from, requests, "web.town", path, ATTEMPT);
        answer.map_or(0, |answer| answer.status)
    };
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        wait_until(what, PATIENCE, condition)
            .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", waypoint.process.log_tail(60), lab.logs(30)));
    };
    let reaches = |from: &Pod| echo::connect(from, bytes, ATTEMPT).is_ok();
    wait("both to be served, requests and bytes", &mut || {
        status(&town.client, "/") == 200 && status(&guest, "/") == 200 && reaches(&town.client) && reaches(&guest)
    });

    // Those of a trust domain alone are allowed, also to the port that is not HTTP.
    for (domain, is_allowed) in [
        ("other", false),
        ("cluster.local", true),
        ("local", false),
        ("*.local", true),
        ("cluster", false),
        ("cluster*", true),
    ] {
        let allow = json!({ "action": "ALLOW", "rules": [{ "from": [{ "source": { "trustDomains": [domain] } }] }] });
        lab.apply(&object("AuthorizationPolicy", "clients", allow)).unwrap();
        wait(&format!("{domain} to be decided by"), &mut || {
            (status(&guest, "/") == 200) == is_allowed && reaches(&guest) == is_allowed
        });
    }

    // One account alone is allowed, also to the port that is not HTTP.
    let principal = format!("cluster.local/ns/town/sa/{}", town.client.account());
    let allow = json!({ "action": "ALLOW", "rules": [{ "from": [{ "source": { "principals": [principal] } }] }] });
    lab.apply(&object("AuthorizationPolicy", "clients", allow)).unwrap();
    wait("the other account to be refused", &mut || {
        status(&guest, "/") == 403 && !reaches(&guest)
    });
    assert!(status(&town.client, "/") == 200 && reaches(&town.client));
    let refused = http::get(&guest, requests, "web.town", "/", ATTEMPT).unwrap();
    assert_eq!(refused.name, "RBAC: access denied");

    // A path is denied to all; of a port that is not HTTP nobody can tell the path.
    let deny = json!({ "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": ["/admin*"] } }] }] });
    lab.apply(&object("AuthorizationPolicy", "no-admin", deny)).unwrap();
    wait("the path to be denied", &mut || {
        status(&town.client, "/admin/x?y") == 403
    });
    assert_eq!(status(&town.client, "/open"), 200);
    wait("the port of bytes to be closed", &mut || !reaches(&town.client));
    if kind == Kind::Culvert {
        let details = "rbac_access_denied_matched_policy[town/no-admin[0]]";
        wait("the log to name the policy", &mut || {
            waypoint.process.log_tail(200).contains(details)
        });
    }
    let findings = town.mesh.get_controller("/findings").unwrap().body;
    assert!(findings.contains("port 90 of it is not HTTP"), "{findings}");

    // Who allows nothing lets nobody in, whatever others would.
    lab.apply(&object("AuthorizationPolicy", "clients", json!({ "action": "ALLOW" })))
        .unwrap();
    wait("all to be refused by a policy without rules", &mut || {
        status(&town.client, "/open") == 403
    });
    let allow = json!({ "action": "ALLOW", "rules": [{}] });
    lab.apply(&object("AuthorizationPolicy", "clients", allow)).unwrap();
    wait("all to be let in by a rule that says nothing", &mut || {
        status(&town.client, "/open") == 200
    });

    // A token that does not hold is refused, and none is not.
    let tokens = json!({ "jwtRules": [{ "issuer": "a", "jwksUri": "https://id.example/keys" }] });
    lab.apply(&object("RequestAuthentication", "tokens", tokens)).unwrap();
    wait("a bad token to be refused", &mut || {
        status(&town.client, "/open?access_token=x.y.z") == 401
    });
    assert_eq!(status(&town.client, "/open"), 200);
}

#[test]
fn culvert_refuses_what_policies_say() {
    refuses_what_policies_say(Kind::Culvert);
}

#[test]
fn envoy_refuses_what_policies_say() {
    refuses_what_policies_say(Kind::Envoy);
}
