//! Requests of pages of other origins: the filter `envoy.filters.http.cors`.

use culvert_envoy::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::error::{CompileError, Within as _, take};
use crate::matching::text::Text;
use crate::value::Fraction;

/// Which origins may do what.
#[derive(Debug)]
pub struct Cors {
    origins: Vec<Text>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    enabled: Fraction,
    private_network: bool,
    forward_others: bool,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Preflight {
    /// It is one that only asks, and is answered here: 200 without a body and with these fields.
    Answer(HeaderMap),
    /// It goes on, and its answer gets what [`Cors::mark`] sets.
    Mark,
    /// It goes on, and nothing is to be done.
    Pass,
}

impl Cors {
    pub(super) fn compile(policy: &CorsPolicy) -> Result<Self, CompileError> {
        take!(policy => CorsPolicy {
            allow_origin_string_match, allow_methods, allow_headers, expose_headers, max_age, allow_credentials, filter_enabled,
            allow_private_network_access, forward_not_matching_preflights,
        } unserved { shadow_enabled });
        let origin = |(index, matcher)| Text::compile(matcher).within(|| format!("allow_origin_string_match[{index}]"));
        let value = |field: &str, text: &str| match text {
            "" => Ok(None),
            text => HeaderValue::from_str(text)
                .map(Some)
                .map_err(|_| CompileError::invalid(field, format_args!("{text:?} is not the value of a header field"))),
        };
        Ok(Self {
            origins: allow_origin_string_match
                .iter()
                .enumerate()
                .map(origin)
                .collect::<Result<_, _>>()?,
            methods: value("allow_methods", allow_methods)?,
            headers: value("allow_headers", allow_headers)?,
            expose: value("expose_headers", expose_headers)?,
            max_age: value("max_age", max_age)?,
            credentials: allow_credentials.as_ref().is_some_and(|yes| yes.value),
            enabled: match filter_enabled {
                Some(fraction) => Fraction::compile_runtime(fraction).within(|| "filter_enabled".into())?,
                None => Fraction::ALL,
            },
            private_network: allow_private_network_access.as_ref().is_some_and(|yes| yes.value),
            forward_others: forward_not_matching_preflights.as_ref().is_none_or(|yes| yes.value),
        })
    }

    /// What becomes of a request.
    pub fn decide(&self, request: &Parts, random: u64) -> Preflight {
        let Some(origin) = request.headers.get(header::ORIGIN).filter(|origin| !origin.is_empty()) else {
            return Preflight::Pass;
        };
        if !self.enabled.hit(random) {
            return Preflight::Pass;
        }
        let allowed = self.origins.iter().any(|matcher| matcher.matches(origin.as_bytes()));
        let asks = request.method == Method::OPTIONS
            && request
                .headers
                .get(header::ACCESS_CONTROL_REQUEST_METHOD)
                .is_some_and(|method| !method.is_empty());
        match (asks, allowed) {
            (true, true) => Preflight::Answer(self.answer(request, origin)),
            (true, false) if !self.forward_others => Preflight::Answer(HeaderMap::new()),
            (_, false) => Preflight::Pass,
            (false, true) => Preflight::Mark,
        }
    }

    /// Sets in the head of an answer what the page's browser is to know, in place of what upstream says.
    pub fn mark(&self, request: &Parts, response: &mut HeaderMap) {
        let Some(origin) = request.headers.get(header::ORIGIN) else {
            return;
        };
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(expose) = &self.expose {
            response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn answer(&self, request: &Parts, origin: &HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (header::ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        if self.private_network && request.headers.get(ASKS_PRIVATE).is_some_and(|asks| asks == "true") {
            headers.insert(ALLOW_PRIVATE, TRUE);
        }
        headers
    }
}

const TRUE: HeaderValue = HeaderValue::from_static("true");
const ASKS_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{exact, request};

    fn policy(forward: bool) -> Cors {
        use culvert_envoy::pb::google::protobuf::BoolValue;
        Cors::compile(&CorsPolicy {
            allow_origin_string_match: vec![exact("https://a.example")],
            allow_methods: "GET".to_owned(),
            expose_headers: "x-c".to_owned(),
            max_age: "5".to_owned(),
            allow_credentials: Some(BoolValue { value: true }),
            forward_not_matching_preflights: Some(BoolValue { value: forward }),
            ..CorsPolicy::default()
        })
        .unwrap()
    }

    #[test]
    fn a_preflight_is_answered_here_whatever_method_it_asks_for() {
        let asks = request(
            "OPTIONS",
            "/",
            &[
                ("origin", "https://a.example"),
                ("access-control-request-method", "PUT"),
            ],
        );
        let Preflight::Answer(headers) = policy(true).decide(&asks, 0) else {
            panic!("not answered")
        };
        assert_eq!(headers["access-control-allow-origin"], "https://a.example");
        assert_eq!(
            (
                &headers["access-control-allow-methods"],
                &headers["access-control-max-age"]
            ),
            (&"GET".parse().unwrap(), &"5".parse().unwrap())
        );
    }

    #[test]
    fn a_preflight_of_another_origin_goes_on_unless_told_not_to() {
        let asks = request(
            "OPTIONS",
            "/",
            &[
                ("origin", "https://b.example"),
                ("access-control-request-method", "PUT"),
            ],
        );
        assert!(matches!(policy(true).decide(&asks, 0), Preflight::Pass));
        assert!(matches!(policy(false).decide(&asks, 0), Preflight::Answer(headers) if headers.is_empty()));
    }

    #[test]
    fn what_upstream_says_of_origins_is_replaced() {
        let get = request("GET", "/", &[("origin", "https://a.example")]);
        assert!(matches!(policy(true).decide(&get, 0), Preflight::Mark));
        let mut answer = HeaderMap::new();
        answer.insert("access-control-allow-origin", "*".parse().unwrap());
        policy(true).mark(&get, &mut answer);
        assert_eq!(answer["access-control-allow-origin"], "https://a.example");
        assert_eq!(answer["access-control-expose-headers"], "x-c");
        assert!(matches!(
            policy(true).decide(&request("GET", "/", &[]), 0),
            Preflight::Pass
        ));
    }
}
