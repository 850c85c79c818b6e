//! TLS that applications speak themselves, at a waypoint: it goes through untouched, to where the name leads that a client asks for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use culvert_lab::{Service, ServiceSpec, wait_until};
use culvert_tests::{PATIENCE, http, lab, scene::Scene, tls_app, town::PORT, waypoint::Kind};
use serde_json::{Value, json};

/// How long an attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

fn tls_route(name: &str, hostname: &str, backend: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "TLSRoute",
        "metadata": { "name": name, "namespace": "town" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "secure", "port": 443 }],
            "hostnames": [hostname],
            "rules": [{ "backendRefs": [{ "name": backend, "port": 443 }] }],
        },
    })
}

/// What a port of this target says of itself.
fn service(name: &str, app: &str, port: Value) -> ServiceSpec {
    ServiceSpec::new("town", name).port_object(port).selector("app", app)
}

fn tls_goes_where_its_name_leads(kind: Kind) {
    let lab = lab(&format!("wp_tls_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let town = &scene.town;
    let names = [
        "a.example",
        "x.wild.example",
        "y.x.wild.example",
        "y.x.near.wild.example",
        "c.example",
        "other.example",
    ];
    let roots = [
        tls_app::serve(&town.server, PORT + 6, "one", &names),
        tls_app::serve(&town.neighbour, PORT + 7, "two", &names),
    ];
    let https = |target: u16| json!({ "name": "https", "port": 443, "targetPort": target, "protocol": "TCP" });
    let behind = |spec: ServiceSpec| -> Service { lab.service(spec.label("culvert.dev/use-waypoint", "wp")).unwrap() };
    lab.service(service("one", "server", https(PORT + 6))).unwrap();
    lab.service(service("two", "neighbour", https(PORT + 7))).unwrap();
    let secure = behind(service("secure", "server", https(PORT + 6)));
    // HTTP or anything else, by what clients begin with.
    let any = json!({ "name": "any", "port": 443, "targetPort": PORT + 3, "protocol": "TCP" });
    let mixed = behind(service("mixed", "server", any));
    // Of the same port number, and no rule is about it.
    let plain = json!({ "name": "any", "port": 443, "targetPort": PORT + 6, "protocol": "TCP" });
    let plain = behind(service("plain", "server", plain));
    let [secure, mixed, plain] = [secure, mixed, plain].map(|service| SocketAddr::from((service.ip4(), 443)));

    lab.apply(&tls_route("exact", "a.example", "one")).unwrap();
    lab.apply(&tls_route("wild", "*.wild.example", "two")).unwrap();
    lab.apply(&tls_route("longer", "*.near.wild.example", "one")).unwrap();
    lab.apply(&json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": { "name": "mixed", "namespace": "town" },
        "spec": {
            "hosts": ["mixed"],
            "tls": [{ "match": [{ "sniHosts": ["c.example"], "port": 443 }], "route": [{ "destination": { "host": "two" } }] }],
        },
    }))
    .unwrap();
    let ask = |to, name: &str| tls_app::ask(&town.client, to, name, &roots, ATTEMPT).map_err(|error| error.to_string());
    for (to, name, expected) in [
        (secure, "a.example", "one"),
        (secure, "x.wild.example", "two"),
        // At any depth, whatever the case of the letters, and the longest name that fits.
        (secure, "y.x.wild.example", "two"),
        (secure, "X.Wild.EXAMPLE", "two"),
        (secure, "y.x.near.wild.example", "one"),
        (mixed, "c.example", "two"),
    ] {
        let mut last = String::new();
        let waited = wait_until(&format!("{name} to lead to {expected}"), PATIENCE, || {
            let answer = ask(to, name);
            last = format!("{answer:?}");
            answer.as_deref() == Ok(expected)
        });
        waited.unwrap_or_else(|error| panic!("{}\n{error:#}: {last}", scene.last_words()));
    }

    // What no rule names is closed, and so is what is no TLS where all is TLS.
    for (to, name) in [
        (secure, "other.example"),
        (secure, "wild.example"),
        (mixed, "a.example"),
    ] {
        let refused = ask(to, name);
        assert!(refused.is_err(), "{name} at {to}: {refused:?}\n{}", scene.last_words());
    }
    let mut bare = town.client.connect(secure, ATTEMPT).unwrap();
    bare.set_read_timeout(Some(ATTEMPT)).unwrap();
    bare.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let ended = bare.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{ended:?} {:?}", String::from_utf8_lossy(&answer));

    // HTTP is HTTP where both may come, and TLS without a rule is as it was, whatever it offers inside.
    let lines = ["GET /x HTTP/1.1".to_owned(), "host: mixed".to_owned()];
    let (head, _) = http::ask(&town.client, mixed, &lines, ATTEMPT).unwrap();
    assert_eq!(head.get("x-app"), Some("web"), "{head:?}");
    assert_eq!(
        ask(plain, "other.example").as_deref(),
        Ok("one"),
        "{}",
        scene.last_words()
    );

    // By its own address an endpoint is reached past the names.
    let own = SocketAddr::from((town.server.ip4(), PORT + 6));
    assert_eq!(
        ask(own, "other.example").as_deref(),
        Ok("one"),
        "{}",
        scene.last_words()
    );
}

#[test]
fn culvert_leads_tls_by_the_name_that_clients_ask_for() {
    tls_goes_where_its_name_leads(Kind::Culvert);
}

#[test]
fn envoy_leads_tls_by_the_name_that_clients_ask_for() {
    tls_goes_where_its_name_leads(Kind::Envoy);
}
