//! What goes over a client's connection, byte by byte where that matters.

use std::time::Duration;

use culvert_envoy::{
    pack,
    pb::{self, envoy::config::route::v3::route::Action},
};
use culvert_waypoint::config::cluster::Protocol;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    envoy::{
        assignment, chain, cluster, endpoints, http_listener, listener, manager, route, routes, tcp_proxy, tunnelled,
    },
    mesh::{DEADLINE, Mesh, SERVICE, text},
};

/// How long a route lets an endpoint take.
const ROUTE_TIME: Duration = Duration::from_millis(300);

async fn web(protocol: Protocol) -> Mesh {
    let mesh = Mesh::start();
    let web = mesh
        .endpoint("web", protocol == Protocol::Http2, |request| async move {
            let body = request.into_body().collect().await;
            text(format!("{} bytes", body.map_or(0, |body| body.to_bytes().len())))
        })
        .await;
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("web", protocol)).unwrap();
        store.put_endpoints(&endpoints("web", &[&web])).unwrap();
        store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
    });
    mesh
}

/// Sends bytes, and reads until the waypoint closes or `until` was read.
pub(crate) async fn raw(mesh: &Mesh, bytes: &[u8], until: &str) -> String {
    let mut stream = mesh.connect("client", SERVICE).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        while stream.read_buf(&mut answer).await.is_ok_and(|n| n > 0) {
            if !until.is_empty() && String::from_utf8_lossy(&answer).contains(until) {
                return;
            }
        }
    };
    timeout(DEADLINE, read).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_that_two_servers_could_read_differently_are_refused() {
    let mesh = web(Protocol::Http1).await;
    for request in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx a: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
    ] {
        let answer = raw(&mesh, request.as_bytes(), "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{request:?}: {answer}");
    }
    // A server that knows nothing of chunks would read the next request out of this one's body.
    let old = raw(
        &mesh,
        b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "",
    )
    .await;
    assert!(old.contains(" 400 "), "{old}");
}

#[tokio::test]
async fn http10_is_refused_with_a_reason_unless_it_is_asked_for() {
    let mesh = web(Protocol::Http1).await;
    let old = raw(&mesh, b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", "").await;
    assert!(
        old.starts_with("HTTP/1.0 426") || old.starts_with("HTTP/1.1 426"),
        "{old}"
    );
}

#[tokio::test]
async fn of_a_length_and_chunks_the_chunks_count_and_the_length_goes_no_further() {
    let mesh = web(Protocol::Http1).await;
    let both =
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    let answer = raw(&mesh, both.as_bytes(), "bytes").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") || answer.ends_with("5 bytes"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let mesh = web(Protocol::Http1).await;
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x-a: b\r\n".repeat(101));
    let answer = raw(&mesh, many.as_bytes(), "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n\r\n", "b".repeat(61 << 10));
    let answer = raw(&mesh, large.as_bytes(), "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it() {
    let mesh = web(Protocol::Http1).await;
    let mut stream = mesh.connect("client", SERVICE).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    let exchange = async {
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut answer).await.unwrap();
        }
        assert_eq!(answer, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"hello").await.unwrap();
        while !answer.ends_with(b"5 bytes") {
            stream.read_buf(&mut answer).await.unwrap();
        }
    };
    timeout(DEADLINE, exchange).await.unwrap();
}

#[tokio::test]
async fn both_directions_stream_and_trailers_come_through() {
    let mesh = Mesh::start();
    let echo = mesh
        .endpoint("echo", true, |request| async move {
            // Back as it comes.
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let body = request.into_body().map_err(|error| panic!("{error}"));
            Response::new(http_body_util::combinators::BoxBody::new(
                body.with_trailers(async move { Some(Ok(trailers)) }),
            ))
        })
        .await;
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("web", Protocol::Http2)).unwrap();
        store.put_endpoints(&endpoints("web", &[&echo])).unwrap();
        store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
    });
    let mut client = mesh.http2().await;
    let (end, ends) = tokio::sync::oneshot::channel();
    let request = client.streaming("/", ends);
    let response = client.send(request).await.unwrap();
    let mut body = response.into_body();
    let first = timeout(DEADLINE, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "begin", "before the request has ended");
    end.send(()).unwrap();
    let rest = timeout(DEADLINE, body.collect()).await.unwrap().unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(rest.to_bytes(), "end");
}

