//! The `h2` crate over tokio-rustls as the other end, over loopback TCP and several threads.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use common::{LONG, identity, pattern, round_trip};
use culvert_tunnel::io::{Destination, Dialer, Origin, Settings, Tunnels};
use http::{Method, Request, Response};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn to(node: SocketAddr) -> Destination {
    Destination {
        origin: Origin {
            identity: identity("client"),
            place: "".into(),
        },
        node,
        destination: "cart-7".into(),
        identities: [identity("server")].into(),
    }
}

async fn send_all(stream: &mut h2::SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context))
            .await
            .unwrap()
            .unwrap();
        stream
            .send_data(data.split_to(capacity.min(data.len())), false)
            .unwrap();
    }
}

/// A server of h2's that echoes every stream.
async fn h2_server(listener: TcpListener, credentials: Arc<culvert_identity::Credentials>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(credentials.server_config());
    while let Ok((socket, _)) = listener.accept().await {
        let tls = acceptor.accept(socket).await.unwrap();
        let mut server = h2::server::handshake(tls).await.unwrap();
        tokio::spawn(async move {
            while let Some(Ok((request, mut respond))) = server.accept().await {
                assert_eq!(request.method(), Method::CONNECT);
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(data)) = body.data().await {
                        body.flow_control().release_capacity(data.len()).unwrap();
                        send_all(&mut send, data).await;
                    }
                    let _ = send.send_data(Bytes::new(), true);
                });
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn our_client_and_an_h2_server() {
    let authority = common::Authority::new();
    let (listener, node) = listen().await;
    tokio::spawn(h2_server(listener, authority.credentials("server")));
    let tunnels = Tunnels::new(Dialer, Arc::new(authority.credentials("client")), Settings::default());
    let mut tasks = Vec::new();
    for n in 0..40 {
        let tunnels = tunnels.clone();
        tasks.push(tokio::spawn(async move {
            let authority = "cart.shop:8080".parse().unwrap();
            let headers = [("baggage", "service.name=us")];
            let stream = tunnels.open(&to(node), &authority, &headers, LONG).await;
            round_trip(stream.unwrap(), pattern(n * 30_000)).await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(tunnels.open_tunnels(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_h2_client_and_our_server() {
    let authority = common::Authority::new();
    let (listener, node) = listen().await;
    let server = common::server(&authority, Settings::default());
    let (ended, end) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (socket, from) = listener.accept().await.unwrap();
        let (requests, driver) = server.accept(socket, from).await.unwrap();
        let driver = tokio::spawn(driver);
        common::each(requests, common::echo).await;
        driver.await.unwrap();
        ended.send(()).unwrap();
    });
    let config = authority
        .credentials("client")
        .client_config([identity("server")].into())
        .unwrap();
    let socket = TcpStream::connect(node).await.unwrap();
    let tls = tokio_rustls::TlsConnector::from(config)
        .connect(ServerName::from(node.ip()), socket)
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(tls).await.unwrap();
    tokio::spawn(connection);
    let mut tasks = Vec::new();
    for n in 0..40 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            let request = Request::builder().method(Method::CONNECT).uri("cart.shop:8080");
            let mut client = client.ready().await.unwrap();
            let (response, mut send) = client.send_request(request.body(()).unwrap(), false).unwrap();
            let data = pattern(n * 30_000);
            let sent = Bytes::from(data.clone());
            tokio::spawn(async move {
                send_all(&mut send, sent).await;
                send.send_data(Bytes::new(), true).unwrap();
            });
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["baggage"], "service.name=echo");
            let mut body = response.into_body();
            let mut all = Vec::new();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                all.extend_from_slice(&data);
            }
            assert!(all == data);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    drop(client);
    end.await.unwrap();
}

/// Closing a socket with unread bytes resets it, and what the peer has not got yet is lost with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_peer_that_goes_on_sending_hears_why_its_tunnel_is_closed() {
    let authority = common::Authority::new();
    let (listener, node) = listen().await;
    let server = common::server(&authority, Settings::default());
    tokio::spawn(async move {
        while let Ok((socket, from)) = listener.accept().await {
            let (requests, driver) = server.accept(socket, from).await.unwrap();
            tokio::spawn(driver);
            tokio::spawn(common::each(requests, common::echo));
        }
    });
    for _ in 0..10 {
        let config = authority
            .credentials("client")
            .client_config([identity("server")].into());
        let socket = TcpStream::connect(node).await.unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(config.unwrap())
            .connect(ServerName::from(node.ip()), socket)
            .await
            .unwrap();
        // Preface, SETTINGS, then DATA on a stream that was never opened, and much behind it.
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        bytes.extend(b"\0\0\x01\0\0\0\0\0\x01x".repeat(200_000));
        let _ = tls.write_all(&bytes).await;
        let mut said = Vec::new();
        let _ = tls.read_to_end(&mut said).await;
        let go_away = [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert!(said.ends_with(&go_away), "{said:?}");
    }
}

/// Both ends ours, over TCP, on threads that share tunnels.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn our_client_and_our_server_on_many_threads() {
    let authority = common::Authority::new();
    let (listener, node) = listen().await;
    let server = common::server(&authority, Settings::default());
    tokio::spawn(async move {
        while let Ok((socket, from)) = listener.accept().await {
            let (requests, driver) = server.accept(socket, from).await.unwrap();
            tokio::spawn(driver);
            tokio::spawn(common::each(requests, common::echo));
        }
    });
    let tunnels = Tunnels::new(Dialer, Arc::new(authority.credentials("client")), Settings::default());
    let mut tasks = Vec::new();
    for n in 0..250 {
        let tunnels = tunnels.clone();
        tasks.push(tokio::spawn(async move {
            let authority = "198.18.0.1:80".parse().unwrap();
            let stream = tunnels.open(&to(node), &authority, &[], LONG).await;
            round_trip(stream.unwrap(), pattern(n * 4_000)).await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}
