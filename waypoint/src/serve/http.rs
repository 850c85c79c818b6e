//! A client's connection that speaks HTTP.

use std::{convert::Infallible, sync::Arc};

use http::Request;
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{connection::Connection, exchange};
use crate::{
    silence::{Moved, Watched},
    stall::unless_stalled,
    state::DRAIN,
};

/// Longest head of a request: as Envoy's. Of lines, hyper takes 100, as Envoy does.
const MAX_HEAD: usize = 60 << 10;

/// Windows of HTTP/2: what one stream, and a connection, may have under way.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Runs the streams of connections with HTTP/2. One of which nothing can be sent in time is dropped, which resets it.
#[derive(Clone)]
struct Streams(Arc<Moved>);

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(unless_stalled(Arc::clone(&self.0), stream));
    }
}

/// Serves requests until the connection ends, or until the waypoint drains, or no chain is for the connection any more, or there was no
/// request for long, and the last one was answered.
pub(super) async fn serve<S>(connection: Arc<Connection>, stream: S, is_http2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request: Request<Incoming>| {
            let connection = Arc::clone(&connection);
            // What an exchange needs is much, and hyper moves what it is given several times: a pointer to it, then.
            let exchange = Box::pin(exchange::serve(connection, request));
            async move { Ok::<_, Infallible>(exchange.await) }
        })
    };
    let inner = &connection.worker.0;
    let chain = connection.chain();
    let stream = Watched::new(stream);
    let moved = stream.moved();
    let io = TokioIo::new(stream);
    let ending = async {
        connection.ending().await;
        // A client with HTTP/1 may be about to ask: it is told with the answer (`exchange`), as by Envoy. HTTP/2 has GOAWAY.
        if !is_http2 {
            Box::pin(tokio::time::sleep(DRAIN)).await;
        }
    };
    let drained = async {
        tokio::select! {
            () = inner.drained() => {}
            () = ending => {}
            () = connection.idle() => {}
        }
    };
    tokio::pin!(drained);
    // Drives a connection, and tells it to end when the waypoint drains, or its chain is gone.
    macro_rules! drive {
        ($serving:expr) => {{
            let serving = $serving;
            tokio::pin!(serving);
            tokio::select! {
                // In this order: hyper closes a connection of HTTP/1 at once that is told to end before it has read anything, and one
                // that comes while the waypoint drains has its first request on board already.
                biased;
                ended = serving.as_mut() => ended,
                () = &mut drained => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            }
        }};
    }
    let ended = if is_http2 {
        let builder = {
            let mut builder = http2::Builder::new(Streams(moved));
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(chain.streams)
                .max_header_list_size(MAX_HEAD as u32)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW);
            if chain.extended_connect {
                builder.enable_connect_protocol();
            }
            builder
        };
        Some(drive!(builder.serve_connection(io, service)))
    } else {
        let builder = {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                // It begins with the silence before the head, and what is idle ends by itself: this is for heads that have begun.
                .header_read_timeout(chain.idle_timeout.map(|time| time.saturating_mul(2)))
                .max_header_size(MAX_HEAD);
            builder
        };
        unless_stalled(moved, async {
            drive!(builder.serve_connection(io, service).with_upgrades())
        })
        .await
    };
    if let Some(Err(error)) = ended {
        inner.telemetry.broken_connection(&error);
        tracing::debug!(
            client = %connection.client.address,
            chain = %chain.name,
            error = crate::causes(&error),
            "a client's connection ended"
        );
    }
}
