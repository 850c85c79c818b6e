//! Patterns of policies as matchers.

use culvert_envoy::PEER_PRINCIPAL;
use culvert_envoy::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use culvert_envoy::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment::Segment as Key};
use culvert_envoy::pb::envoy::r#type::matcher::v3::{
    DoubleMatcher, FilterStateMatcher, ListMatcher, MetadataMatcher, OrMatcher, PathMatcher, StringMatcher,
    ValueMatcher, double_matcher, filter_state_matcher, list_matcher, path_matcher, string_matcher::MatchPattern,
    value_matcher,
};
use culvert_policy::istio::request::{Pattern, Segment};

use super::parts;

/// The filter for tokens, under whose name policies find what these say.
pub(super) const JWT: &str = "envoy.filters.http.jwt_authn";
/// The name under which the payload of a token is known to policies, as Istio calls it.
pub(super) const PAYLOAD: &str = "payload";

pub(super) fn plain(pattern: &Pattern) -> StringMatcher {
    parts::text(match pattern {
        Pattern::Exact(text) => MatchPattern::Exact(text.clone()),
        Pattern::Prefix(text) => MatchPattern::Prefix(text.clone()),
        Pattern::Suffix(text) => MatchPattern::Suffix(text.clone()),
        Pattern::Present => regex(".+"),
    })
}

/// A host, whatever the case; the port behind it does not count, unless the pattern has one.
pub(super) fn host(pattern: &Pattern) -> StringMatcher {
    let has_port = |text: &str| {
        let port = text.rsplit_once(':').map(|(_, port)| port);
        port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let any_port = |begin: &str, text: &str| {
        let port = if has_port(text) { "" } else { "(:[0-9]+)?" };
        parts::text(regex(&format!("(?i){begin}{}{port}", regex::escape(text))))
    };
    match pattern {
        Pattern::Exact(text) => any_port("", text),
        Pattern::Suffix(text) => any_port(".*", text),
        Pattern::Prefix(text) => StringMatcher {
            ignore_case: true,
            ..parts::text(MatchPattern::Prefix(text.clone()))
        },
        Pattern::Present => plain(pattern),
    }
}

pub(super) fn principal(pattern: &Pattern) -> StringMatcher {
    parts::text(match pattern {
        Pattern::Exact(text) => MatchPattern::Exact(format!("spiffe://{text}")),
        Pattern::Prefix(text) => MatchPattern::Prefix(format!("spiffe://{text}")),
        Pattern::Suffix(text) => regex(&format!("spiffe://.*{}", regex::escape(text))),
        Pattern::Present => regex(".+"),
    })
}

/// What stands between `spiffe://` and the next slash.
pub(super) fn trust_domain(pattern: &Pattern) -> StringMatcher {
    parts::text(match pattern {
        Pattern::Exact(text) => MatchPattern::Prefix(format!("spiffe://{text}/")),
        Pattern::Prefix(text) => MatchPattern::Prefix(format!("spiffe://{text}")),
        Pattern::Suffix(text) => regex(&format!("spiffe://[^/]*{}/.*", regex::escape(text))),
        Pattern::Present => MatchPattern::Prefix("spiffe://".to_owned()),
    })
}

/// Identities are `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, and none of these has a slash.
pub(super) fn namespace(pattern: &Pattern) -> StringMatcher {
    let parts_of = |text: &str| regex(&format!("spiffe://[^/]+/ns/{text}/sa/.*"));
    parts::text(match pattern {
        Pattern::Exact(text) => MatchPattern::Contains(format!("/ns/{text}/sa/")),
        Pattern::Prefix(text) => parts_of(&format!("{}[^/]*", regex::escape(text))),
        Pattern::Suffix(text) => parts_of(&format!("[^/]*{}", regex::escape(text))),
        Pattern::Present => parts_of("[^/]+"),
    })
}

pub(super) fn service_account(namespace: &str, name: &str) -> StringMatcher {
    parts::text(MatchPattern::Suffix(format!("/ns/{namespace}/sa/{name}")))
}

/// A path, segment by segment.
pub(super) fn template(segments: &[Segment]) -> StringMatcher {
    let mut text = String::new();
    for segment in segments {
        text.push('/');
        match segment {
            Segment::Exact(exact) => text.push_str(&regex::escape(exact)),
            Segment::One => text.push_str("[^/]+"),
            Segment::Many => text.push_str(".*"),
        }
    }
    parts::text(regex(&text))
}

pub(super) fn path(text: StringMatcher) -> PathMatcher {
    PathMatcher {
        rule: Some(path_matcher::Rule::Path(text)),
    }
}

pub(super) fn header(name: &str, text: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text)),
        ..HeaderMatcher::default()
    }
}

/// Who has opened the tunnel: the identity that no client can choose.
pub(super) fn client(text: StringMatcher) -> FilterStateMatcher {
    FilterStateMatcher {
        key: PEER_PRINCIPAL.to_owned(),
        matcher: Some(filter_state_matcher::Matcher::StringMatch(text)),
    }
}

/// A claim: a text, or a list that has it; what reads as a number or a truth value is meant as such, too.
pub(super) fn claim(path: &[String], pattern: &Pattern) -> MetadataMatcher {
    let key = |key: &str| PathSegment {
        segment: Some(Key::Key(key.to_owned())),
    };
    let value = |pattern| ValueMatcher {
        match_pattern: Some(pattern),
    };
    let text = value(value_matcher::MatchPattern::StringMatch(plain(pattern)));
    let is_own = path.len() == 1 && ["iss", "sub"].contains(&path[0].as_str());
    let matcher = if is_own {
        text
    } else {
        let list = value(value_matcher::MatchPattern::ListMatch(Box::new(ListMatcher {
            match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(text.clone()))),
        })));
        let mut all = vec![text, list];
        if let Pattern::Exact(text) = pattern {
            all.extend(
                text.parse()
                    .ok()
                    .map(|truth: bool| value(value_matcher::MatchPattern::BoolMatch(truth))),
            );
            all.extend(text.parse().ok().map(|number: f64| {
                value(value_matcher::MatchPattern::DoubleMatch(DoubleMatcher {
                    match_pattern: Some(double_matcher::MatchPattern::Exact(number)),
                }))
            }));
        }
        value(value_matcher::MatchPattern::OrMatch(OrMatcher { value_matchers: all }))
    };
    MetadataMatcher {
        filter: JWT.to_owned(),
        path: [PAYLOAD]
            .into_iter()
            .chain(path.iter().map(String::as_str))
            .map(key)
            .collect(),
        value: Some(matcher),
        invert: false,
    }
}

fn regex(text: &str) -> MatchPattern {
    MatchPattern::SafeRegex(parts::regex(text))
}
