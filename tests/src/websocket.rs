//! WebSocket over HTTP/2, by an extended CONNECT (RFC 8441): an application that sends back what it gets, and a client.

use crate::tunnel::runtime;
use bytes::Bytes;
use culvert_lab::Pod;
use h2::{RecvStream, SendStream, ext::Protocol};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use std::{net::SocketAddr, time::Duration};

/// An application, as long as it is there.
pub struct Server {
    _runtime: tokio::runtime::Runtime,
}

/// Serves a port of a pod. What asks for WebSocket gets it, and then its own bytes; all else is 404.
pub fn serve(pod: &Pod, port: u16) -> Server {
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    listener.set_nonblocking(true).unwrap();
    let runtime = runtime(1);
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                builder.enable_connect_protocol();
                let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else {
                    return;
                };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
                    let is_websocket = request.method() == Method::CONNECT && protocol == Some("websocket");
                    let status = if is_websocket {
                        StatusCode::OK
                    } else {
                        StatusCode::NOT_FOUND
                    };
                    let answer = Response::builder()
                        .status(status)
                        .header("x-app", "ws2")
                        .body(())
                        .unwrap();
                    if let Ok(to) = respond.send_response(answer, !is_websocket) {
                        tokio::spawn(echo(request.into_body(), to));
                    }
                }
            });
        }
    });
    Server { _runtime: runtime }
}

async fn echo(mut from: RecvStream, mut to: SendStream<Bytes>) {
    while let Some(Ok(bytes)) = from.data().await {
        let _released = from.flow_control().release_capacity(bytes.len());
        if to.send_data(bytes, false).is_err() {
            return;
        }
    }
    let _ended = to.send_data(Bytes::new(), true);
}

/// What became of a client's wish.
#[derive(Debug)]
pub struct Reply {
    /// The answer's status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// What came back for what was sent; nothing where the answer is not 200.
    pub back: Vec<u8>,
}

/// Asks for WebSocket over a connection of its own, sends these bytes, and waits until as many are back. The application is told to answer by this
/// status.
///
/// # Errors
/// When the connection or the stream breaks, or it takes longer than `patience`.
pub fn ask(
    from: &Pod,
    to: SocketAddr,
    uri: &str,
    (key, answer): (&str, &str),
    bytes: &[u8],
    patience: Duration,
) -> Result<Reply, String> {
    let socket = from.connect(to, patience).map_err(|error| error.to_string())?;
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(uri)
        .header(crate::app::KEY, key)
        .header(crate::app::ANSWERS, answer);
    let mut request = request.header("sec-websocket-version", "13").body(()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let bytes = Bytes::copy_from_slice(bytes);
    runtime(0).block_on(async {
        let one = async {
            let socket = tokio::net::TcpStream::from_std(socket).unwrap();
            let (mut client, connection) = h2::client::handshake(socket).await?;
            tokio::spawn(connection);
            client = client.ready().await?;
            let (answer, mut out) = client.send_request(request, false)?;
            let (head, mut body) = answer.await?.into_parts();
            let mut back = Vec::new();
            if head.status == StatusCode::OK {
                let expected = bytes.len();
                out.send_data(bytes, false)?;
                // Envoy passes an end on at once, and with HTTP/1.1 ends both directions by it.
                while back.len() < expected
                    && let Some(piece) = body.data().await
                {
                    let piece = piece?;
                    body.flow_control().release_capacity(piece.len())?;
                    back.extend_from_slice(&piece);
                }
            }
            Ok::<_, h2::Error>(Reply {
                status: head.status.as_u16(),
                headers: head.headers,
                back,
            })
        };
        let answer = tokio::time::timeout(patience, one).await;
        answer
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|error| error.to_string())
    })
}
