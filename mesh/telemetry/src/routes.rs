//! Which page answers what.

use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};

/// What a handler sees of a request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` or `POST`; `HEAD` arrives as `GET`.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    query: String,
    accept: String,
    body: Bytes,
    is_local: bool,
}

/// What a handler answers.
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

type Later = Pin<Box<dyn Future<Output = Response> + Send>>;

#[derive(Clone)]
enum Handler {
    Now(Arc<dyn Fn(&Request) -> Response + Send + Sync>),
    /// It reads a body, or takes its time.
    Later(Needs, Arc<dyn Fn(Request) -> Later + Send + Sync>),
}

/// What a page needs more of than others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// Bytes of a body that it reads.
    pub(crate) body: usize,
    /// Time until it answers, beside what every connection has.
    pub(crate) time: Duration,
}

/// Which page answers what.
#[derive(Clone, Default)]
pub struct Routes {
    pages: Vec<Page>,
}

#[derive(Clone)]
struct Page {
    method: Method,
    path: &'static str,
    /// Only for clients on loopback.
    is_local: bool,
    handler: Handler,
}

impl Request {
    /// A request from this machine without headers, e.g. for asking [`Routes::answer`] directly. `target` is a path with
    /// or without query.
    pub fn new(method: Method, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            accept: String::new(),
            body: Bytes::new(),
            is_local: true,
        }
    }

    /// The formats that the client takes: its header `Accept`.
    #[must_use]
    pub(crate) fn with_accept(mut self, accept: &str) -> Self {
        accept.clone_into(&mut self.accept);
        self
    }

    /// Who asks, by the connection.
    #[must_use]
    pub(crate) fn with_peer(mut self, peer: IpAddr) -> Self {
        self.is_local = peer.to_canonical().is_loopback();
        self
    }

    /// What came after the head. Empty unless the page reads it: see [`Routes::post_local`].
    #[must_use]
    pub fn with_body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// What came after the head, for pages that read it.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn accepts(&self) -> &str {
        &self.accept
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

    /// 200 with what several clients may be given.
    pub(crate) fn shared(content_type: &'static str, body: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body,
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
        self.page(Method::GET, path, false, page)
    }

    /// Adds a page that is read by clients on this machine's loopback, a pod's own as a rule. Others are told so: pages that
    /// describe the mesh are not for every pod of the cluster, and `kubectl port-forward` reaches them.
    #[must_use]
    pub fn get_local(self, path: &'static str, page: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        self.page(Method::GET, path, true, page)
    }

    /// Adds a page that does something.
    #[must_use]
    pub fn post(self, path: &'static str, page: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        self.page(Method::POST, path, false, page)
    }

    /// Adds a page for clients on this machine's loopback, as [`get_local`](Self::get_local), that reads a body of at most
    /// `longest` bytes and may take its time.
    #[must_use]
    pub fn post_local<F>(
        mut self,
        path: &'static str,
        longest: usize,
        page: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        self.pages.push(Page {
            method: Method::POST,
            path,
            is_local: true,
            handler: later(
                Needs {
                    body: longest,
                    ..Needs::default()
                },
                page,
            ),
        });
        self
    }

    /// A page for GET on loopback that takes its time, so much at most.
    #[must_use]
    pub fn get_local_slow<F>(
        mut self,
        path: &'static str,
        time: Duration,
        page: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        self.pages.push(Page {
            method: Method::GET,
            path,
            is_local: true,
            handler: later(
                Needs {
                    time,
                    ..Needs::default()
                },
                page,
            ),
        });
        self
    }

    /// Only what the kubelet asks for: the pages below `/healthz/`.
    pub(crate) fn health(&self) -> Self {
        let health = self.pages.iter().filter(|page| page.path.starts_with("/healthz/"));
        Self {
            pages: health.cloned().collect(),
        }
    }

    fn page(
        mut self,
        method: Method,
        path: &'static str,
        is_local: bool,
        page: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.pages.push(Page {
            method,
            path,
            is_local,
            handler: Handler::Now(Arc::new(page)),
        });
        self
    }

    /// What the page of a request needs more of than others.
    pub(crate) fn needs(&self, request: &Request) -> Needs {
        match self.find(request) {
            Ok(Handler::Later(needs, _)) => *needs,
            Ok(Handler::Now(_)) | Err(_) => Needs::default(),
        }
    }

    /// What a request is answered with.
    pub async fn answer(&self, request: Request) -> Response {
        match self.find(&request) {
            Ok(Handler::Now(page)) => page(&request),
            Ok(Handler::Later(_, page)) => page(request).await,
            Err(refusal) => refusal,
        }
    }

    /// The page of a request, or why there is none.
    fn find(&self, request: &Request) -> Result<&Handler, Response> {
        let mut here = self.pages.iter().filter(|page| page.path == request.path).peekable();
        if here.peek().is_none() {
            let mut paths: Vec<&str> = self.pages.iter().map(|page| page.path).collect();
            paths.dedup();
            return Err(match request.path.as_str() {
                "/" => Response::text(format!("{}\n", paths.join("\n"))),
                path => Response::status(
                    StatusCode::NOT_FOUND,
                    format!("no page {path}; there are: {}\n", paths.join(" ")),
                ),
            });
        }
        match here.find(|page| page.method == request.method) {
            Some(page) if page.is_local && !request.is_local => Err(Response::status(
                StatusCode::FORBIDDEN,
                format!(
                    "{} is answered on loopback only: use `culvert status`, or `kubectl port-forward`\n",
                    page.path
                ),
            )),
            Some(page) => Ok(&page.handler),
            None => Err(Response::status(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("not with {}\n", request.method),
            )),
        }
    }
}

fn later<F>(needs: Needs, page: impl Fn(Request) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Response> + Send + 'static,
{
    Handler::Later(needs, Arc::new(move |request| Box::pin(page(request))))
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
