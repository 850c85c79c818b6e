//! A small HTTP/1 server for [`Pages`].

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{Page, Pages};

/// How many clients are served at once; more wait in the backlog.
const CONNECTIONS: usize = 64;

/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves pages until the future is dropped. Clients that misbehave lose their connection and nothing else.
pub async fn serve(listener: TcpListener, pages: Arc<Pages>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin pages");
                // Out of descriptors, most likely: trying again at once would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                let uri = request.uri();
                let page = pages.answer(request.method(), uri.path(), uri.query().unwrap_or_default());
                std::future::ready(Ok::<_, Infallible>(response(page)))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client of the admin pages");
            }
            drop(slot);
        });
    }
}

fn response(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(page.body.into()));
    *response.status_mut() = page.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, http::HeaderValue::from_static(page.content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn pages_are_served_and_garbage_costs_only_its_own_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages =
            Arc::new(Pages::new().get("/hello", |query| Page::text(query.get("who").unwrap_or("?").to_owned())));
        let server = tokio::spawn(serve(listener, pages));
        let ask = async |text: &[u8]| {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(text).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            answer
        };
        ask(b"\x16\x03\x01garbage\r\n\r\n").await;
        let answer = ask(b"GET /hello?who=you HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("you"),
            "{answer}"
        );
        server.abort();
    }
}
