//! gRPC as it is on the wire: HTTP/2, an answer's head, a message, and the status in trailers.

use crate::tunnel::runtime;
use bytes::Bytes;
use culvert_lab::Pod;
use http::{HeaderMap, Request, Response};
use std::{net::SocketAddr, time::Duration};

/// A server that answers every call with its name as the message and `grpc-status: 0` in trailers, as long as it is there; a method `Fail`
/// ends by INTERNAL, one `Unavailable` by UNAVAILABLE. How often it was tried by then is in trailers, too.
pub struct Server {
    _runtime: tokio::runtime::Runtime,
}

/// How a call ended.
#[derive(Debug)]
pub struct Reply {
    /// The answer's status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The message, without its five bytes of length.
    pub message: Vec<u8>,
    /// What came after it.
    pub trailers: Option<HeaderMap>,
}

/// Serves a port of a pod.
pub fn serve(pod: &Pod, port: u16, name: &'static str) -> Server {
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    listener.set_nonblocking(true).unwrap();
    let runtime = runtime(1);
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else {
                    return;
                };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let head = Response::builder().header("content-type", "application/grpc");
                    let Ok(mut to) = respond.send_response(head.body(()).unwrap(), false) else {
                        continue;
                    };
                    let mut message = vec![0, 0, 0, 0, u8::try_from(name.len()).unwrap()];
                    message.extend_from_slice(name.as_bytes());
                    let mut trailers = HeaderMap::new();
                    let status = match request.uri().path().rsplit('/').next() {
                        Some("Fail") => "13",
                        Some("Unavailable") => "14",
                        _ => "0",
                    };
                    if let Some(attempt) = request.headers().get("x-envoy-attempt-count") {
                        trailers.insert("x-attempt", attempt.clone());
                    }
                    trailers.insert("grpc-status", status.parse().unwrap());
                    trailers.insert("x-trailer", name.parse().unwrap());
                    // Who has gone is not waited for.
                    let _sent = to.send_data(message.into(), false);
                    let _sent = to.send_trailers(trailers);
                }
            });
        }
    });
    Server { _runtime: runtime }
}

/// One call over a connection of its own, with an empty message.
///
/// # Errors
/// When the connection or the stream breaks, or the call takes longer than `patience`.
pub fn call(from: &Pod, to: SocketAddr, path: &str, patience: Duration) -> Result<Reply, String> {
    let socket = from.connect(to, patience).map_err(|error| error.to_string())?;
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    runtime(0).block_on(async {
        let one = exchange(socket, path);
        tokio::time::timeout(patience, one)
            .await
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|error| error.to_string())
    })
}

async fn exchange(socket: std::net::TcpStream, path: &str) -> Result<Reply, h2::Error> {
    let socket = tokio::net::TcpStream::from_std(socket).unwrap();
    let (client, connection) = h2::client::handshake(socket).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("http://books.town{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut client = client.ready().await?;
    let (response, mut body) = client.send_request(request.body(()).unwrap(), false)?;
    body.send_data(Bytes::from_static(&[0; 5]), true)?;
    let (head, mut from) = response.await?.into_parts();
    let mut message = Vec::new();
    while let Some(bytes) = from.data().await {
        let bytes = bytes?;
        from.flow_control().release_capacity(bytes.len())?;
        message.extend_from_slice(&bytes);
    }
    let trailers = from.trailers().await?;
    Ok(Reply {
        status: head.status.as_u16(),
        headers: head.headers,
        message: message.get(5..).unwrap_or_default().to_vec(),
        trailers,
    })
}
