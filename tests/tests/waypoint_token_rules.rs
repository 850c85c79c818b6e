//! Which tokens of people count at waypoints, what a refusal says, and what of a token an application gets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use culvert_lab::{ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    http::{self, Head},
    issuer::Signer,
    lab,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

const WEB: u16 = PORT + 1;
const ATTEMPT: Duration = Duration::from_secs(5);

/// Tokens of an issuer with audiences, whose claims go on in headers.
fn rules(signer: &Signer) -> Value {
    let claims = ["sub", "n", "f", "b", "l", "o.p"];
    let headers: Vec<Value> = claims
        .iter()
        .map(|claim| json!({ "claim": claim, "header": format!("x-{}", claim.replace('.', "-")) }))
        .collect();
    json!({
        "targetRefs": [{ "group": "", "kind": "Service", "name": "web" }],
        "jwtRules": [{
            "issuer": "a", "jwks": signer.keys(), "audiences": ["https://shop/"],
            "outputClaimToHeaders": headers, "outputPayloadToHeader": "x-payload",
        }],
    })
}

struct Place<'lab> {
    town: Town<'lab>,
    to: SocketAddr,
    waypoint: Waypoint,
}

impl Place<'_> {
    fn ask(&self, path: &str, fields: &[String]) -> (Head, String) {
        let mut lines = vec![format!("GET {path} HTTP/1.1"), "host: web.town".to_owned()];
        lines.extend(fields.iter().cloned());
        http::ask(&self.town.client, self.to, &lines, ATTEMPT).unwrap_or((Head(Vec::new()), String::new()))
    }
}

