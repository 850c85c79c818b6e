//! Bytes of clients to the waypoint's HTTP/1 and HTTP/2 edge: the server's parser, and what is made of each request that it takes
//! before routes see it and before an endpoint gets it.
#![no_main]

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    task::{Context, Poll},
};

use culvert_waypoint::headers;
use http::{HeaderMap, Request, Response, header, request::Parts};
use hyper::{body::Incoming, rt, server::conn, service::service_fn};
use hyper_util::rt::TokioExecutor;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, bool, bool, &[u8])| {
    let (is_http2, dots, slashes, bytes) = input;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let service = service_fn(move |request: Request<Incoming>| {
        let (head, _) = request.into_parts();
        look_at(head, dots, slashes);
        std::future::ready(Ok::<_, Infallible>(Response::new(String::new())))
    });
    runtime.block_on(async {
        let io = Recorded(bytes);
        // How it ends is the peer's doing; that it ends is what counts.
        let _ = match is_http2 {
            false => conn::http1::Builder::new().serve_connection(io, service).await,
            true => {
                conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
                    .await
            }
        };
    });
});

/// What is done with the head of a request.
fn look_at(mut head: Parts, dots: bool, slashes: bool) {
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let _ = headers::upgrade(&head);
    if headers::receive(&mut head, &headers::address(client)).is_err() {
        return;
    }
    assert!(head.uri.authority().is_some() && !head.headers.contains_key(header::HOST));
    has_nothing_of_the_connection(&head.headers);
    if headers::normalize(&mut head, dots, slashes).is_err() {
        return;
    }
    let once = head.uri.clone();
    let again = headers::normalize(&mut head, dots, slashes);
    assert!(again.is_ok() && head.uri == once, "{once} is not normal");
    for is_http2 in [false, true] {
        let mut sent = head.clone();
        if headers::send(&mut sent, is_http2).is_ok() {
            assert_eq!(
                sent.headers.get_all(header::HOST).iter().count(),
                usize::from(!is_http2)
            );
        }
    }
}

fn has_nothing_of_the_connection(headers: &HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        assert!(!headers.contains_key(&name), "{name}");
    }
    // A length that is believed by one server and not by the next is where requests are smuggled.
    assert!(headers.get_all(header::CONTENT_LENGTH).iter().count() <= 1);
}

/// A client that has said all it says.
struct Recorded<'a>(&'a [u8]);

impl rt::Read for Recorded<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut to: rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let count = self.0.len().min(to.remaining());
        let (now, later) = self.0.split_at(count);
        to.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl rt::Write for Recorded<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
