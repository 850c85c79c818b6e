//! hyper's clients and servers inside tunnels, in HTTP/1.1 and HTTP/2.
use bytes::Bytes;
use culvert_hbone::Authority;
use culvert_tunnel::io::{Request, Settings, Stream};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::common::{self, LONG, client, destination, pattern, serve};

/// Sends the body back, with the method and the path in a header.
async fn answer(request: http::Request<Incoming>) -> Result<http::Response<Full<Bytes>>, hyper::Error> {
    let asked = format!("{} {}", request.method(), request.uri().path());
    let body = request.into_body().collect().await?.to_bytes();
    let response = http::Response::builder().header("asked", asked).body(Full::new(body));
    Ok(response.unwrap())
}

async fn http1(request: Request) {
    let stream = TokioIo::new(request.accept(&[]));
    let server = server::conn::http1::Builder::new();
    server.serve_connection(stream, service_fn(answer)).await.unwrap();
}

async fn http2(request: Request) {
    let stream = TokioIo::new(request.accept(&[]));
    let server = server::conn::http2::Builder::new(TokioExecutor::new());
    server.serve_connection(stream, service_fn(answer)).await.unwrap();
}

fn post(path: &str, body: Vec<u8>) -> http::Request<Full<Bytes>> {
    http::Request::post(format!("http://cart.shop{path}"))
        .header("host", "cart.shop")
        .body(Full::new(body.into()))
        .unwrap()
}

async fn check(response: http::Response<Incoming>, path: &str, body: &[u8]) {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["asked"], format!("POST {path}"));
    let received = response.into_body().collect().await.unwrap().to_bytes();
    assert!(received == body);
}

async fn open(client: &common::Client) -> TokioIo<Stream> {
    let to: Authority = "cart.shop:80".parse().unwrap();
    TokioIo::new(client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn http1_requests_go_one_after_the_other_with_bodies_of_every_size() {
    let authority = common::Authority::new();
    let mut client = client(&authority, Settings::default(), 64 << 10);
    let accept = std::mem::replace(&mut client.accept, tokio::sync::mpsc::unbounded_channel().1);
    let mut tasks = serve(common::server(&authority, Settings::default()), accept, http1);
    let (mut sender, connection) = conn::http1::handshake(open(&client).await).await.unwrap();
    let connection = tokio::spawn(connection);
    for (n, size) in [0, 1, 1000, 3 << 20].into_iter().enumerate() {
        let path = format!("/{n}");
        let response = sender.send_request(post(&path, pattern(size))).await.unwrap();
        check(response, &path, &pattern(size)).await;
    }
    drop(sender);
    // Both ends of the connection inside end in order, and so does the tunnel around it.
    connection.await.unwrap().unwrap();
    drop(client);
    tasks.recv().await.unwrap().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn http2_requests_go_side_by_side() {
    let authority = common::Authority::new();
    let mut client = client(&authority, Settings::default(), 64 << 10);
    let accept = std::mem::replace(&mut client.accept, tokio::sync::mpsc::unbounded_channel().1);
    let mut tasks = serve(common::server(&authority, Settings::default()), accept, http2);
    let handshake = conn::http2::handshake(TokioExecutor::new(), open(&client).await);
    let (sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let mut requests = Vec::new();
    for n in 0..20 {
        let mut sender = sender.clone();
        requests.push(tokio::spawn(async move {
            let (path, body) = (format!("/{n}"), pattern(n * 50_000));
            let response = sender.send_request(post(&path, body.clone())).await.unwrap();
            check(response, &path, &body).await;
        }));
    }
    for request in requests {
        request.await.unwrap();
    }
    drop(sender);
    connection.await.unwrap().unwrap();
    drop(client);
    tasks.recv().await.unwrap().await.unwrap();
}
