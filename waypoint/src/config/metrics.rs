//! What of the metrics of a chain's requests is otherwise than Istio's.

use std::{borrow::Cow, sync::Arc};

use culvert_envoy::{metrics::METRICS, pb::envoy::config::core::v3::Metadata};
use culvert_http::access_log::{Expression, Facts};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use serde_json::Value;

use super::refusal::{Refusal, compiled};

/// Different values of a tag that are counted by themselves: clients may choose what an expression comes to, and each value is a series
/// that is kept.
const VALUES: usize = 1000;

/// What stands for the others.
const OTHER: &str = "other";

/// Longest value, in bytes.
const LONGEST: usize = 256;

/// What stands for what cannot be found out.
const UNKNOWN: &str = "unknown";

/// A label's name.
pub type LabelName = Cow<'static, str>;

/// A metric that waypoints count, in the order of [`METRICS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Messages of gRPC in requests.
    RequestMessages,
    /// Messages of gRPC in answers.
    ResponseMessages,
    /// Requests.
    Requests,
    /// How long they take.
    Duration,
    /// Their bodies.
    RequestBytes,
    /// Their answers' bodies.
    ResponseBytes,
}

/// What is otherwise, of each metric.
#[derive(Debug, Default)]
pub struct MetricOverrides {
    metrics: [Option<Override>; METRICS.len()],
    is_fixed: bool,
}

#[derive(Debug)]
struct Override {
    is_disabled: bool,
    tags: Vec<(LabelName, Option<Tag>)>,
}

#[derive(Debug)]
struct Tag {
    expression: Expression,
    values: Mutex<FxHashSet<Arc<str>>>,
}

impl MetricOverrides {
    /// Reads the metadata of a chain; none where it says nothing.
    ///
    /// # Errors
    /// Where it makes no sense, or an expression is not served.
    pub fn read(metadata: &Metadata) -> Result<Option<Self>, Refusal> {
        let Some(text) = culvert_envoy::metrics::of(metadata) else {
            return Ok(None);
        };
        let invalid = |why: String| Refusal::new("metadata: metrics", why);
        let value: Value = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let metrics = value.as_object().ok_or_else(|| invalid("is no map".to_owned()))?;
        let mut found = Self {
            is_fixed: true,
            ..Self::default()
        };
        for (name, value) in metrics {
            let index = METRICS.iter().position(|known| known == name);
            let index = index.ok_or_else(|| invalid(format!("there is no metric `{name}`")))?;
            let mut tags = Vec::new();
            for (tag, expression) in value["tags"].as_object().into_iter().flatten() {
                let tag_value = match expression.as_str() {
                    None => None,
                    Some(text) => {
                        let place = format!("metadata: metrics: `{tag}`");
                        let expression = Expression::compile(text).map_err(compiled(&place))?;
                        found.is_fixed &= expression.is_constant();
                        Some(Tag {
                            expression,
                            values: Mutex::default(),
                        })
                    }
                };
                tags.push((tag.clone().into(), tag_value));
            }
            found.metrics[index] = Some(Override {
                is_disabled: value["disabled"] == true,
                tags,
            });
        }
        Ok(Some(found))
    }

    /// Whether no tag depends on the request.
    pub fn is_fixed(&self) -> bool {
        self.is_fixed
    }

    /// The labels of a metric, made of Istio's; none where it is not counted.
    pub fn labels(
        &self,
        metric: Metric,
        labels: &[(LabelName, Arc<str>)],
        facts: &Facts<'_>,
    ) -> Option<Vec<(LabelName, Arc<str>)>> {
        let mut labels = labels.to_vec();
        let Some(over) = &self.metrics[metric as usize] else {
            return Some(labels);
        };
        if over.is_disabled {
            return None;
        }
        for (name, tag) in &over.tags {
            let place = labels.iter().position(|(known, _)| known == name);
            match (tag, place) {
                (None, Some(place)) => drop(labels.remove(place)),
                (None, None) => {}
                (Some(tag), Some(place)) => labels[place].1 = tag.value(facts),
                (Some(tag), None) => labels.push((name.clone(), tag.value(facts))),
            }
        }
        Some(labels)
    }
}

