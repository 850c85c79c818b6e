//! How long requests and their answers may take.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use culvert_envoy::{
    pack,
    pb::{
        envoy::{
            config::{
                core::v3::{HttpProtocolOptions, HttpUri, http_uri::HttpUpstreamType},
                route::v3::{RouteAction, route::Action, route_action::MaxStreamDuration},
            },
            extensions::filters::{
                http::ext_authz::v3::{BufferSettings, ExtAuthz, HttpService, ext_authz::Services},
                network::http_connection_manager::v3::HttpConnectionManager,
            },
        },
        google::protobuf,
    },
};
use culvert_waypoint::config::cluster::Protocol;
use futures_util::{Stream, StreamExt as _, stream};
use http::Response;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use tokio::time::{sleep, timeout};

use crate::{
    envoy::{chain, cluster, endpoints, http_filter, listener, manager, route, routes},
    mesh::{Client, DEADLINE, Endpoint, Mesh, SERVICE, text},
    wire::raw,
};

/// A limit, and a time that is longer than any.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);
pub(crate) const LONGER: Duration = Duration::from_secs(2);

pub(crate) fn proto(time: Duration) -> Option<protobuf::Duration> {
    Some(protobuf::Duration {
        seconds: time.as_secs().cast_signed(),
        nanos: time.subsec_nanos().cast_signed(),
    })
}

/// A piece every now and then, for so long.
fn dripping(time: Duration) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let until = Instant::now() + time;
    stream::unfold((), move |()| async move {
        sleep(LIMIT / 10).await;
        (Instant::now() < until).then(|| (Ok(Frame::data(Bytes::from_static(b"x"))), ()))
    })
}

/// An endpoint that does as the path says.
pub(crate) async fn app(mesh: &Mesh) -> Endpoint {
    mesh.endpoint("web", true, |request| async move {
        let path = request.uri().path().to_owned();
        let told = request.headers().get("grpc-timeout").cloned();
        let begin = stream::once(async { Ok(Frame::data(Bytes::from_static(b"begin"))) });
        match &*path {
            "/silent" => std::future::pending().await,
            "/stuck" => Response::new(BoxBody::new(StreamBody::new(begin.chain(stream::pending())))),
            "/drip" => Response::new(BoxBody::new(StreamBody::new(dripping(LONGER)))),
            "/slow" => {
                sleep(LONGER).await;
                text("late")
            }
            "/told" => text(told.map_or(String::new(), |told| told.to_str().unwrap().to_owned())),
            _ => {
                let body = request.into_body().collect().await;
                text(format!("{} bytes", body.map_or(0, |body| body.to_bytes().len())))
            }
        }
    })
    .await
}

/// A mesh whose manager and route are changed.
pub(crate) async fn served(
    change: impl FnOnce(&mut HttpConnectionManager),
    act: impl FnOnce(&mut RouteAction),
) -> (Mesh, Endpoint) {
    let mesh = Mesh::start();
    let web = app(&mesh).await;
    let mut route = route("/", &[("web", 1)]);
    if let Some(Action::Route(action)) = &mut route.action {
        action.timeout = proto(Duration::ZERO);
        act(action);
    }
    tell_manager(&mesh, change);
    mesh.tell(|store| {
        store.put_cluster(&cluster("web", Protocol::Http2)).unwrap();
        store.put_endpoints(&endpoints("web", &[&web])).unwrap();
        store.put_routes(&routes(vec![route])).unwrap();
    });
    (mesh, web)
}

/// The same manager, changed.
pub(crate) fn tell_manager(mesh: &Mesh, change: impl FnOnce(&mut HttpConnectionManager)) {
    let mut manager = manager(vec![]);
    manager.stream_idle_timeout = proto(Duration::ZERO);
    change(&mut manager);
    let name = "shop/web.shop.svc.cluster.local:80";
    let chain = chain(name, SERVICE.parse().unwrap(), &[], pack(&manager));
    mesh.tell(|store| store.put_listener(&listener(vec![chain])).unwrap());
}

fn lasting(time: Duration) -> impl FnOnce(&mut HttpConnectionManager) {
    move |manager| {
        manager.common_http_protocol_options = Some(HttpProtocolOptions {
            max_stream_duration: proto(time),
            ..HttpProtocolOptions::default()
        });
    }
}

#[tokio::test]
async fn a_request_that_does_not_come_in_time_is_answered_408_though_it_goes_on_coming() {
    let (mesh, _web) = served(|manager| manager.request_timeout = proto(LIMIT), |_| {}).await;
    // Until the waypoint closes: what follows would be the rest of the body.
    let begun = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf";
    let answer = raw(&mesh, begun, "").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("request timeout"), "{answer}");
    let mut client = mesh.http2().await;
    let forever = client
        .request("POST", "/", "")
        .map(|_| BoxBody::new(StreamBody::new(dripping(DEADLINE))));
    let response = client.send(forever).await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(
        client.get("/").await,
        (200, "0 bytes".to_owned()),
        "the connection goes on"
    );
}

#[tokio::test]
async fn a_request_that_has_come_in_time_is_answered_when_it_is_answered() {
    let (mesh, _web) = served(|manager| manager.request_timeout = proto(LIMIT), |_| {}).await;
    for mut client in [mesh.http1().await, mesh.http2().await] {
        assert_eq!(client.get("/slow").await, (200, "late".to_owned()));
        // Nor does the rest of a request count that is answered already.
        let (end, ends) = tokio::sync::oneshot::channel();
        let request = client.streaming("/drip", ends);
        let response = client.send(request).await.unwrap();
        let body = timeout(DEADLINE, response.into_body().collect()).await.unwrap();
        assert!(body.is_ok(), "{body:?}");
        drop(end);
    }
}

