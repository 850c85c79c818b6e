//! An application that speaks TLS itself, and inside of it HTTP/1.1, HTTP/2 or bytes, by what its client says (ALPN): what requests that a
//! waypoint sends over TLS come to.

use crate::{authority::Leaf, tunnel::runtime};
use bytes::Bytes;
use culvert_lab::Pod;
use http::{HeaderMap, Response};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A server as long as it is there.
pub struct TlsServer {
    reached: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl TlsServer {
    /// Serves a port of a pod, with this certificate. Answers of HTTP have the headers `x-sni` and `x-alpn`: the name that the client has asked
    /// for, and what it has said to speak. Calls of gRPC are answered by a status in trailers. Where nothing is said, bytes come back as they
    /// were, behind `tls:`.
    pub fn serve(pod: &Pod, port: u16, leaf: Leaf) -> Self {
        let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let reached = Arc::new(AtomicUsize::new(0));
        let (counter, runtime) = (Arc::clone(&reached), runtime(1));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, counter) = (acceptor.clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        answer(stream, &counter).await;
                    }
                });
            }
        });
        Self {
            reached,
            _runtime: runtime,
        }
    }

    /// How many requests, and connections of bytes, have come in TLS.
    pub fn reached(&self) -> usize {
        self.reached.load(Ordering::Relaxed)
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(stream: TlsStream<S>, reached: &AtomicUsize) {
    let (_, session) = stream.get_ref();
    let name = session.server_name().unwrap_or("-").to_owned();
    let protocol = session
        .alpn_protocol()
        .map(|protocol| String::from_utf8_lossy(protocol).into_owned());
    match protocol.as_deref() {
        Some("h2") => http2(stream, &name, reached).await,
        Some(_) => http1(stream, &name, reached).await,
        None => bytes_back(stream, reached).await,
    }
}

async fn http1<S: AsyncRead + AsyncWrite + Unpin>(mut stream: TlsStream<S>, name: &str, reached: &AtomicUsize) {
    let mut head = Vec::new();
    let mut some = [0; 4096];
    while let Ok(count) = stream.read(&mut some).await {
        if count == 0 {
            return;
        }
        head.extend_from_slice(&some[..count]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            reached.fetch_add(1, Ordering::Relaxed);
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx-sni: {name}\r\nx-alpn: http/1.1\r\n\r\ntls");
            if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}

async fn http2<S: AsyncRead + AsyncWrite + Unpin>(stream: TlsStream<S>, name: &str, reached: &AtomicUsize) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        reached.fetch_add(1, Ordering::Relaxed);
        let head = Response::builder().header("content-type", "application/grpc");
        let head = head.header("x-sni", name).header("x-alpn", "h2").body(()).unwrap();
        let Ok(mut to) = respond.send_response(head, false) else {
            continue;
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        // Who has gone is not waited for.
        let _sent = to.send_data(Bytes::from_static(b"\0\0\0\0\x03tls"), false);
        let _sent = to.send_trailers(trailers);
    }
}

async fn bytes_back<S: AsyncRead + AsyncWrite + Unpin>(mut stream: TlsStream<S>, reached: &AtomicUsize) {
    reached.fetch_add(1, Ordering::Relaxed);
    let mut some = [0; 4096];
    while let Ok(count) = stream.read(&mut some).await {
        let answer = [b"tls:", &some[..count]].concat();
        if count == 0 || stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}
