//! What the service makes of a request that it allows, and of the answer to that.

use culvert_envoy::pb::envoy::config::core::v3::HeaderValueOption;
use culvert_envoy::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use culvert_envoy::pb::envoy::service::auth::v3::OkHttpResponse;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::rules::Rules;
use crate::request::set_path_and_query;

/// Changes of a request, and of its answer.
#[derive(Debug, Default)]
pub struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    append: Vec<(HeaderName, HeaderValue)>,
    remove_query: Vec<String>,
    set_query: Vec<(String, String)>,
    response: Vec<(HeaderName, HeaderValue, HeaderAppendAction)>,
}

impl Changes {
    /// Those of an answer over gRPC. None where one of them cannot be made.
    pub(super) fn of_grpc(ok: OkHttpResponse) -> Option<Self> {
        let mut changes = Self::default();
        for option in ok.headers {
            let appends = appends(&option);
            let (name, value) = field(option)?;
            if appends {
                changes.append(name, value);
            } else {
                changes.set(name, value);
            }
        }
        for name in ok.headers_to_remove {
            // What stands for the target, and the host, cannot be taken away.
            if !name.starts_with(':') && !name.eq_ignore_ascii_case("host") {
                changes.remove.push(HeaderName::from_bytes(name.as_bytes()).ok()?);
            }
        }
        for option in ok.response_headers_to_add {
            #[allow(deprecated, reason = "services still say it so")]
            let how = match option.append {
                Some(append) if append.value => HeaderAppendAction::AppendIfExistsOrAdd,
                Some(_) => HeaderAppendAction::OverwriteIfExistsOrAdd,
                None => HeaderAppendAction::try_from(option.append_action).ok()?,
            };
            let (name, value) = field(option)?;
            changes.response.push((name, value, how));
        }
        let set = ok.query_parameters_to_set.into_iter();
        changes.set_query = set.map(|parameter| (parameter.key, parameter.value)).collect();
        changes.remove_query = ok.query_parameters_to_remove;
        Some(changes)
    }

    /// Those of them that the rules allow.
    pub(super) fn within(mut self, rules: Option<&Rules>) -> Self {
        if let Some(rules) = rules {
            self.remove.retain(|name| rules.allow(name));
            self.set.retain(|(name, _)| rules.allow(name));
            self.append.retain(|(name, _)| rules.allow(name));
        }
        self
    }

    /// The request goes on with this field instead of those of its name; of several of one name with all of them.
    pub(super) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.set.push((name, value));
    }

    pub(super) fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.append.push((name, value));
    }

    pub(super) fn on_response(&mut self, name: HeaderName, value: HeaderValue) {
        self.response
            .push((name, value, HeaderAppendAction::AppendIfExistsOrAdd));
    }

    /// Changes the request. False where what is asked for cannot be done.
    pub fn apply(&self, request: &mut Parts) -> bool {
        for name in &self.remove {
            request.headers.remove(name);
        }
        for (index, (name, value)) in self.set.iter().enumerate() {
            let is_first = !self.set.iter().take(index).any(|(other, _)| other == name);
            if is_first {
                request.headers.insert(name.clone(), value.clone());
            } else {
                request.headers.append(name.clone(), value.clone());
            }
        }
        for (name, value) in &self.append {
            // As Envoy: to what is there alone, in one line.
            if let Some(before) = request.headers.get(name) {
                let joined = [before.as_bytes(), b",", value.as_bytes()].concat();
                if let Ok(joined) = HeaderValue::try_from(joined) {
                    request.headers.insert(name.clone(), joined);
                }
            }
        }
        self.apply_query(request)
    }

    /// Changes the answer.
    pub fn apply_response(&self, headers: &mut HeaderMap) {
        for (name, value, how) in &self.response {
            let is_there = headers.contains_key(name);
            match how {
                HeaderAppendAction::AppendIfExistsOrAdd => drop(headers.append(name.clone(), value.clone())),
                HeaderAppendAction::AddIfAbsent if is_there => {}
                HeaderAppendAction::OverwriteIfExists if !is_there => {}
                _ => drop(headers.insert(name.clone(), value.clone())),
            }
        }
    }

    fn apply_query(&self, request: &mut Parts) -> bool {
        if self.set_query.is_empty() && self.remove_query.is_empty() {
            return true;
        }
        let query = request.uri.query().unwrap_or_default();
        let key = |pair: &str| pair.split_once('=').map_or(pair, |(key, _)| key).to_owned();
        let is_gone = |name: &str| {
            self.remove_query.iter().any(|gone| gone == name) || self.set_query.iter().any(|(set, _)| set == name)
        };
        let kept = query.split('&').filter(|pair| !pair.is_empty() && !is_gone(&key(pair)));
        let set = self.set_query.iter().map(|(key, value)| format!("{key}={value}"));
        let pairs: Vec<String> = kept.map(str::to_owned).chain(set).collect();
        let path = match pairs.as_slice() {
            [] => request.uri.path().to_owned(),
            pairs => format!("{}?{}", request.uri.path(), pairs.join("&")),
        };
        set_path_and_query(request, path.as_bytes())
    }
}

/// A field that may be set: not the host, nor what has a colon in front.
pub(super) fn field(option: HeaderValueOption) -> Option<(HeaderName, HeaderValue)> {
    let header = option.header?;
    let name = HeaderName::from_bytes(header.key.as_bytes()).ok()?;
    let value = if header.raw_value.is_empty() {
        header.value.into_bytes()
    } else {
        header.raw_value
    };
    let value = HeaderValue::try_from(value).ok()?;
    (name != header::HOST).then_some((name, value))
}

/// Whether a field is put beside those of its name. In messages of this service nothing said is no.
pub(super) fn appends(option: &HeaderValueOption) -> bool {
    #[allow(deprecated, reason = "services still say it so")]
    option.append.is_some_and(|append| append.value)
}