fn judges_tokens(kind: Kind) {
    let lab = lab(&format!("wp_token_rules_{}", kind.word()));
    let town = Town::meshed(&lab);
    http::serve(&town.server, WEB, "app");
    let spec = ServiceSpec::new("town", "web")
        .port_object(json!({ "name": "http", "port": 80, "targetPort": WEB, "protocol": "TCP" }))
        .selector("app", "server")
        .label("culvert.dev/use-waypoint", "wp");
    let to = SocketAddr::from((lab.service(spec).unwrap().ip4(), 80));
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", kind);
    let place = Place { town, to, waypoint };
    let (signer, other) = (Signer::new("own"), Signer::new("own"));
    lab.apply(&json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": { "name": "tokens", "namespace": "town" }, "spec": rules(&signer),
    }))
    .unwrap();
    let waited = wait_until("a bad token to be refused", PATIENCE, || {
        place.ask("/?access_token=x.y.z", &[]).0.status() == Some(401)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", place.waypoint.process.log_tail(40)));

    which_count(&place, &signer, &other);
    what_a_refusal_says(&place, &signer, kind);
    what_goes_on(&place, &signer);
}

fn which_count(place: &Place<'_>, signer: &Signer, other: &Signer) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let with = |more: Value| {
        let mut claims = json!({ "iss": "a", "aud": "shop" });
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        signer.token(&claims)
    };
    let bearer = |token: &str| vec![format!("authorization: Bearer {token}")];
    let good = with(json!({}));
    let forged = other.token(&json!({ "iss": "a", "aud": "shop" }));
    let unsigned = good.rsplit_once('.').unwrap().0;
    let both = |first: &str, second: &str| [bearer(first), bearer(second)].concat();
    let two_places = |query: &str| (format!("/?access_token={query}"), bearer(&good));
    let root = |fields: Vec<String>| ("/".to_owned(), fields);
    let mut wrong = Vec::new();
    for (name, (path, fields), status, body) in [
        ("none", root(vec![]), 200, ""),
        ("a good one", root(bearer(&good)), 200, ""),
        (
            "a small bearer is no token",
            root(vec![format!("authorization: bearer {good}")]),
            200,
            "",
        ),
        (
            "two lines are one bad token",
            root(both(&good, &good)),
            401,
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        ("two good ones in two places", two_places(&good), 200, ""),
        (
            "a good one and a bad one",
            two_places(&forged),
            401,
            "Jwt verification fails",
        ),
        ("another key", root(bearer(&forged)), 401, "Jwt verification fails"),
        (
            "another issuer",
            root(bearer(&with(json!({ "iss": "b" })))),
            401,
            "Jwt issuer is not configured",
        ),
        (
            "another audience",
            root(bearer(&with(json!({ "aud": "bank" })))),
            403,
            "Audiences in Jwt are not allowed",
        ),
        (
            "an audience with a scheme",
            root(bearer(&with(json!({ "aud": ["x", "http://shop"] })))),
            200,
            "",
        ),
        (
            "over for less than the skew",
            root(bearer(&with(json!({ "exp": now - 30 })))),
            200,
            "",
        ),
        (
            "over for long",
            root(bearer(&with(json!({ "exp": now - 3600 })))),
            401,
            "Jwt is expired",
        ),
        (
            "valid in less than the skew",
            root(bearer(&with(json!({ "nbf": now + 30 })))),
            200,
            "",
        ),
        (
            "valid in an hour",
            root(bearer(&with(json!({ "nbf": now + 3600 })))),
            401,
            "Jwt not yet valid",
        ),
        (
            "no signature",
            root(bearer(&format!("{unsigned}."))),
            401,
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        (
            "no token at all",
            root(bearer("nonsense")),
            401,
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
    ] {
        let (head, found) = place.ask(&path, &fields);
        if head.status() != Some(status) || (status != 200 && found != body) {
            wrong.push(format!("{name}: {:?} {found:?}", head.status()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        place.waypoint.process.log_tail(40),
        wrong.join("\n")
    );
}

/// RFC 9110 section 11.6.1: what a client may try.
fn what_a_refusal_says(place: &Place<'_>, signer: &Signer, kind: Kind) {
    let refused = signer.token(&json!({ "iss": "a", "aud": "bank" }));
    let says = |path: &str, fields: &[String]| place.ask(path, fields).0.all("www-authenticate");
    let told = |path: &str| {
        Some(format!(
            "Bearer realm=\"http://web.town{path}\", error=\"invalid_token\""
        ))
    };
    assert_eq!(says("/x", &["authorization: Bearer x".to_owned()]), told("/x"));
    assert_eq!(says("/x", &[format!("authorization: Bearer {refused}")]), told("/x"));
    // Envoy writes the query there, too, with the token that may be in it.
    let query = match kind {
        Kind::Culvert => "/x",
        _ => "/x?access_token=x",
    };
    assert_eq!(says("/x?access_token=x", &[]), told(query));
}

fn what_goes_on(place: &Place<'_>, signer: &Signer) {
    let claims = json!({
        "iss": "a", "aud": "shop", "sub": "ann", "n": 5, "f": 1.5, "b": true, "l": [">"], "o": { "p": "q" },
    });
    let token = signer.token(&claims);
    let fields = |body: &str, name: &str| -> Vec<String> {
        let lines = body.lines().filter_map(|line| line.split_once(": "));
        let found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).collect()
    };
    let forged = ["x-sub: forged", "x-n: forged", "x-payload: forged"].map(str::to_owned);
    for (path, sent) in [
        ("/?x=1".to_owned(), vec![format!("authorization: Bearer {token}")]),
        (format!("/?access_token={token}&x=1"), vec![]),
    ] {
        let (head, body) = place.ask(&path, &[sent, forged.to_vec()].concat());
        assert_eq!(head.status(), Some(200), "{body}");
        assert_eq!(body.lines().nth(1), Some("GET /?x=1 HTTP/1.1"), "{body}");
        assert!(fields(&body, "authorization").is_empty(), "{body}");
        for (name, value) in [
            ("x-sub", "ann"),
            ("x-n", "5"),
            ("x-f", "1.500000"),
            ("x-b", "true"),
            ("x-o-p", "q"),
            ("x-l", STANDARD.encode(r#"["\u003e"]"#).as_str()),
            ("x-payload", token.split('.').nth(1).unwrap()),
        ] {
            assert_eq!(fields(&body, name), [value], "{name}: {body}");
        }
    }
    // Without a token nobody says who they are.
    let (_, body) = place.ask("/", &forged);
    for name in ["x-sub", "x-n", "x-payload"] {
        assert!(fields(&body, name).is_empty(), "{body}");
    }
}

#[test]
fn culvert_judges_tokens_as_envoy_does() {
    judges_tokens(Kind::Culvert);
}

#[test]
fn envoy_judges_tokens_as_it_is_written() {
    judges_tokens(Kind::Envoy);
}
