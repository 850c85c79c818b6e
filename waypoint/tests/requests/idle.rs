//! How long connections without a request are kept.

use std::{sync::atomic::Ordering, time::Duration};

use culvert_envoy::{
    pack,
    pb::envoy::{
        config::core::v3::HttpProtocolOptions as Common,
        extensions::{
            filters::network::http_connection_manager::v3::HttpConnectionManager,
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
                },
            },
        },
    },
};
use culvert_waypoint::config::cluster::Protocol;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use crate::{
    envoy::{cluster, endpoints, http_listener, route, routes},
    limits::{LIMIT, LONGER, proto, served, tell_manager},
    mesh::{Client, DEADLINE, Mesh, SERVICE, text},
};

fn idle(time: Duration) -> impl Fn(&mut HttpConnectionManager) {
    move |manager| {
        manager.common_http_protocol_options = Some(Common {
            idle_timeout: proto(time),
            ..Common::default()
        });
    }
}

/// Waits until the waypoint has ended a connection.
async fn ended(client: &Client) {
    let is_closed = || match client {
        Client::Http1(sender) => sender.is_closed(),
        Client::Http2(sender) => sender.is_closed(),
    };
    let closed = async {
        while !is_closed() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, closed).await.unwrap();
}

#[tokio::test]
async fn a_clients_connection_ends_when_it_had_no_request_for_long_and_never_with_one() {
    let (mesh, _web) = served(idle(LIMIT), |_| {}).await;
    for is_http2 in [false, true] {
        let mut client = match is_http2 {
            true => mesh.http2().await,
            false => mesh.http1().await,
        };
        // An answer that is waited for, a body that comes slowly, and one that goes slowly.
        assert_eq!(client.get("/slow").await, (200, "late".to_owned()));
        assert_eq!(client.get("/drip").await.0, 200);
        let (end, ends) = tokio::sync::oneshot::channel();
        let request = client.streaming("/", ends);
        let (response, ()) = tokio::join!(client.send(request), async {
            sleep(LONGER).await;
            end.send(()).unwrap();
        });
        assert_eq!(
            response.unwrap().into_body().collect().await.unwrap().to_bytes(),
            "8 bytes"
        );
        ended(&client).await;
    }
    // Nor is it kept that never had one.
    for client in [mesh.http1().await, mesh.http2().await] {
        ended(&client).await;
    }
}

#[tokio::test]
async fn the_time_of_a_chain_that_has_changed_holds_for_open_connections_with_http2() {
    let (mesh, _web) = served(idle(Duration::ZERO), |_| {}).await;
    let mut client = mesh.http2().await;
    assert_eq!(client.get("/").await.0, 200);
    tell_manager(&mesh, idle(LIMIT));
    ended(&client).await;
}

#[tokio::test]
async fn a_connection_to_an_endpoint_is_not_used_again_when_it_had_no_request_for_long() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mesh = Mesh::start();
        let web = mesh
            .endpoint("web", protocol == Protocol::Http2, |_| async { text("web") })
            .await;
        let mut kept = cluster("web", protocol);
        let config = match protocol {
            Protocol::Http2 => ProtocolConfig::Http2ProtocolOptions(Default::default()),
            _ => ProtocolConfig::HttpProtocolOptions(Default::default()),
        };
        let options = HttpProtocolOptions {
            common_http_protocol_options: Some(Common {
                idle_timeout: proto(LIMIT),
                ..Common::default()
            }),
            upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
                protocol_config: Some(config),
            })),
            ..HttpProtocolOptions::default()
        };
        for all in kept.typed_extension_protocol_options.values_mut() {
            *all = pack(&options);
        }
        mesh.tell(|store| {
            store.put_listener(&http_listener(vec![])).unwrap();
            store.put_cluster(&kept).unwrap();
            store.put_endpoints(&endpoints("web", &[&web])).unwrap();
            store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
        });
        let mut client = mesh.http1().await;
        assert_eq!(client.get("/").await.0, 200);
        let another = async {
            while web.connections.load(Ordering::SeqCst) == 1 {
                sleep(LONGER).await;
                assert_eq!(client.get("/").await.0, 200);
            }
        };
        timeout(DEADLINE, another).await.unwrap();
    }
}

#[tokio::test]
async fn a_websocket_is_closed_when_it_was_silent_for_long_and_not_before() {
    let mesh = Mesh::start();
    let web = mesh
        .endpoint("web", false, |mut request| async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut byte = [0];
                while io.read_exact(&mut byte).await.is_ok() {
                    io.write_all(&byte).await.unwrap();
                }
            });
            let mut response = Response::new(Full::default().boxed());
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
            response
        })
        .await;
    tell_manager(&mesh, |manager| manager.stream_idle_timeout = proto(LIMIT));
    mesh.tell(|store| {
        store.put_cluster(&cluster("web", Protocol::Http1)).unwrap();
        store.put_endpoints(&endpoints("web", &[&web])).unwrap();
        store.put_routes(&routes(vec![route("/", &[("web", 1)])])).unwrap();
    });
    let mut stream = mesh.connect("client", SERVICE).await.unwrap();
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let talk = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        for _ in 0..10 {
            sleep(LIMIT / 5).await;
            stream.write_all(b"x").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
        }
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await
    };
    let rest = timeout(DEADLINE, talk).await.unwrap();
    assert!(!matches!(rest, Ok(1..)), "{rest:?}");
}
