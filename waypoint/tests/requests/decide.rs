//! What becomes of requests: by routes, policies, retries and limits.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use culvert_envoy::{
    pack,
    pb::{
        envoy::{
            config::{
                core::v3::DataSource,
                core::v3::data_source::Specifier,
                rbac::v3::{Permission, Policy, Principal, Rbac as Rules, permission, rbac::Action as RbacAction},
                route::v3::{
                    DirectResponseAction, RetryPolicy, Route, RouteConfiguration, route::Action,
                    route_action::RequestMirrorPolicy,
                },
            },
            extensions::filters::http::rbac::v3::Rbac,
        },
        google::protobuf::{Duration as ProtoDuration, UInt32Value},
    },
};
use culvert_waypoint::{config::cluster::Protocol, serve::Limits};
use http::StatusCode;
use http_body_util::BodyExt as _;

use crate::{
    envoy::{ROUTES, assignment, cluster, endpoints, http_filter, http_listener, route, routes, tunnelled},
    mesh::{Answer, DEADLINE, Endpoint, Mesh, text},
};

fn status(code: u16) -> Answer {
    let mut response = text("");
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// A route to `web`, changed.
fn changed(change: impl FnOnce(&mut culvert_envoy::pb::envoy::config::route::v3::RouteAction)) -> Route {
    let mut route = route("/", &[("web", 1)]);
    if let Some(Action::Route(action)) = &mut route.action {
        change(action);
    }
    route
}

fn tell(mesh: &Mesh, protocol: Protocol, to: &[&Endpoint], table: &RouteConfiguration) {
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("web", protocol)).unwrap();
        store.put_endpoints(&endpoints("web", to)).unwrap();
        store.put_routes(table).unwrap();
    });
}

#[tokio::test]
async fn a_try_that_fails_is_repeated_at_another_endpoint_and_the_body_is_sent_again() {
    let mesh = Mesh::start();
    let failed = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&failed);
    let bad = mesh
        .endpoint("bad", false, move |request| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                let _ = request.into_body().collect().await;
                status(503)
            }
        })
        .await;
    let good = mesh
        .endpoint("good", false, |request| async move {
            let attempt = request.headers()["x-envoy-attempt-count"].to_str().unwrap().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            text(format!("{attempt} {}", String::from_utf8_lossy(&body)))
        })
        .await;
    let policy = RetryPolicy {
        retry_on: "5xx".to_owned(),
        num_retries: Some(UInt32Value { value: 3 }),
        ..RetryPolicy::default()
    };
    let table = routes(vec![changed(|action| action.retry_policy = Some(policy))]);
    tell(&mesh, Protocol::Http1, &[&bad, &good], &table);
    let mut client = mesh.http1().await;
    let mut seen_retry = false;
    for _ in 0..50 {
        let response = client.send(client.request("POST", "/", "hello")).await.unwrap();
        // Four tries at one of two endpoints may all go to the bad one.
        if response.status() == 503 {
            continue;
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.ends_with(b" hello"), "{body:?}");
        seen_retry |= !body.starts_with(b"1 ");
    }
    assert!(seen_retry && failed.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn without_a_retry_policy_a_failure_is_the_answer() {
    let mesh = Mesh::start();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let bad = mesh
        .endpoint("bad", false, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            async { status(503) }
        })
        .await;
    tell(
        &mesh,
        Protocol::Http1,
        &[&bad],
        &routes(vec![route("/", &[("web", 1)])]),
    );
    assert_eq!(mesh.http1().await.get("/").await.0, 503);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_504() {
    let mesh = Mesh::start();
    let slow = mesh
        .endpoint("slow", true, |_| async {
            std::future::pending::<()>().await;
            text("")
        })
        .await;
    let time = |millis: i32| ProtoDuration {
        seconds: 0,
        nanos: millis * 1_000_000,
    };
    let table = routes(vec![changed(|action| action.timeout = Some(time(50)))]);
    tell(&mesh, Protocol::Http2, &[&slow], &table);
    let (status, body) = mesh.http1().await.get("/").await;
    assert_eq!((status, &*body), (504, "upstream request timeout"));
    let policy = RetryPolicy {
        per_try_timeout: Some(time(50)),
        ..RetryPolicy::default()
    };
    let table = routes(vec![changed(|action| action.retry_policy = Some(policy))]);
    mesh.tell(|store| store.put_routes(&table).unwrap());
    assert_eq!(mesh.http2().await.get("/").await.0, 504);
    assert!(mesh.metrics().contains("response_flags=\"UT\""));
}

#[tokio::test]
async fn what_cannot_be_sent_anywhere_is_answered_here_and_to_grpc_in_its_own_way() {
    let mesh = Mesh::start();
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("empty", Protocol::Http1)).unwrap();
        store.put_cluster(&cluster("gone", Protocol::Http1)).unwrap();
        // Nobody listens there.
        let nobody = tunnelled("127.255.255.1:8080".parse().unwrap(), "nobody");
        store.put_endpoints(&assignment("gone", vec![nobody])).unwrap();
        let mut direct = route("/direct", &[("x", 1)]);
        direct.action = Some(Action::DirectResponse(DirectResponseAction {
            status: 418,
            body: Some(DataSource {
                specifier: Some(Specifier::InlineString("short".to_owned())),
                ..DataSource::default()
            }),
            ..DirectResponseAction::default()
        }));
        let all = vec![
            direct,
            route("/unknown", &[("nowhere", 1)]),
            route("/empty", &[("empty", 1)]),
            route("/gone", &[("gone", 1)]),
        ];
        store.put_routes(&routes(all)).unwrap();
    });
    let mut client = mesh.http2().await;
    for (path, status, body) in [
        ("/direct", 418, "short"),
        ("/unknown", 503, ""),
        ("/empty", 503, "no healthy upstream"),
        ("/nothing", 404, ""),
    ] {
        assert_eq!(client.get(path).await, (status, body.to_owned()), "{path}");
    }
    let (status, body) = client.get("/gone").await;
    assert_eq!(status, 503);
    assert!(body.contains("connection"), "{body}");
    let mut call = client.request("POST", "/empty", "");
    call.headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    let response = client.send(call).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "14");
    let metrics = mesh.metrics();
    for flags in ["NC", "UH", "NR", "UF"] {
        assert!(
            metrics.contains(&format!("response_flags=\"{flags}\"")),
            "{flags}: {metrics}"
        );
    }
}