#[tokio::test]
async fn messages_of_grpc_are_counted_in_both_directions() {
    let mesh = Mesh::start();
    let echo = mesh
        .endpoint("echo", true, |_| async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let body = Full::<bytes::Bytes>::from("\0\0\0\0\0\0\0\0\0\x01\x07");
            let body = body.map_err(|never| match never {});
            Response::new(http_body_util::combinators::BoxBody::new(
                body.with_trailers(async move { Some(Ok(trailers)) }),
            ))
        })
        .await;
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("web", Protocol::Http2)).unwrap();
        store.put_endpoints(&endpoints("web", &[&echo])).unwrap();
        store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
    });
    let mut client = mesh.http2().await;
    let mut request = client.request("POST", "/", "\0\0\0\0\x02\x01\x02\0\0\0\0\0\0\0\0\0\0");
    request
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    let response = client.send(request).await.unwrap();
    drop(
        timeout(DEADLINE, response.into_body().collect())
            .await
            .unwrap()
            .unwrap(),
    );
    let counts = |metrics: &str, name: &str| {
        let mut lines = metrics.lines().filter(|line| line.starts_with(name));
        lines
            .next()
            .and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    let all = async {
        loop {
            let metrics = mesh.metrics();
            let found = (
                counts(&metrics, "istio_request_messages_total{"),
                counts(&metrics, "istio_response_messages_total{"),
            );
            if found != (None, None) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(timeout(DEADLINE, all).await.unwrap(), (Some(3), Some(2)));
}

#[tokio::test]
async fn a_websocket_goes_through() {
    let mesh = Mesh::start();
    let web = mesh
        .endpoint("web", false, |mut request| async move {
            assert_eq!(request.headers()["upgrade"], "websocket");
            assert_eq!(request.headers()["connection"], "upgrade");
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut seen = [0; 4];
                io.read_exact(&mut seen).await.unwrap();
                io.write_all(&seen.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
                io.shutdown().await.unwrap();
            });
            let mut response = Response::new(Full::default().boxed());
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
            response
        })
        .await;
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("web", Protocol::Http1)).unwrap();
        store.put_endpoints(&endpoints("web", &[&web])).unwrap();
        store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
    });
    let answer = raw(
        &mesh,
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nping",
        "PING",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nPING"), "{answer}");
    let other = raw(
        &mesh,
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: strange\r\n\r\n",
        "\r\n\r\n",
    )
    .await;
    assert!(other.starts_with("HTTP/1.1 403"), "{other}");
}

