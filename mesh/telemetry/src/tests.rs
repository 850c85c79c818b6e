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

/// PC H7: 64 clients that come back every moment keep nobody from being answered.
#[tokio::test]
async fn clients_that_hold_connections_keep_nobody_from_being_answered() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, Routes::new()));
    tokio::task::spawn_blocking(move || {
        // Some ask and do not read, some send half a request, some say nothing at all.
        let hold = |text: &[u8]| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(text).unwrap();
            stream
        };
        let mut held = Vec::new();
        for _ in 0..64 {
            held.push(hold(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
            held.push(hold(b"GET / HTTP/1.1\r\n"));
            held.push(hold(b""));
            let answer = ask(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        }
        drop(held);
    })
    .await
    .unwrap();
    server.abort();
}

#[tokio::test]
async fn a_local_page_is_for_loopback_alone() {
    let routes = Routes::new()
        .get("/open", |_| Response::text("open"))
        .get_local("/inside", |_| Response::text("inside"));
    let asked = async |peer: &str, path: &str| {
        let request = Request::new(http::Method::GET, path).with_peer(peer.parse().unwrap());
        routes.answer(request).await.code().as_u16()
    };
    for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(asked(local, "/inside").await, 200, "{local}");
    }
    for other in ["198.18.0.1", "fd00:c01e::1", "::ffff:198.18.0.1"] {
        assert_eq!(asked(other, "/inside").await, 403, "{other}");
        assert_eq!(asked(other, "/open").await, 200, "{other}");
    }
}

#[tokio::test]
async fn a_page_that_reads_a_body_gets_it_whole_or_not_at_all() {
    let echo = |request: Request| async move { Response::text(String::from_utf8_lossy(request.body()).into_owned()) };
    let routes = Routes::new().post_local("/echo", 100 << 10, echo);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, routes));
    let answers = tokio::task::spawn_blocking(move || {
        [5, 100 << 10, (100 << 10) + 1].map(|length| {
            let body = "x".repeat(length);
            let head = format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
            ask(address, &(head + &body))
        })
    });
    let [short, long, too_long] = answers.await.unwrap();
    assert!(short.ends_with("\r\n\r\nxxxxx"), "{short}");
    assert!(long.starts_with("HTTP/1.1 200") && long.ends_with('x'));
    assert!(too_long.starts_with("HTTP/1.1 413"), "{too_long}");
    server.abort();
}
