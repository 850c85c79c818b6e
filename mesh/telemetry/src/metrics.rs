//! Metrics as text, in the format that the client takes, rendered once for all who read at the same time.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use prometheus_client::registry::Registry;

use crate::routes::{Request, Response, Routes};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How old a text may be that is given to another client because an earlier one is still reading it.
const SHARED: Duration = Duration::from_secs(1);

impl Routes {
    /// Adds `/metrics`, and `/stats/prometheus` as Envoy calls it.
    #[must_use]
    pub fn metrics(self, registry: Arc<Registry>) -> Self {
        let page = Arc::new(Exposition::new(registry));
        let again = Arc::clone(&page);
        self.get("/metrics", move |request| page.page(request))
            .get("/stats/prometheus", move |request| again.page(request))
    }
}

/// How many texts may be held for slow readers. One more reader gets the newest of them.
const HELD: usize = 3;

/// The page `/metrics` of a registry.
pub(crate) struct Exposition {
    registry: Arc<Registry>,
    held: Mutex<Vec<Rendered>>,
}

/// A text that somebody reads at the moment.
struct Rendered {
    format: Format,
    at: Instant,
    text: Weak<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    /// Prometheus' older text format.
    Plain,
}

impl Exposition {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            held: Mutex::default(),
        }
    }

    /// The metrics of this moment, or of the last second if somebody is still reading those.
    pub(crate) fn page(&self, request: &Request) -> Response {
        let format = Format::of(request.accepts());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|rendered| rendered.text.strong_count() > 0);
        let all = held.len();
        let newest = held.iter().rev().find(|rendered| rendered.format == format);
        let shared = newest.filter(|rendered| rendered.at.elapsed() < SHARED || all >= HELD);
        if let Some(text) = shared.and_then(|rendered| rendered.text.upgrade()) {
            return response(format, text);
        }
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            return Response::status(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("metrics do not encode: {error}\n"),
            );
        }
        let text = Arc::new(match format {
            Format::OpenMetrics => text,
            Format::Plain => plain(&text),
        });
        held.push(Rendered {
            format,
            at: Instant::now(),
            text: Arc::downgrade(&text),
        });
        response(format, text)
    }
}

impl Format {
    /// Prometheus' older format is for those who take it and not the newer one; clients that say nothing get the newer.
    fn of(accept: &str) -> Self {
        match accept.contains("text/plain") && !accept.contains("openmetrics-text") {
            true => Self::Plain,
            false => Self::OpenMetrics,
        }
    }
}

fn response(format: Format, text: Arc<String>) -> Response {
    struct Shared(Arc<String>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    let content_type = match format {
        Format::OpenMetrics => OPEN_METRICS,
        Format::Plain => PLAIN,
    };
    Response::shared(content_type, Bytes::from_owner(Shared(text)))
}

/// Makes Prometheus' older text format of OpenMetrics text: it has no units, no exemplars and no `# EOF`, names a counter's
/// type after its sample, and knows neither `info` nor `unknown`.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut counter = None;
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "stateset" => ("", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                counter = (kind == "counter").then(|| name.to_owned());
                plain.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            (Some("#"), Some("HELP"), ..) => {
                plain.push_str(line);
                plain.push('\n');
            }
            _ => {
                let created = |name: &String| {
                    line.strip_prefix(name.as_str())
                        .is_some_and(|l| l.starts_with("_created"))
                };
                if counter.as_ref().is_some_and(created) {
                    continue;
                }
                plain.push_str(without_exemplar(line));
                plain.push('\n');
            }
        }
    }
    plain
}

/// A sample without the exemplar behind it, which begins with ` # {` outside of quotes.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use http::Method;
    use prometheus_client::metrics::{counter::Counter, family::Family, info::Info};

    use super::*;

    type Labelled = Family<[(&'static str, String); 1], Counter>;

    fn registry() -> (Arc<Registry>, Labelled) {
        let mut registry = Registry::default();
        let family = Labelled::default();
        registry.register("asked", "How often", family.clone());
        registry.register("build", "What it is", Info::new([("version", "1")]));
        (Arc::new(registry), family)
    }

    fn ask(accept: &str) -> Request {
        Request::new(Method::GET, "/metrics").with_accept(accept)
    }

    #[test]
    fn the_format_is_the_one_that_the_client_takes() {
        let (registry, family) = registry();
        family.get_or_create(&[("what", "a".into())]).inc();
        let page = Exposition::new(registry);
        let text = |accept: &str| String::from_utf8(page.page(&ask(accept)).body().to_vec()).unwrap();
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for newer in ["", "*/*", prometheus] {
            assert!(text(newer).ends_with("# EOF\n"), "{newer}");
        }
        let older = text("text/plain;version=0.0.4");
        assert!(
            older.contains("# TYPE asked_total counter\nasked_total{what=\"a\"} 1\n"),
            "{older}"
        );
        assert!(older.contains("# TYPE build_info gauge\n"), "{older}");
        assert!(!older.contains("EOF"), "{older}");
    }

    #[test]
    fn an_exemplar_is_left_out_and_a_label_that_looks_like_one_stays() {
        let text = "# TYPE a counter\na_total{b=\"x # {y\\\" # \"} 1 # {trace=\"1\"} 1\na_created 5\n# EOF\n";
        assert_eq!(plain(text), "# TYPE a_total counter\na_total{b=\"x # {y\\\" # \"} 1\n");
    }

    #[test]
    fn a_label_cannot_break_the_text() {
        let (registry, family) = registry();
        family.get_or_create(&[("what", "a\"} 1\nb \\".into())]).inc();
        let response = Exposition::new(registry).page(&ask(""));
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        assert!(text.contains(r#"asked_total{what="a\"} 1\nb \\"} 1"#), "{text}");
    }

    #[test]
    fn who_reads_at_the_same_time_reads_the_same_text_and_few_are_held() {
        let (registry, family) = registry();
        let page = Exposition::new(registry);
        let first = page.page(&ask(""));
        family.get_or_create(&[("what", "a".into())]).inc();
        let second = page.page(&ask(""));
        assert_eq!(first.body().as_ptr(), second.body().as_ptr(), "one text for both");
        drop((first, second));
        let third = page.page(&ask(""));
        assert!(
            String::from_utf8_lossy(third.body()).contains("asked_total"),
            "what nobody reads any more is not shown again"
        );
    }
}
