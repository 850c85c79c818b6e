//! Tokens of people at waypoints, by keys that the controller fetches.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{MeshOptions, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, http,
    issuer::{Issuer, Signer},
    lab,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

const WEB: u16 = PORT + 1;
const ATTEMPT: Duration = Duration::from_secs(5);

fn object(kind: &str, name: &str, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{ "group": "", "kind": "Service", "name": "web" }]);
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": { "name": name, "namespace": "town" }, "spec": spec,
    })
}

fn takes_tokens_by_keys_that_are_fetched(kind: Kind) {
    let lab = lab(&format!("wp_tokens_{}", kind.word()));
    let options = MeshOptions {
        controller_args: ["--jwks-refresh", "1s"].map(str::to_owned).into(),
        ..MeshOptions::default()
    };
    let town = Town::with(&lab, options);
    http::serve(&town.server, WEB, "app");
    let spec = ServiceSpec::new("town", "web")
        .port_object(json!({ "name": "http", "port": 80, "targetPort": WEB, "protocol": "TCP" }))
        .selector("app", "server")
        .label("culvert.dev/use-waypoint", "wp");
    let web = lab.service(spec).unwrap();
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", kind);
    let to = SocketAddr::from((web.ip4(), 80));
    let status = |token: Option<&str>| {
        let mut lines = vec!["GET / HTTP/1.1".to_owned(), "host: web.town".to_owned()];
        lines.extend(token.map(|token| format!("authorization: Bearer {token}")));
        let answer = http::ask(&town.client, to, &lines, ATTEMPT);
        answer.ok().and_then(|(head, _)| head.status()).unwrap_or(0)
    };
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| {
            panic!("{error:#}\n{}\n{}", waypoint.process.log_tail(60), lab.logs(30));
        });
    };
    wait("requests to be served", &mut || status(None) == 200);

    let issuer = Issuer::serve(&lab);
    let (first, second) = (Signer::new("first"), Signer::new("second"));
    let claims = json!({"iss": issuer.name(), "sub": "ann"});
    let (old, new) = (first.token(&claims), second.token(&claims));
    let uri = format!("{}/keys", issuer.name());
    let tokens = json!({ "jwtRules": [{ "issuer": issuer.name(), "jwksUri": uri }] });
    lab.apply(&object("RequestAuthentication", "tokens", tokens)).unwrap();
    let allow = json!({ "action": "ALLOW", "rules": [{ "from": [{ "source": { "requestPrincipals": ["*"] } }] }] });
    lab.apply(&object("AuthorizationPolicy", "people", allow)).unwrap();
    wait("tokens to be refused before there are keys", &mut || {
        status(Some(&old)) == 401 && status(None) == 403
    });
    let findings = || town.mesh.get_controller("/findings").unwrap().body;
    wait("the finding to say why", &mut || {
        findings().contains("503 Service Unavailable")
    });

    issuer.show(&first);
    wait("a good token to be taken", &mut || status(Some(&old)) == 200);
    assert_eq!(status(Some(&new)), 401, "nobody knows the other key");
    assert_eq!(status(None), 403);
    // Of an issuer that nobody configured.
    let stranger = first.token(&json!({"iss": "http://elsewhere", "sub": "ann"}));
    assert_eq!(status(Some(&stranger)), STRANGER);

    issuer.show(&second);
    wait("rotated keys to reach the waypoint", &mut || {
        status(Some(&new)) == 200 && status(Some(&old)) == 401
    });
    issuer.fail();
    wait("the finding to say how old the keys are", &mut || {
        findings().contains("the last good keys hold, of 2")
    });
    assert_eq!(status(Some(&new)), 200, "the last good keys hold");
}

/// A token of an issuer that nobody configured.
const STRANGER: u16 = 401;

#[test]
fn culvert_takes_tokens_by_keys_that_are_fetched() {
    takes_tokens_by_keys_that_are_fetched(Kind::Culvert);
}

#[test]
fn envoy_takes_tokens_by_keys_that_are_fetched() {
    takes_tokens_by_keys_that_are_fetched(Kind::Envoy);
}
