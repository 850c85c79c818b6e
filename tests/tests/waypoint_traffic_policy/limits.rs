//! Limits that each waypoint counts by itself, and a service that counts for all.

use culvert_lab::{PodSpec, ServiceSpec};
use culvert_tests::{counter::Counter, http::Head, lab, waypoint::Kind};
use serde_json::{Value, json};

use super::scene::{Scene, limit, policy, port, route, service};

fn counts_requests_itself(kind: Kind) {
    let lab = lab(&format!("wp_limit_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let with = |mut limit: Value, by: Value| {
        limit["by"] = by;
        limit
    };
    let limits = json!([
        limit("/few", 2),
        with(limit("/users", 1), json!({"header": "x-user"})),
        with(limit("/who", 1), json!({"clientIdentity": {}})),
        with(limit("/where", 1), json!({"clientAddress": {}})),
        {"requests": 1, "per": "1h", "match": {"method": "GET", "path": {"type": "Exact", "value": "/in-force"}}},
    ]);
    scene.apply(&policy(
        "a-web",
        &service("web"),
        &json!({"rateLimit": {"local": limits}}),
    ));
    scene.wait("the limits to be in force", &mut || scene.status("/in-force") == 429);

    // Two an hour, and both answers and refusals say what is left.
    let (head, _) = scene.ask("/few/one?a=b", &[]);
    assert_eq!(head.status(), Some(200));
    let said = |head: &Head| {
        let of = |name: &str| head.get(&format!("x-ratelimit-{name}")).map(str::to_owned);
        (of("limit"), of("remaining"))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(said(&head), (text("2"), text("1")), "{head:?}");
    assert_eq!(scene.status("/few"), 200);
    let before = scene.app.count();
    let (head, body) = scene.ask("/few", &[]);
    assert_eq!(
        (head.status(), body.as_str()),
        (Some(429), "local_rate_limited"),
        "{head:?}"
    );
    assert_eq!(said(&head), (text("2"), text("0")), "{head:?}");
    eprintln!("what a refusal says: {head:?}");
    assert_eq!(scene.app.count(), before, "what is refused does not arrive");
    // The prefix is one of whole elements, and what no limit matches has none.
    assert_eq!(scene.statuses("/fewer", &[], 3), [200; 3]);

    // Each user by itself, and those who say nothing together.
    assert_eq!(scene.statuses("/users", &["x-user: ann"], 2), [200, 429]);
    assert_eq!(scene.statuses("/users", &["x-user: bob"], 2), [200, 429]);
    assert_eq!(scene.statuses("/users", &[], 2), [200, 429]);

    // Each client by its certificate, whatever it says of itself.
    let forged = "x-forwarded-for: 198.18.99.99";
    assert_eq!(scene.statuses("/who", &[forged], 2), [200, 429]);
    let neighbour = |path: &str| scene.ask_from(&scene.town.neighbour, path, &[]).0.status();
    assert_eq!([neighbour("/who"), neighbour("/who")], [Some(200), Some(429)]);
    assert_eq!(scene.status("/where"), 200);
    assert_eq!(scene.status("/where"), 429);
    eprintln!("with a forged address: {:?}", scene.ask("/where", &[forged]).0.status());
    assert_eq!([neighbour("/where"), neighbour("/where")], [Some(200), Some(429)]);

    // A route's policy counts all its rules together, beside the Service's; one rule's counts that alone.
    scene.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "town"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": [
            {"matches": [{"path": {"value": "/r1"}}, {"path": {"value": "/r2"}}], "backendRefs": [{"name": "web", "port": 80}]},
            {"name": "own", "matches": [{"path": {"value": "/own"}}], "backendRefs": [{"name": "web", "port": 80}]},
            {"backendRefs": [{"name": "web", "port": 80}]},
        ]},
    }));
    let all = json!({"rateLimit": {"local": [{"requests": 3, "per": "1h"}]}});
    let own = json!({"rateLimit": {"local": [{"requests": 1, "per": "1h"}]}});
    scene.apply(&policy("b-own", &route("r", Some("own")), &own));
    scene.wait("a rule's limit to be in force", &mut || scene.status("/own") == 429);
    scene.apply(&policy("b-route", &route("r", None), &all));
    scene.wait("a route's limit to be in force", &mut || scene.status("/r1") == 429);
    assert_eq!((scene.status("/r2"), scene.status("/")), (429, 429));
    scene.lab.delete("TrafficPolicy", "town", "b-route").unwrap();
    scene.wait("it to be gone", &mut || scene.status("/r1") == 200);

    // What a change of something else does not do: the Service's limits are not filled anew.
    if kind == Kind::Culvert {
        assert_eq!(scene.status("/few"), 429);
    }

    // Of two for one object the older holds, and the other says so; what makes no sense is not in force, and neither is what names
    // nothing that is there.
    scene.apply(&policy(
        "z-web",
        &service("web"),
        &json!({"rateLimit": {"local": [limit("/z", 1)]}}),
    ));
    scene.apply(&policy(
        "c-nothing",
        &service("nobody"),
        &json!({"rateLimit": {"local": [limit("/c", 1)]}}),
    ));
    scene.apply(&policy(
        "d-bad",
        &service("web"),
        &json!({"rateLimit": {"local": [limit("/d", 0)]}}),
    ));
    scene.apply(&policy(
        "e-unknown",
        &service("web"),
        &json!({"rateLimits": {"local": [limit("/e", 1)]}}),
    ));
    let said = [
        "TrafficPolicy town/a-web, which is older",
        "there is no Service town/nobody",
        "0 is not between 1 and",
        "spec.rateLimits",
    ];
    scene.wait("the findings to be there", &mut || {
        let findings = scene.findings();
        said.iter().all(|text| findings.contains(text))
    });
    assert_eq!(scene.statuses("/z", &[], 3), [200; 3]);
    if kind == Kind::Culvert {
        scene.wait("the log to say who refused", &mut || {
            let log = scene.waypoint.process.log_tail(300);
            log.contains("local_rate_limited") && log.contains("RL")
        });
    }
}

