use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use crate::{Request, Response, Routes, prometheus::registry::Registry, serve};

fn ask(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn pages_answer_over_a_real_socket() {
    let routes = Routes::new()
        .get("/hello", |request: &Request| {
            Response::text(format!("hello {}", request.parameter("name").unwrap_or_default()))
        })
        .post("/stop", |_| Response::text("stopping"))
        .metrics(Arc::new(Registry::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, routes));
    let answers = tokio::task::spawn_blocking(move || {
        let request = |line: &str| {
            ask(
                address,
                &format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
            )
        };
        [
            request("GET /hello?name=a%20b"),
            request("GET /stop"),
            request("POST /stop"),
            request("GET /nothing"),
            request("GET /metrics"),
            ask(address, "\u{1}garbage\r\n\r\n"),
        ]
    })
    .await
    .unwrap();
    let [hello, get, post, nothing, metrics, garbage] = answers;
    assert!(
        hello.starts_with("HTTP/1.1 200") && hello.ends_with("hello a b"),
        "{hello}"
    );
    assert!(get.starts_with("HTTP/1.1 405"), "{get}");
    assert!(post.ends_with("stopping"), "{post}");
    assert!(
        nothing.starts_with("HTTP/1.1 404") && nothing.contains("/hello /stop /metrics"),
        "{nothing}"
    );
    assert!(
        metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    server.abort();
}
