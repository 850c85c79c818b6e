//! Policies from objects: who is let in, who is not, and what becomes of what is open.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{io::Read as _, net::TcpStream, time::Duration};

use culvert_lab::{Pod, PodSpec, ServiceSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab, town::PORT};
use serde_json::{Value, json};

/// Where the echo is, beside the town's own servers.
const ECHO: u16 = PORT + 1;

fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    })
}

/// How long an attempt may take: on a strict pod's link it is lost, and nobody answers.
const ATTEMPT: Duration = Duration::from_secs(5);

fn reaches(from: &Pod, to: &Pod) -> bool {
    echo::connect(from, (to.ip4(), ECHO).into(), ATTEMPT).is_ok()
}

/// Waits until a peer is let in, or is not, as it should be.
#[track_caller]
fn wait_for(town: &Town<'_>, from: &Pod, to: &Pod, wanted: bool) {
    let what = format!("{} to reach {}: {wanted}", from.name(), to.name());
    let waited = wait_until(&what, PATIENCE, || reaches(from, to) == wanted);
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(20)));
}

/// Waits for the end of an open connection.
fn wait_for_end(mut stream: TcpStream) {
    // A reset or an end; a time-out is neither.
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => panic!("bytes that nobody sent"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

#[test]
fn strict_lets_in_who_has_a_certificate_and_nobody_else() {
    let lab = lab("pol_strict");
    let town = Town::meshed(&lab);
    lab.namespace("outside").unwrap();
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    echo::serve(&town.server, ECHO);
    wait_for(&town, &stranger, &town.server, true);
    let open = echo::connect(&stranger, (town.server.ip4(), ECHO).into(), PATIENCE).unwrap();

    let strict = object(
        "PeerAuthentication",
        "town",
        "default",
        json!({ "mtls": { "mode": "STRICT" } }),
    );
    lab.apply(&strict).unwrap();
    wait_for(&town, &stranger, &town.server, false);
    wait_for(&town, &town.client, &town.server, true);
    wait_for_end(open);

    let but_one = json!({
        "selector": { "matchLabels": { "app": "server" } },
        "portLevelMtls": { ECHO.to_string(): { "mode": "PERMISSIVE" } },
    });
    lab.apply(&object("PeerAuthentication", "town", "one", but_one))
        .unwrap();
    wait_for(&town, &stranger, &town.server, true);
    lab.delete("PeerAuthentication", "town", "one").unwrap();
    wait_for(&town, &stranger, &town.server, false);
    lab.delete("PeerAuthentication", "town", "default").unwrap();
    wait_for(&town, &stranger, &town.server, true);
}

#[test]
fn an_allow_policy_lets_in_whom_it_names_and_ends_what_others_have_open() {
    let lab = lab("pol_allow");
    let town = Town::meshed(&lab);
    echo::serve(&town.server, ECHO);
    wait_for(&town, &town.neighbour, &town.server, true);
    let address = (town.server.ip4(), ECHO).into();
    let others = echo::connect(&town.neighbour, address, PATIENCE).unwrap();
    let mut own = echo::connect(&town.client, address, PATIENCE).unwrap();

    let rules = json!([
        { "from": [{ "source": { "principals": ["cluster.local/ns/town/sa/client"] } }],
          "to": [{ "operation": { "ports": [ECHO.to_string()] } }] },
    ]);
    let only = json!({ "selector": { "matchLabels": { "app": "server" } }, "rules": rules });
    lab.apply(&object("AuthorizationPolicy", "town", "only-client", only))
        .unwrap();
    wait_for(&town, &town.neighbour, &town.server, false);
    wait_for_end(others);
    wait_for(&town, &town.client, &town.server, true);
    echo::round_trip(&mut own).unwrap();
    lab.delete("AuthorizationPolicy", "town", "only-client").unwrap();
    wait_for(&town, &town.neighbour, &town.server, true);
}

#[test]
fn what_node_proxies_cannot_decide_is_denied_and_named() {
    let lab = lab("pol_layer7");
    let town = Town::meshed(&lab);
    echo::serve(&town.server, ECHO);
    wait_for(&town, &town.client, &town.server, true);
    let admin = json!({ "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": ["/admin"] } }] }] });
    lab.apply(&object("AuthorizationPolicy", "town", "admin", admin))
        .unwrap();
    wait_for(&town, &town.client, &town.server, false);
    let findings = town.mesh.get_controller("/findings").unwrap().body;
    for word in [
        "AuthorizationPolicy town/admin",
        "spec.rules[0].to[0].operation.paths",
        "layer 7",
    ] {
        assert!(findings.contains(word), "{word}: {findings}");
    }
    lab.delete("AuthorizationPolicy", "town", "admin").unwrap();
    wait_for(&town, &town.client, &town.server, true);
}

