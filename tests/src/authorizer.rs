//! Authorization services in pods, and an application whose answers tell what it was sent, bodies included.

use std::{
    io::{self, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use culvert_lab::Pod;
use http::{HeaderMap, Response};

use crate::http::{Head, read_head};
use crate::tunnel::runtime;

/// Requests that a service was asked about: their heads and bodies.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Mutex<Vec<(Head, String)>>>);

impl Asked {
    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The last one.
    pub fn last(&self) -> Option<(Head, String)> {
        self.0.lock().unwrap().last().cloned()
    }
}

/// A service that refuses paths with `denied` in them by 401, answers those with `nothing` by 204 and those with `elsewhere` by 302, has an error of its own for those with `broken`, and refuses bodies that do not
/// begin with `ok`.
pub fn http(pod: &Pod, port: u16) -> Asked {
    serve(pod, port, |head, body| {
        let path = head.first();
        let (status, headers, text) = match path {
            path if path.contains("denied") => ("401 Unauthorized", "x-why: so\r\nx-secret: s\r\n", "go away"),
            path if path.contains("nothing") => ("204 No Content", "x-user: ann\r\n", ""),
            path if path.contains("elsewhere") => ("302 Found", "location: /login\r\n", ""),
            path if path.contains("broken") => ("500 Internal Server Error", "", ""),
            _ if body.is_empty() || body.starts_with("ok") => ("200 OK", "x-user: ann\r\nx-secret: s\r\n", ""),
            _ => ("403 Forbidden", "", "bad body"),
        };
        format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{text}",
            text.len()
        )
    })
}

/// An application that answers with the heads and bodies that it gets.
pub fn app(pod: &Pod, port: u16) -> Asked {
    serve(pod, port, |head, body| {
        let text = format!("app\n{}\nbody: {body}\n", head.0.join("\n"));
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
    })
}

fn serve(pod: &Pod, port: u16, answer: fn(&Head, &str) -> String) -> Asked {
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    let asked = Asked::default();
    let all = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let all = all.clone();
            thread::spawn(move || drop(answer_all(stream, &all, answer)));
        }
    });
    asked
}

fn answer_all(stream: TcpStream, asked: &Asked, answer: fn(&Head, &str) -> String) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader)? {
        let length = head.get("content-length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let text = answer(&head, &body);
        asked.0.lock().unwrap().push((head, body));
        writer.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// A service of `envoy.service.auth.v3.Authorization`, for as long as it is there: it refuses by 401 what has `denied` in its path, and
/// else adds `x-user` to the request and `x-told` to its answer.
pub struct Grpc {
    _runtime: tokio::runtime::Runtime,
}

/// Serves a port of a pod.
pub fn grpc(pod: &Pod, port: u16) -> Grpc {
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
                    tokio::spawn(async move {
                        let mut body = request.into_body();
                        let mut bytes = Vec::new();
                        while let Some(Ok(more)) = body.data().await {
                            let _ = body.flow_control().release_capacity(more.len());
                            bytes.extend_from_slice(&more);
                        }
                        let is_denied = bytes.windows(6).any(|window| window == b"denied");
                        let head = Response::builder().header("content-type", "application/grpc");
                        let Ok(mut to) = respond.send_response(head.body(()).unwrap(), false) else {
                            return;
                        };
                        let message = if is_denied { denial() } else { leave() };
                        let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
                        framed.extend_from_slice(&message);
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        // Who has gone is not waited for.
                        let _sent = to.send_data(framed.into(), false);
                        let _sent = to.send_trailers(trailers);
                    });
                }
            });
        }
    });
    Grpc { _runtime: runtime }
}

/// A CheckResponse that allows.
fn leave() -> Vec<u8> {
    let ok = [
        field(2, &option("x-user", "ann")),
        field(6, &option("x-told", "client")),
    ]
    .concat();
    [field(1, &[]), field(3, &ok)].concat()
}

/// One that refuses: PERMISSION_DENIED, and 401 for the client.
fn denial() -> Vec<u8> {
    let status = field(1, &[0x08, 0x91, 0x03]);
    let denied = [status, field(2, &option("x-why", "so")), field(3, b"go away")].concat();
    [field(1, &[0x08, 0x07]), field(2, &denied)].concat()
}

/// A HeaderValueOption.
fn option(key: &str, value: &str) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
}

/// A field of a message that is a text or a message of fewer than 128 bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    assert!(length < 128);
    [&[number << 3 | 2, length], value].concat()
}