#[test]
fn culvert_counts_requests_itself() {
    counts_requests_itself(Kind::Culvert);
}

#[test]
fn envoy_counts_requests_itself() {
    counts_requests_itself(Kind::Envoy);
}

/// What the mesh knows of services that count. `gone` is a Service without a pod.
const PROVIDERS: &str = "
extensionProviders:
- name: counter
  envoyRateLimit: {service: counter.town.svc.cluster.local, port: 9000, timeout: 10s}
- name: gone
  envoyRateLimit: {service: gone.town.svc.cluster.local, port: 9000}
";

fn asks_a_service_that_counts(kind: Kind) {
    let lab = lab(&format!("wp_counter_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let pod = PodSpec::new("town", "counter")
        .on(1)
        .service_account("counter")
        .label("app", "counter");
    let pod = lab.pod(pod).unwrap();
    let counter = Counter::serve(&pod, 9000, 2);
    let spec = |name: &str| ServiceSpec::new("town", name).port_object(port("grpc", 9000, 9000));
    lab.service(spec("counter").selector("app", "counter")).unwrap();
    lab.service(spec("gone").selector("app", "gone")).unwrap();
    // So the service is reached through the tunnel, or not at all.
    lab.apply(&json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": "town"}, "spec": {"mtls": {"mode": "STRICT"}},
    }))
    .unwrap();

    let asking = |provider: &str, path: &str, on_failure: &str| {
        json!({"rateLimit": {"global": {
            "provider": provider, "domain": "shop", "onFailure": on_failure,
            "descriptors": [
                {"match": {"path": {"value": path}}, "entries": [
                    {"key": "path", "value": path}, {"key": "user", "header": "x-user"},
                ]},
                {"match": {"path": {"value": format!("{path}/who")}}, "entries": [{"key": "who", "clientIdentity": {}}]},
            ],
        }}})
    };
    // Nobody knows the provider yet: that is said, and what it would be asked about is refused.
    scene.apply(&policy("asks", &service("web"), &asking("counter", "/counted", "Deny")));
    let ask = |path: &str, user: &str| scene.ask(path, &[&format!("x-user: {user}")]);
    let status = |path: &str, user: &str| ask(path, user).0.status().unwrap_or(0);
    scene.wait("what nobody counts to be refused", &mut || {
        status("/counted", "ann") == 500
    });
    assert_eq!(status("/other", "ann"), 200, "nobody is asked about this");
    assert_eq!(
        scene.status("/counted"),
        200,
        "nor about who says nothing of themselves"
    );
    scene.wait("the finding to be there", &mut || {
        scene.findings().contains("has no provider")
    });

    scene.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "culvert-system"}}));
    scene.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "culvert-mesh", "namespace": "culvert-system"},
        "data": {"mesh": PROVIDERS},
    }));
    scene.wait("the service to be asked", &mut || status("/counted", "warm") == 200);
    let (head, body) = ask("/counted", "ann");
    assert_eq!(head.status(), Some(200), "{head:?}");
    assert!(
        body.contains("x-counted: request"),
        "the service's field goes on: {body}"
    );
    assert_eq!(head.get("x-counted"), Some("answer"), "{head:?}");
    assert_eq!(head.get("x-ratelimit-remaining"), Some("1"), "{head:?}");
    assert_eq!(head.get("x-ratelimit-limit"), Some("2, 2;w=3600"), "{head:?}");
    assert_eq!(status("/counted", "ann"), 200);
    let before = scene.app.count();
    let (head, _) = ask("/counted", "ann");
    assert_eq!(head.status(), Some(429), "{head:?}");
    assert_eq!(
        (head.get("x-envoy-ratelimited"), head.get("x-counted")),
        (Some("true"), Some("answer")),
        "{head:?}"
    );
    assert_eq!(scene.app.count(), before, "what is refused does not arrive");
    assert_eq!(status("/counted", "bob"), 200);
    assert_eq!(status("/counted/who", "cat"), 200);
    let seen = counter.seen();
    let client = scene.town.client.account();
    for name in [
        "shop match=yes,path=/counted,user=ann".to_owned(),
        format!("shop match=yes,who=spiffe://cluster.local/ns/town/sa/{client}"),
    ] {
        assert!(seen.contains_key(&name), "{name}: {seen:?}");
    }

    // A service that does not answer closes, or opens where that is asked for.
    scene.apply(&policy("asks", &service("web"), &asking("gone", "/counted", "Deny")));
    scene.wait("what nobody counts to be refused", &mut || {
        status("/counted", "dan") == 500
    });
    scene.apply(&policy("asks", &service("web"), &asking("gone", "/counted", "Allow")));
    scene.wait("what nobody counts to go on", &mut || status("/counted", "dan") == 200);
    if kind == Kind::Culvert {
        scene.wait("the log to say who refused", &mut || {
            let log = scene.waypoint.process.log_tail(300);
            log.contains("request_rate_limited") && log.contains("rate_limiter_error") && log.contains("RLSE")
        });
    }
}

#[test]
fn culvert_asks_a_service_that_counts() {
    asks_a_service_that_counts(Kind::Culvert);
}

#[test]
fn envoy_asks_a_service_that_counts() {
    asks_a_service_that_counts(Kind::Envoy);
}