/// A filter that lets requests of this account in.
pub(crate) fn allows(account: &str) -> culvert_envoy::pb::google::protobuf::Any {
    use culvert_envoy::pb::envoy::{
        config::rbac::v3::principal::Identifier,
        r#type::matcher::v3::{FilterStateMatcher, StringMatcher, filter_state_matcher, string_matcher::MatchPattern},
    };
    let principal = Principal {
        identifier: Some(Identifier::FilterState(FilterStateMatcher {
            key: culvert_envoy::PEER_PRINCIPAL.to_owned(),
            matcher: Some(filter_state_matcher::Matcher::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Exact(crate::mesh::identity(account).to_string())),
                ..StringMatcher::default()
            })),
        })),
    };
    let policy = Policy {
        permissions: vec![Permission {
            rule: Some(permission::Rule::Any(true)),
        }],
        principals: vec![principal],
        ..Policy::default()
    };
    pack(&Rbac {
        rules: Some(Rules {
            action: RbacAction::Allow.into(),
            policies: [("ns shop".to_owned(), policy)].into(),
            ..Rules::default()
        }),
        ..Rbac::default()
    })
}

#[tokio::test]
async fn policies_decide_by_who_opened_the_tunnel() {
    let mesh = Mesh::start();
    let web = mesh.endpoint("web", false, |_| async { text("web") }).await;
    tell(
        &mesh,
        Protocol::Http1,
        &[&web],
        &routes(vec![route("/", &[("web", 1)])]),
    );
    let listener = |account| http_listener(vec![http_filter("rbac", allows(account))]);
    mesh.tell(|store| store.put_listener(&listener("client")).unwrap());
    assert_eq!(mesh.http1().await.get("/").await, (200, "web".to_owned()));
    mesh.tell(|store| store.put_listener(&listener("other")).unwrap());
    assert_eq!(
        mesh.http1().await.get("/").await,
        (403, "RBAC: access denied".to_owned())
    );
}