#[test]
fn what_somebody_else_was_to_enforce_denies_what_it_binds_until_it_is_gone() {
    let lab = lab("pol_others");
    let town = Town::meshed(&lab);
    for pod in [&town.server, &town.neighbour] {
        echo::serve(pod, ECHO);
        wait_for(&town, &town.client, pod, true);
    }
    let service = ServiceSpec::new("town", "web").port(80).selector("app", "neighbour");
    lab.service(service).unwrap();
    let tokens = json!({ "selector": { "matchLabels": { "app": "server" } }, "jwtRules": [{ "issuer": "a" }] });
    lab.apply(&object("RequestAuthentication", "town", "tokens", tokens))
        .unwrap();
    wait_for(&town, &town.client, &town.server, false);
    wait_for(&town, &town.client, &town.neighbour, true);
    let of_service = json!({ "targetRefs": [{ "group": "", "kind": "Service", "name": "web" }], "rules": [{}] });
    lab.apply(&object("AuthorizationPolicy", "town", "web", of_service))
        .unwrap();
    wait_for(&town, &town.client, &town.neighbour, false);
    let findings = town.mesh.get_controller("/findings").unwrap().body;
    for word in [
        "RequestAuthentication town/tokens",
        "AuthorizationPolicy town/web",
        "spec.targetRefs",
    ] {
        assert!(findings.contains(word), "{word}: {findings}");
    }
    lab.delete("RequestAuthentication", "town", "tokens").unwrap();
    lab.delete("AuthorizationPolicy", "town", "web").unwrap();
    wait_for(&town, &town.client, &town.server, true);
    wait_for(&town, &town.client, &town.neighbour, true);
}

#[test]
fn a_service_that_asks_for_a_waypoint_is_not_reached_past_it() {
    let lab = lab("pol_waypoint");
    let town = Town::meshed(&lab);
    echo::serve(&town.server, ECHO);
    let spec = || {
        ServiceSpec::new("town", "web")
            .port_to(80, ECHO)
            .selector("app", "server")
    };
    let service = lab.service(spec()).unwrap();
    let reaches = || echo::connect(&town.client, (service.ip4(), 80).into(), PATIENCE).is_ok();
    wait_until("the Service to be reached", PATIENCE, reaches).unwrap();
    lab.label_with("town", "istio.io/use-waypoint", Some("wp")).unwrap();
    wait_until("the Service to be refused", PATIENCE, || !reaches()).unwrap();
    // Nor by the pod's address: see `waypoint.rs` for what is reached with a waypoint there.
    let directly = || self::reaches(&town.client, &town.server);
    wait_until("the pod to be refused at that port", PATIENCE, || !directly()).unwrap();
    lab.label_with("town", "istio.io/use-waypoint", Some("none")).unwrap();
    wait_until("the Service to be reached again", PATIENCE, || reaches() && directly()).unwrap();
}

#[test]
fn what_is_tried_out_or_audited_lets_everybody_in_and_says_whom_it_is_about() {
    let lab = lab("pol_dry_run");
    let mut town = Town::meshed(&lab);
    echo::serve(&town.server, ECHO);
    wait_for(&town, &town.client, &town.server, true);
    let from = |account: &str| {
        let principal = format!("cluster.local/ns/town/sa/{account}");
        json!([{ "from": [{ "source": { "principals": [principal] } }] }])
    };
    let spec = |action: &str, account: &str| {
        json!({
            "selector": { "matchLabels": { "app": "server" } }, "action": action, "rules": from(account),
        })
    };
    let mut tried = object("AuthorizationPolicy", "town", "no-neighbour", spec("DENY", "neighbour"));
    tried["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
    lab.apply(&tried).unwrap();
    let audit = object("AuthorizationPolicy", "town", "look", spec("AUDIT", "client"));
    lab.apply(&audit).unwrap();

    let counted = |town: &Town<'_>, line: &str| {
        let metrics = town.mesh.get(2, 15020, "/metrics").unwrap().body;
        metrics.lines().any(|found| found.starts_with(line))
    };
    let denial = r#"culvert_ztunnel_policy_dry_run_total{outcome="denied",policy="town/no-neighbour"}"#;
    let match_ = r#"culvert_ztunnel_policy_audited_total{policy="town/look"}"#;
    let waited = wait_until("both policies say whom they are about", PATIENCE, || {
        for from in [&town.neighbour, &town.client] {
            echo::connect(from, (town.server.ip4(), ECHO).into(), PATIENCE).unwrap();
        }
        counted(&town, denial) && counted(&town, match_)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
    let says = |log: &str, field: &str, account: &str| {
        let identity = format!("spiffe://cluster.local/ns/town/sa/{account}\"");
        log.lines().any(|line| line.contains(field) && line.contains(&identity))
    };
    let waited = wait_until("both are in the access log", PATIENCE, || {
        let log = town.mesh.ztunnel(2).unwrap().log();
        let denied = says(&log, r#""dry_run":"would be denied by town/no-neighbour""#, "neighbour");
        denied && says(&log, r#""audit":"town/look""#, "client")
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
    let log = town.mesh.ztunnel(2).unwrap().log();
    assert!(
        !says(&log, "dry_run", "client") && !says(&log, "audit", "neighbour"),
        "{log}"
    );
    assert_eq!(
        town.mesh
            .get_controller("/findings")
            .unwrap()
            .body
            .matches("town/look")
            .count(),
        0
    );
}
