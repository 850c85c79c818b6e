//! The `h2` crate over tokio-rustls as the other end, over loopback TCP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod driven;

use std::time::Duration;

use bytes::Bytes;
use common::Event;
use culvert_hbone::{Authority, ErrorCode, StreamId};
use driven::{Driven, H2Server, client_and_h2, receive_all, send_all, server_and_h2};
use http::{Method, Request, Response};

fn pattern(size: usize) -> Bytes {
    (0..size).map(|n| (n * 7 / 5) as u8).collect::<Vec<_>>().into()
}

fn connect() -> Request<()> {
    let request = Request::builder().method(Method::CONNECT).uri("198.18.0.1:8080");
    request
        .header("baggage", "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop")
        .body(())
        .unwrap()
}

/// A test may take so long.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("in time")
}

/// Echoes streams until the peer goes. Returns the requests seen.
async fn echo(mut server: Driven) -> Vec<String> {
    let mut seen = Vec::new();
    let mut streams: Vec<(StreamId, Vec<u8>, bool)> = Vec::new();
    while let Some(events) = server.step().await {
        for event in events {
            match event {
                Event::Connect(id, request) => {
                    let request = request.unwrap();
                    seen.push(format!("{} {}", request.authority, request.header("baggage").unwrap()));
                    server
                        .end
                        .connection
                        .respond(id, 200, &[("baggage", "service.name=echo")], false);
                    streams.push((id, Vec::new(), false));
                }
                Event::Data(id, data) => streams.iter_mut().find(|stream| stream.0 == id).unwrap().1.extend(data),
                Event::End(id) => streams.iter_mut().find(|stream| stream.0 == id).unwrap().2 = true,
                Event::Reset(id, _) => streams.retain(|stream| stream.0 != id),
                _ => {}
            }
        }
        streams.retain_mut(|(id, waiting, ended)| {
            let n = server.end.connection.send(*id, waiting);
            waiting.drain(..n);
            server.end.connection.release(*id, n);
            if *ended && waiting.is_empty() {
                server.end.connection.finish(*id);
            }
            !(*ended && waiting.is_empty())
        });
        if server.end.connection.is_closed() {
            server.flush().await;
            break;
        }
    }
    seen
}

#[tokio::test]
async fn h2_client_echo_with_large_frames() {
    within(async {
        for frame in [16_384, 1 << 20] {
            let mut builder = h2::client::Builder::new();
            builder
                .max_frame_size(frame)
                .initial_window_size(1 << 20)
                .initial_connection_window_size(1 << 22);
            let (server, requests) = server_and_h2(&builder).await;
            let server = tokio::spawn(echo(server));
            let mut requests = requests.ready().await.unwrap();
            for size in [0, 1, 5_000_000] {
                let (response, mut send) = requests.send_request(connect(), false).unwrap();
                let data = pattern(size);
                let sending = tokio::spawn({
                    let data = data.clone();
                    async move { send_all(&mut send, data, true).await }
                });
                let response = response.await.unwrap();
                assert_eq!(response.status(), 200);
                assert_eq!(response.headers()["baggage"], "service.name=echo");
                assert!(receive_all(&mut response.into_body()).await == data);
                sending.await.unwrap();
            }
            drop(requests);
            let seen = server.await.unwrap();
            assert_eq!(
                seen,
                ["198.18.0.1:8080 k8s.cluster.name=Kubernetes,k8s.namespace.name=shop"; 3]
            );
        }
    })
    .await;
}

#[tokio::test]
async fn h2_client_many_streams_at_once() {
    within(async {
        let (server, requests) = server_and_h2(&h2::client::Builder::new()).await;
        let server = tokio::spawn(echo(server));
        let mut tasks = Vec::new();
        for n in 0..50 {
            let requests = requests.clone();
            tasks.push(tokio::spawn(async move {
                let mut requests = requests.ready().await.unwrap();
                let (response, mut send) = requests.send_request(connect(), false).unwrap();
                let data = pattern(100_000 + n);
                let sent = data.clone();
                tokio::spawn(async move { send_all(&mut send, sent, true).await });
                assert!(receive_all(&mut response.await.unwrap().into_body()).await == data);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        drop(requests);
        assert_eq!(server.await.unwrap().len(), 50);
    })
    .await;
}

#[tokio::test]
async fn h2_client_sees_refusals_resets_and_goaway() {
    within(async {
        let (mut server, requests) = server_and_h2(&h2::client::Builder::new()).await;
        let mut requests = requests.ready().await.unwrap();
        let (first, first_send) = requests.send_request(connect(), false).unwrap();
        let (second, second_send) = requests.send_request(connect(), false).unwrap();
        let get = Request::builder()
            .method(Method::GET)
            .uri("https://peer.mesh/")
            .body(())
            .unwrap();
        let (third, _) = requests.send_request(get, true).unwrap();
        let work = tokio::spawn(async move {
            let mut asked = Vec::new();
            while asked.len() < 3 {
                for event in server.step().await.unwrap() {
                    if let Event::Connect(id, request) = event {
                        asked.push((id, request));
                    }
                }
            }
            let connection = &mut server.end.connection;
            connection.respond(asked[0].0, 401, &[], true);
            connection.reset(asked[1].0, ErrorCode::ConnectError);
            connection.respond(asked[2].0, asked[2].1.as_ref().unwrap_err().status(), &[], true);
            connection.go_away();
            while server.step().await.is_some() {}
            server.end.connection.is_drained()
        });
        assert_eq!(first.await.unwrap().status(), 401);
        assert_eq!(second.await.unwrap_err().reason(), Some(h2::Reason::CONNECT_ERROR));
        assert_eq!(third.await.unwrap().status(), 405);
        drop((first_send, second_send));
        // No new streams; the connection ends by itself.
        let refused = std::future::poll_fn(|context| requests.poll_ready(context)).await;
        if refused.is_ok() {
            let (response, _) = requests.send_request(connect(), false).unwrap();
            assert!(response.await.is_err());
        }
        drop(requests);
        work.await.unwrap();
    })
    .await;
}

/// Answers and echoes every stream.
async fn h2_echo(mut server: H2Server) {
    while let Some(request) = server.accept().await {
        let Ok((request, mut respond)) = request else { return };
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.uri().authority().unwrap().as_str(), "198.18.0.1:8080");
        let response = Response::builder()
            .header("baggage", "service.name=h2")
            .body(())
            .unwrap();
        let mut send = respond.send_response(response, false).unwrap();
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                send_all(&mut send, data, false).await;
            }
            let _ = send.send_data(Bytes::new(), true);
        });
    }
}