#[tokio::test]
async fn an_endpoint_by_its_own_address_is_reached_past_routes_and_not_past_policies() {
    let mesh = Mesh::start();
    let [one, two] = ["one", "two"].map(|name| mesh.endpoint(name, false, move |_| async move { text(name) }));
    let (one, two) = (one.await, two.await);
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        // The cluster of a port has the name of its routes.
        store.put_cluster(&cluster(ROUTES, Protocol::Http1)).unwrap();
        store.put_endpoints(&endpoints(ROUTES, &[&one, &two])).unwrap();
        let moved = routes(vec![changed(|action| action.prefix_rewrite = "/moved".to_owned())]);
        store.put_routes(&moved).unwrap();
    });
    for (endpoint, name) in [(&one, "one"), (&two, "two")] {
        let mut client = mesh.http1_to(&endpoint.address.to_string()).await;
        for _ in 0..4 {
            assert_eq!(client.get("/").await, (200, name.to_owned()));
        }
    }
    let filter = http_filter("rbac", allows("other"));
    mesh.tell(|store| store.put_listener(&http_listener(vec![filter])).unwrap());
    let mut client = mesh.http1_to(&one.address.to_string()).await;
    assert_eq!(client.get("/").await, (403, "RBAC: access denied".to_owned()));
    // Another port of the same pod is no endpoint.
    let other = std::net::SocketAddr::new(one.address.ip(), one.address.port() + 1);
    let refusal = mesh.connect("client", &other.to_string()).await.unwrap_err();
    assert!(refusal.to_string().contains("404"), "{refusal}");
}

#[tokio::test]
async fn a_mirror_gets_a_copy_and_its_answer_is_nobodys() {
    let mesh = Mesh::start();
    let web = mesh.endpoint("web", false, |_| async { text("web") }).await;
    let (told, mut copies) = tokio::sync::mpsc::unbounded_channel();
    let shadow = mesh
        .endpoint("shadow", true, move |request| {
            let told = told.clone();
            async move {
                let host = request.uri().authority().unwrap().to_string();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                told.send((host, body)).unwrap();
                status(500)
            }
        })
        .await;
    let mirror = RequestMirrorPolicy {
        cluster: "shadow".to_owned(),
        ..RequestMirrorPolicy::default()
    };
    let table = routes(vec![changed(|action| action.request_mirror_policies = vec![mirror])]);
    tell(&mesh, Protocol::Http1, &[&web], &table);
    mesh.tell(|store| {
        store.put_cluster(&cluster("shadow", Protocol::Http2)).unwrap();
        store.put_endpoints(&endpoints("shadow", &[&shadow])).unwrap();
    });
    let mut client = mesh.http1().await;
    let response = client.send(client.request("POST", "/", "hello")).await.unwrap();
    assert_eq!(response.status(), 200);
    let copy = tokio::time::timeout(DEADLINE, copies.recv()).await.unwrap().unwrap();
    assert_eq!((copy.0.as_str(), &copy.1[..]), ("web.shop-shadow", &b"hello"[..]));
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_counted() {
    let mesh = Mesh::start_with(Limits {
        requests: 0,
        ..Limits::default()
    });
    tell(&mesh, Protocol::Http1, &[], &routes(vec![route("/", &[("web", 1)])]));
    assert_eq!(mesh.http1().await.get("/").await.0, 503);
    assert!(mesh.metrics().contains("response_flags=\"UO\""));
}

#[tokio::test]
async fn a_filter_that_is_not_known_refuses_the_listener_by_name_and_the_last_one_stays() {
    let mesh = Mesh::start();
    let web = mesh.endpoint("web", false, |_| async { text("web") }).await;
    tell(
        &mesh,
        Protocol::Http1,
        &[&web],
        &routes(vec![route("/", &[("web", 1)])]),
    );
    mesh.tell(|store| {
        let unknown = http_filter("strange", pack(&ProtoDuration::default()));
        let refusal = store.put_listener(&http_listener(vec![unknown])).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "filter chain `shop/web.shop.svc.cluster.local:80`: http filter `strange`: typed_config: \
             type.googleapis.com/google.protobuf.Duration is not served here"
        );
    });
    assert_eq!(mesh.http1().await.get("/").await.0, 200);
}
