//! A small HTTP server for admin pages, metrics and readiness.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::Semaphore};

/// Connections served at a time. Who keeps one open waits for nobody but others who do.
const CONNECTIONS: usize = 64;

/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a handler sees of a request. Bodies are not read.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` or `POST`; `HEAD` arrives as `GET`.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    query: String,
}

/// What a handler answers.
#[derive(Clone, Debug)]
pub struct Response {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

type Handler = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

/// Which page answers what.
#[derive(Clone, Default)]
pub struct Routes {
    pages: Vec<(Method, &'static str, Handler)>,
}

impl Request {
    /// A request without headers, e.g. for asking [`Routes::answer`] directly. `target` is a path with or without query.
    pub fn new(method: Method, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
        }
    }

    /// A query parameter, percent-decoded: `level` of `/logging?level=debug`.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| *key == name)
            .map(|(_, value)| percent_decode(value))
    }
}

impl Response {
    /// 200 with text.
    pub fn text(body: impl Into<String>) -> Self {
        Self::status(StatusCode::OK, body)
    }

    /// Any status with text.
    pub fn status(status: StatusCode, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into().into(),
        }
    }

    /// 200 with JSON, indented for people.
    pub fn json(value: &serde_json::Value) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/json",
            body: format!("{value:#}\n").into(),
        }
    }

    /// All metrics of a registry, as OpenMetrics text.
    pub fn metrics(registry: &Registry) -> Self {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, registry) {
            Ok(()) => Self {
                status: StatusCode::OK,
                content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body: text.into(),
            },
            Err(error) => Self::status(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("metrics do not encode: {error}\n"),
            ),
        }
    }

    /// The status code.
    pub fn code(&self) -> StatusCode {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

impl Routes {
    /// No pages yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a page that is read.
    #[must_use]
    pub fn get(self, path: &'static str, page: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        self.page(Method::GET, path, page)
    }

    /// Adds a page that does something.
    #[must_use]
    pub fn post(self, path: &'static str, page: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        self.page(Method::POST, path, page)
    }

    /// Adds `/metrics`, and `/stats/prometheus` as Envoy calls it.
    #[must_use]
    pub fn metrics(self, registry: Arc<Registry>) -> Self {
        let again = Arc::clone(&registry);
        self.get("/metrics", move |_| Response::metrics(&registry))
            .get("/stats/prometheus", move |_| Response::metrics(&again))
    }

    fn page(
        mut self,
        method: Method,
        path: &'static str,
        page: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.pages.push((method, path, Arc::new(page)));
        self
    }

    /// What a request is answered with.
    pub fn answer(&self, request: &Request) -> Response {
        let mut here = self
            .pages
            .iter()
            .filter(|(_, path, _)| *path == request.path)
            .peekable();
        if here.peek().is_none() {
            let mut paths: Vec<&str> = self.pages.iter().map(|(_, path, _)| *path).collect();
            paths.dedup();
            return match request.path.as_str() {
                "/" => Response::text(format!("{}\n", paths.join("\n"))),
                path => Response::status(
                    StatusCode::NOT_FOUND,
                    format!("no page {path}; there are: {}\n", paths.join(" ")),
                ),
            };
        }
        match here.find(|(method, _, _)| *method == request.method) {
            Some((_, _, page)) => page(request),
            None => Response::status(StatusCode::METHOD_NOT_ALLOWED, format!("not with {}\n", request.method)),
        }
    }
}

/// Serves the pages until the task is dropped.
///
/// # Errors
/// When the listener no longer accepts for a reason that does not go away.
pub async fn serve(listener: TcpListener, routes: Routes) -> io::Result<()> {
    let routes = Arc::new(routes);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Never closed, so a permit always comes.
        let Ok(permit) = Arc::clone(&slots).acquire_owned().await else {
            return Ok(());
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if transient(&error) => {
                // Out of descriptors: others will be closed.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let routes = Arc::clone(&routes);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&routes, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection");
            }
            drop(permit);
        });
    }
}

fn transient(error: &io::Error) -> bool {
    // EMFILE, ENFILE, and connections that were aborted while they waited.
    matches!(error.raw_os_error(), Some(23 | 24)) || error.kind() == io::ErrorKind::ConnectionAborted
}

fn answer(routes: &Routes, request: &http::Request<Incoming>) -> http::Response<Full<Bytes>> {
    let method = match *request.method() {
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let answer = routes.answer(&Request::new(method, target));
    let mut response = http::Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(answer.content_type),
    );
    response
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