#[tokio::test]
async fn a_request_that_a_filter_waits_for_is_answered_408_and_nobody_is_asked() {
    let mesh = Mesh::start();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let door = mesh
        .endpoint("door", false, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            async { text("") }
        })
        .await;
    let asking = ExtAuthz {
        services: Some(Services::HttpService(HttpService {
            server_uri: Some(HttpUri {
                uri: "http://door".to_owned(),
                http_upstream_type: Some(HttpUpstreamType::Cluster("door".to_owned())),
                timeout: proto(DEADLINE),
            }),
            ..HttpService::default()
        })),
        with_request_body: Some(BufferSettings {
            max_request_bytes: 1024,
            ..BufferSettings::default()
        }),
        ..ExtAuthz::default()
    };
    tell_manager(&mesh, |manager| {
        manager.http_filters.insert(0, http_filter("door", pack(&asking)));
        manager.request_timeout = proto(LIMIT);
    });
    mesh.tell(|store| {
        store.put_cluster(&cluster("door", Protocol::Http1)).unwrap();
        store.put_endpoints(&endpoints("door", &[&door])).unwrap();
        store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
    });
    let begun = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf";
    let answer = raw(&mesh, begun, "").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn silence_ends_a_request_and_cuts_an_answer_and_nothing_else_does() {
    let (mesh, _web) = served(|manager| manager.stream_idle_timeout = proto(LIMIT), |_| {}).await;
    for mut client in [mesh.http1().await, mesh.http2().await] {
        assert_eq!(client.get("/silent").await, (504, "stream timeout".to_owned()));
        let response = client.send(client.request("GET", "/stuck", "")).await.unwrap();
        let body = timeout(DEADLINE, response.into_body().collect()).await.unwrap();
        assert!(body.is_err(), "{body:?}");
    }
    for mut client in [mesh.http1().await, mesh.http2().await] {
        // Neither is silent, and each takes longer than the limit.
        let (status, body) = client.get("/drip").await;
        assert!(status == 200 && !body.is_empty(), "{status} {body}");
        let long = client
            .request("POST", "/", "")
            .map(|_| BoxBody::new(StreamBody::new(dripping(LONGER))));
        assert_eq!(client.send(long).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_routes_own_silence_holds_in_the_place_of_its_ports() {
    let idle = |manager: &mut HttpConnectionManager| manager.stream_idle_timeout = proto(LIMIT);
    let (mesh, _web) = served(idle, |action| action.idle_timeout = proto(Duration::ZERO)).await;
    assert_eq!(mesh.http1().await.get("/slow").await, (200, "late".to_owned()));
}

#[tokio::test]
async fn an_exchange_that_lasts_too_long_is_ended_though_its_bytes_still_come() {
    let (mesh, _web) = served(lasting(LIMIT), |_| {}).await;
    for mut client in [mesh.http1().await, mesh.http2().await] {
        let late = (504, "downstream duration timeout".to_owned());
        assert_eq!(client.get("/silent").await, late);
        let response = client.send(client.request("GET", "/drip", "")).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = timeout(DEADLINE, response.into_body().collect()).await.unwrap();
        assert!(body.is_err(), "{body:?}");
    }
    let mut client = mesh.http2().await;
    let mut call = client.request("POST", "/silent", "");
    let grpc = "application/grpc".parse().unwrap();
    call.headers_mut().insert("content-type", grpc);
    let response = client.send(call).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"4".parse().unwrap())
    );
    // What has begun is not what comes: its body is cut by the same limit.
    let forever = client
        .request("POST", "/", "")
        .map(|_| BoxBody::new(StreamBody::new(dripping(DEADLINE))));
    assert_eq!(client.send(forever).await.unwrap().status(), 408);
}

#[tokio::test]
async fn a_routes_own_duration_holds_in_the_place_of_its_ports() {
    let any = |action: &mut RouteAction| {
        action.max_stream_duration = Some(MaxStreamDuration {
            max_stream_duration: proto(Duration::ZERO),
            ..MaxStreamDuration::default()
        });
    };
    let (mesh, _web) = served(lasting(LIMIT), any).await;
    assert_eq!(mesh.http1().await.get("/slow").await, (200, "late".to_owned()));
}

#[tokio::test]
async fn a_client_of_grpc_says_how_long_its_call_may_take_up_to_a_limit() {
    let most = |action: &mut RouteAction| {
        action.max_stream_duration = Some(MaxStreamDuration {
            max_stream_duration: proto(DEADLINE),
            grpc_timeout_header_max: proto(LONGER),
            ..MaxStreamDuration::default()
        });
    };
    let (mesh, _web) = served(|_| {}, most).await;
    let mut client = mesh.http2().await;
    for time in ["200m", "1H"] {
        let answer = call(&mut client, "/silent", time).await;
        assert_eq!(answer.headers()["grpc-status"], "4", "{time}");
    }
    for (asked, told) in [("1S", "1S"), ("1H", "2000m")] {
        let answer = call(&mut client, "/told", asked).await;
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), told);
    }
}

async fn call(client: &mut Client, path: &str, time: &str) -> Response<Incoming> {
    let mut call = client.request("POST", path, "");
    let headers = call.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("grpc-timeout", time.parse().unwrap());
    client.send(call).await.unwrap()
}