#[tokio::test]
async fn h2_server_echo_with_large_frames() {
    within(async {
        let mut builder = h2::server::Builder::new();
        builder
            .max_frame_size(1 << 20)
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 22);
        let mut client = client_and_h2(builder, h2_echo).await;
        let authority: Authority = "198.18.0.1:8080".parse().unwrap();
        for size in [0, 1, 5_000_000] {
            let data = pattern(size);
            let id = client
                .end
                .connection
                .open(&authority, &[("baggage", "service.name=us")])
                .unwrap();
            let (mut sent, mut received, mut ended, mut over) = (0, Vec::new(), false, false);
            while !over {
                sent += client.end.connection.send(id, &data[sent..]);
                if sent == data.len() && !ended {
                    client.end.connection.finish(id);
                    ended = true;
                }
                for event in client.step().await.unwrap() {
                    match event {
                        Event::Response(_, response) => {
                            assert_eq!(response.status, 200);
                            assert_eq!(response.headers, [("baggage".to_owned(), "service.name=h2".to_owned())]);
                        }
                        Event::Data(_, bytes) => {
                            client.end.connection.release(id, bytes.len());
                            received.extend(bytes);
                        }
                        Event::End(_) => over = true,
                        Event::Writable => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert!(received == data[..]);
            assert_eq!(client.end.connection.streams(), 0);
        }
    })
    .await;
}

/// The server ends its half first; ours goes on and arrives.
#[tokio::test]
async fn half_close_by_an_h2_server() {
    within(async {
        let (done, arrived) = tokio::sync::oneshot::channel();
        let serve = |mut server: H2Server| async move {
            let (request, mut respond) = server.accept().await.unwrap().unwrap();
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(b"that is all"), true).unwrap();
            tokio::spawn(async move {
                let mut body = request.into_body();
                done.send(receive_all(&mut body).await).unwrap();
            });
            while server.accept().await.is_some() {}
        };
        let mut client = client_and_h2(h2::server::Builder::new(), serve).await;
        let id = client
            .end
            .connection
            .open(&"198.18.0.1:8080".parse().unwrap(), &[])
            .unwrap();
        let mut ended = false;
        while !ended {
            ended = client.step().await.unwrap().contains(&Event::End(id));
        }
        let data = pattern(1_000_000);
        let mut sent = 0;
        while sent < data.len() {
            sent += client.end.connection.send(id, &data[sent..]);
            client.step().await.unwrap();
        }
        client.end.connection.finish(id);
        assert_eq!(client.end.connection.streams(), 0);
        client.flush().await;
        assert!(arrived.await.unwrap() == data);
    })
    .await;
}

#[tokio::test]
async fn goaway_and_reset_of_an_h2_server() {
    within(async {
        let serve = |mut server: H2Server| async move {
            let (_, mut first) = server.accept().await.unwrap().unwrap();
            let (_, mut second) = server.accept().await.unwrap().unwrap();
            first.send_reset(h2::Reason::CONNECT_ERROR);
            second.send_response(Response::new(()), true).unwrap();
            server.graceful_shutdown();
            while server.accept().await.is_some() {}
        };
        let mut client = client_and_h2(h2::server::Builder::new(), serve).await;
        let authority = "198.18.0.1:8080".parse().unwrap();
        let first = client.end.connection.open(&authority, &[]).unwrap();
        let second = client.end.connection.open(&authority, &[]).unwrap();
        let mut events = Vec::new();
        while !events
            .iter()
            .any(|event| matches!(event, Event::GoAway(_, ErrorCode::NoError)))
            || !events.contains(&Event::End(second))
        {
            events.extend(client.step().await.unwrap());
        }
        assert!(events.contains(&Event::Reset(first, ErrorCode::ConnectError)));
        assert!(client.end.connection.is_going_away() && !client.end.connection.can_open());
        client.end.connection.finish(second);
        // Its last stream has ended: the server closes.
        while !client.end.connection.is_closed() {
            if client.step().await.is_none() {
                break;
            }
        }
        assert_eq!(client.end.connection.streams(), 0);
    })
    .await;
}