#[tokio::test]
async fn a_request_to_change_protocols_has_the_routes_time_until_it_is_answered_and_none_afterwards() {
    let mesh = Mesh::start();
    let web = mesh
        .endpoint("web", false, |mut request| async move {
            if request.uri().path() == "/silent" {
                return std::future::pending().await;
            }
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                // For longer than the route's time.
                tokio::time::sleep(ROUTE_TIME * 3).await;
                io.write_all(b"late").await.unwrap();
                io.shutdown().await.unwrap();
            });
            let mut response = Response::new(Full::default().boxed());
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
            response
        })
        .await;
    let mut limited = route("/", &[("web", 1)]);
    if let Some(Action::Route(action)) = &mut limited.action {
        action.timeout = Some(pb::google::protobuf::Duration {
            seconds: 0,
            nanos: ROUTE_TIME.subsec_nanos().cast_signed(),
        });
    }
    mesh.tell(|store| {
        store.put_listener(&http_listener(vec![])).unwrap();
        store.put_cluster(&cluster("web", Protocol::Http1)).unwrap();
        store.put_endpoints(&endpoints("web", &[&web])).unwrap();
        store.put_routes(&routes(vec![limited])).unwrap();
    });
    let ask = |path| format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    let answer = raw(&mesh, ask("/silent").as_bytes(), "upstream request timeout").await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    let answer = raw(&mesh, ask("/chat").as_bytes(), "late").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_is_copied_and_each_direction_ends_by_itself() {
    let mesh = web(Protocol::Http1).await;
    let (told, mut authorities) = tokio::sync::mpsc::unbounded_channel();
    let echo = mesh
        .tunnelled("echo", move |mut stream, authority| {
            let told = told.clone();
            async move {
                told.send((authority.to_string(), stream.headers().to_vec())).unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(b"got ").await.unwrap();
                stream.write_all(&all).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        })
        .await;
    let at = SERVICE.parse().unwrap();
    let name = "shop/web.shop.svc.cluster.local:80";
    mesh.tell(|store| {
        let http = chain(name, at, &["http/1.1", "h2c"], pack(&manager(vec![])));
        let tcp = chain(&format!("{name} tcp"), at, &[], tcp_proxy("tcp"));
        store.put_listener(&listener(vec![http, tcp])).unwrap();
        store.put_cluster(&cluster("tcp", Protocol::Http1)).unwrap();
        store
            .put_endpoints(&assignment("tcp", vec![tunnelled(echo, "echo")]))
            .unwrap();
    });
    let mut stream = mesh.connect("client", SERVICE).await.unwrap();
    stream.write_all(b"\x00\x01no http").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, b"got \x00\x01no http");
    let (authority, headers) = authorities.recv().await.unwrap();
    assert_eq!(authority, echo.to_string());
    let header = |name: &str| {
        headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(header("forwarded"), Some("for=127.0.0.1"));
    assert_eq!(
        header("baggage"),
        Some("k8s.namespace.name=shop,k8s.deployment.name=wp")
    );
    let counted = |name: &str, labels: &[&str]| {
        let metrics = mesh.metrics();
        let mut series = metrics.lines().filter(|line| line.starts_with(name));
        let line = series.find(|line| labels.iter().all(|label| line.contains(label)));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
    };
    let opened = [
        "reporter=\"waypoint\"",
        "destination_service=\"web.shop.svc.cluster.local\"",
        "request_protocol=\"tcp\"",
        "response_flags=\"-\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    timeout(DEADLINE, async {
        while counted("istio_tcp_connections_closed_total", &opened) != Some(1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(counted("istio_tcp_connections_opened_total", &opened), Some(1));
    assert_eq!(counted("istio_tcp_received_bytes_total", &opened), Some(9));
    assert_eq!(counted("istio_tcp_sent_bytes_total", &opened), Some(13));
    // And HTTP on the same port.
    assert_eq!(mesh.http1().await.get("/").await.0, 200);
    assert_eq!(mesh.http2().await.get("/").await.0, 200);
    // What has no endpoint is counted, too, with its flag.
    mesh.tell(|store| {
        store.put_endpoints(&assignment("tcp", vec![])).unwrap();
    });
    let mut stream = mesh.connect("client", SERVICE).await.unwrap();
    stream.write_all(b"\x00\x01no http").await.unwrap();
    let failed = ["response_flags=\"UH\"", "connection_security_policy=\"unknown\""];
    timeout(DEADLINE, async {
        while counted("istio_tcp_connections_failed_total", &failed) != Some(1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_connection_to_what_is_no_service_of_this_waypoint_is_refused() {
    let mesh = web(Protocol::Http1).await;
    for other in ["198.18.9.1:81", "198.18.9.2:80", "web.shop:80"] {
        let refusal = mesh.connect("client", other).await.unwrap_err();
        assert!(refusal.to_string().contains("404"), "{other}: {refusal}");
    }
    assert!(
        mesh.metrics()
            .contains("culvert_waypoint_refused_total{what=\"connection\"")
    );
}

#[tokio::test]
async fn a_drain_ends_connections_after_their_requests() {
    let mesh = web(Protocol::Http2).await;
    let mut client = mesh.http2().await;
    let (end, ends) = tokio::sync::oneshot::channel();
    let request = client.streaming("/", ends);
    let answer = tokio::spawn(async move {
        let response = client.send(request).await.unwrap();
        (client, response.into_body().collect().await.unwrap().to_bytes())
    });
    let under_way = async {
        while mesh.requests("web") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, under_way).await.unwrap();
    mesh.drain.send_replace(true);
    end.send(()).unwrap();
    let (mut client, body) = timeout(DEADLINE, answer).await.unwrap().unwrap();
    assert_eq!(body, "8 bytes");
    assert!(client.send(client.request("GET", "/", "")).await.is_err(), "GOAWAY");
    drop(client);
    timeout(DEADLINE, mesh.serving).await.unwrap().unwrap();
}
