//! A small HTTP server for admin pages, metrics and readiness.
//!
//! One request for each connection, which is closed after the answer, and a deadline for the whole of it: whoever holds a
//! connection open keeps nobody else from being answered (see [`Connections`]).

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

use crate::{
    connections::Connections,
    routes::{Needs, Request, Response, Routes},
};

/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last in all. A scrape of many metrics over a slow network takes a few seconds.
const TOTAL: Duration = Duration::from_secs(30);

/// What is held of a request's head, and of an answer beside its body.
const BUFFER: usize = 16 << 10;

/// What is read of a request's body where nothing uses it.
const MAX_BODY: usize = 64 << 10;

/// Pause after `accept` failed for want of descriptors: others will be closed.
const RETRY: Duration = Duration::from_millis(50);

/// Serves the pages until the task is dropped.
///
/// # Errors
/// When the listener no longer accepts for a reason that does not go away.
pub async fn serve(listener: TcpListener, routes: Routes) -> io::Result<()> {
    let routes = Arc::new(routes);
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => connections.add(peer.ip(), connection(stream, peer, Arc::clone(&routes))),
                Err(error) if transient(&error) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(error),
            },
            () = connections.ended() => {}
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, routes: Arc<Routes>) {
    let (deadline, until) = watch::channel(Instant::now() + TOTAL);
    let service = service_fn(|request| {
        let (routes, deadline) = (&routes, &deadline);
        async move { Ok::<_, Infallible>(answer(routes, request, peer, deadline).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = connection => if let Err(error) = served {
            tracing::debug!(%peer, %error, "admin connection");
        },
        () = passed(until) => tracing::debug!(%peer, "an admin connection took longer than it may"),
    }
}

/// Waits for a deadline that may be put off.
async fn passed(mut deadline: watch::Receiver<Instant>) {
    loop {
        let until = *deadline.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            Ok(()) = deadline.changed() => {}
        }
    }
}

fn transient(error: &io::Error) -> bool {
    // EMFILE, ENFILE, and connections that were aborted while they waited.
    matches!(error.raw_os_error(), Some(23 | 24)) || error.kind() == io::ErrorKind::ConnectionAborted
}

async fn answer(
    routes: &Routes,
    request: http::Request<Incoming>,
    peer: SocketAddr,
    deadline: &watch::Sender<Instant>,
) -> http::Response<Full<Bytes>> {
    let method = match *request.method() {
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let accept = request.headers().get(header::ACCEPT);
    let asked = Request::new(method, target)
        .with_accept(accept.and_then(|value| value.to_str().ok()).unwrap_or_default())
        .with_peer(peer.ip());
    let Needs { body: longest, time } = routes.needs(&asked);
    if !time.is_zero() {
        deadline.send_replace(Instant::now() + TOTAL + time);
    }
    // A body that is left unread would reset the connection, perhaps before the client has read the answer.
    let body = Limited::new(request.into_body(), longest.max(MAX_BODY)).collect().await;
    let answer = match body.map(Collected::to_bytes) {
        Ok(body) if longest > 0 && body.len() <= longest => routes.answer(asked.with_body(body)).await,
        _ if longest > 0 => Response::status(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is cut, or longer than {longest} bytes\n"),
        ),
        _ => routes.answer(asked).await,
    };
    let mut response = http::Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(answer.content_type),
    );
    response
}