impl Tag {
    fn value(&self, facts: &Facts<'_>) -> Arc<str> {
        let Some(mut value) = self.expression.text(facts) else {
            return UNKNOWN.into();
        };
        let mut end = LONGEST.min(value.len());
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        let mut values = self.values.lock();
        if let Some(known) = values.get(&*value) {
            return Arc::clone(known);
        }
        if values.len() >= VALUES {
            return OTHER.into();
        }
        let value: Arc<str> = value.into();
        values.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, Request};

    use super::*;

    fn read(text: &str) -> Result<Option<MetricOverrides>, Refusal> {
        MetricOverrides::read(&culvert_envoy::metrics::to_metadata(text.to_owned()))
    }

    fn with_facts<T>(path: &str, with: impl FnOnce(&Facts<'_>) -> T) -> T {
        let (request, ()) = Request::get(path).body(()).unwrap().into_parts();
        let response = HeaderMap::new();
        let address = "198.18.0.1:80".parse().unwrap();
        with(&Facts {
            heads: Some(culvert_http::access_log::Heads {
                request: &request,
                response: &response,
            }),
            trailers: None,
            version: None,
            begun: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            request_took: None,
            response_took: None,
            status: 200,
            grpc_status: None,
            is_grpc: false,
            flags: &[],
            details: "",
            remarks: None,
            upstream_failure: "",
            received: 0,
            sent: 0,
            attempts: 1,
            upstream: None,
            cluster: "",
            route: "",
            destination: address,
            client: address,
            principal: "",
            trace: String::new(),
            hostname: "",
        })
    }

    #[test]
    fn tags_are_left_out_set_and_added_and_metrics_not_counted() {
        let text = r#"{"REQUEST_COUNT": {"disabled": false, "tags": {"a": null, "b": "request.url_path", "c": "response.code", "d": "request.nothing"}},
            "REQUEST_SIZE": {"disabled": true, "tags": {}}}"#;
        let overrides = read(text).unwrap().unwrap();
        assert!(!overrides.is_fixed());
        let labels: Vec<(LabelName, Arc<str>)> = vec![("a".into(), "1".into()), ("b".into(), "2".into())];
        with_facts("http://web/x?y", |facts| {
            let of = |metric| overrides.labels(metric, &labels, facts);
            let found: Vec<_> = of(Metric::Requests).unwrap();
            let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(found, [("b", "/x"), ("c", "200"), ("d", "unknown")]);
            assert_eq!(of(Metric::RequestBytes), None);
            assert_eq!(of(Metric::Duration).as_ref(), Some(&labels));
        });
    }

    #[test]
    fn clients_cannot_make_series_without_end() {
        let overrides = read(r#"{"REQUEST_COUNT": {"tags": {"path": "request.path"}}}"#)
            .unwrap()
            .unwrap();
        let mut seen = FxHashSet::default();
        for number in 0..3 * VALUES {
            let labels = with_facts(&format!("http://web/{number}"), |facts| {
                overrides.labels(Metric::Requests, &[], facts).unwrap()
            });
            seen.insert(Arc::clone(&labels[0].1));
        }
        assert_eq!(seen.len(), VALUES + 1);
        assert!(seen.contains(OTHER));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        assert!(MetricOverrides::read(&Metadata::default()).unwrap().is_none());
        for bad in [
            "no json",
            "[]",
            r#"{"OTHER": {}}"#,
            r#"{"REQUEST_COUNT": {"tags": {"a": "nothing.at.all"}}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(
            read(r#"{"REQUEST_COUNT": {"tags": {"a": "'x'"}}}"#)
                .unwrap()
                .unwrap()
                .is_fixed()
        );
    }
}
