//! Pages for people and scrapers, by method and path.

use std::{collections::BTreeMap, fmt};

use http::{Method, StatusCode};
use prometheus_client::registry::Registry;
use serde::Serialize;

/// The text format of OpenMetrics, which is what `prometheus_client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a request asks beside its path: the parameters of the query, not decoded (`%41` stays as it is).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads `a=1&b=2`.
    pub fn parse(query: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (key.to_owned(), value.to_owned())
        };
        Self(query.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// The value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: StatusCode,
    /// The value of `content-type`.
    pub content_type: &'static str,
    /// The content.
    pub body: Vec<u8>,
}

impl Page {
    /// Plain text, status 200.
    pub fn text(body: impl Into<String>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "text/plain; charset=utf-8",
            body: body.into().into_bytes(),
        }
    }

    /// A value as indented JSON, status 200; 500 if it cannot be rendered.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec_pretty(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Self {
                    status: StatusCode::OK,
                    content_type: "application/json",
                    body,
                }
            }
            Err(error) => {
                Self::text(format!("cannot render: {error}\n")).with_status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// All metrics of a registry, status 200.
    pub fn metrics(registry: &Registry) -> Self {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, registry) {
            Ok(()) => Self {
                status: StatusCode::OK,
                content_type: OPEN_METRICS,
                body: text.into_bytes(),
            },
            Err(fmt::Error) => Self::text("cannot encode metrics\n").with_status(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// Readiness: 200 if nothing is missing, otherwise 503 and what is.
    pub fn readiness(missing: &[String]) -> Self {
        if missing.is_empty() {
            Self::text("ready\n")
        } else {
            Self::text(format!("not ready: {}\n", missing.join(", "))).with_status(StatusCode::SERVICE_UNAVAILABLE)
        }
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

type Handler = Box<dyn Fn(&Query) -> Page + Send + Sync>;

/// The pages of one port.
#[derive(Default)]
pub struct Pages {
    handlers: BTreeMap<(&'static str, &'static str), Handler>,
}

impl Pages {
    /// No pages yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a page that shows something. Handlers run on the server's thread: they must not block.
    #[must_use]
    pub fn get(self, path: &'static str, handler: impl Fn(&Query) -> Page + Send + Sync + 'static) -> Self {
        self.add("GET", path, handler)
    }

    /// Adds a page that does something.
    #[must_use]
    pub fn post(self, path: &'static str, handler: impl Fn(&Query) -> Page + Send + Sync + 'static) -> Self {
        self.add("POST", path, handler)
    }

    fn add(
        mut self,
        method: &'static str,
        path: &'static str,
        handler: impl Fn(&Query) -> Page + Send + Sync + 'static,
    ) -> Self {
        self.handlers.insert((method, path), Box::new(handler));
        self
    }

    /// The answer to a request. `HEAD` is answered as `GET`; an unknown path with the list of those that exist.
    pub fn answer(&self, method: &Method, path: &str, query: &str) -> Page {
        let method = if *method == Method::HEAD {
            "GET"
        } else {
            method.as_str()
        };
        if let Some(handler) = self
            .handlers
            .iter()
            .find(|((m, p), _)| *m == method && *p == path)
            .map(|(_, h)| h)
        {
            return handler(&Query::parse(query));
        }
        if self.handlers.keys().any(|(_, known)| *known == path) {
            return Page::text(format!("{path} does not take {method}\n")).with_status(StatusCode::METHOD_NOT_ALLOWED);
        }
        let mut text = format!("no page {path}; there are\n");
        for (method, path) in self.handlers.keys() {
            text.push_str(&format!("{method} {path}\n"));
        }
        Page::text(text).with_status(if path == "/" {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        })
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_pages_are_answered_with_the_known_ones() {
        let pages = Pages::new()
            .get("/pods", |_| Page::text("pods"))
            .post("/stop", |_| Page::text("stopping"));
        assert_eq!(pages.answer(&Method::GET, "/pods", "").body, b"pods");
        assert_eq!(pages.answer(&Method::HEAD, "/pods", "").status, StatusCode::OK);
        assert_eq!(
            pages.answer(&Method::GET, "/stop", "").status,
            StatusCode::METHOD_NOT_ALLOWED
        );
        let unknown = pages.answer(&Method::GET, "/nothing", "");
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
        assert!(String::from_utf8(unknown.body).unwrap().contains("POST /stop"));
    }

    #[test]
    fn a_query_gives_its_parameters() {
        let query = Query::parse("level=debug&&flag&x=a=b");
        assert_eq!(
            (query.get("level"), query.get("flag"), query.get("x")),
            (Some("debug"), Some(""), Some("a=b"))
        );
        assert_eq!(query.get("none"), None);
    }

    #[test]
    fn readiness_says_what_is_missing() {
        let page = Page::readiness(&["certificates".into(), "configuration".into()]);
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(page.body, b"not ready: certificates, configuration\n");
    }
}
