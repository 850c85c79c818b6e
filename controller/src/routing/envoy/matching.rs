//! Which requests a rule is for.

use culvert_envoy::PEER_PRINCIPAL;
use culvert_envoy::pb::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::{
    FilterStateMatcher, StringMatcher, filter_state_matcher, string_matcher::MatchPattern,
};

use super::super::model::{Match, Path, Text};
use super::parts;

/// The match of a rule. A client's namespace is read from its identity, which no client can choose.
pub(super) fn route_match(matched: &Match) -> RouteMatch {
    let method = matched
        .method
        .as_ref()
        .map(|method| (":method".to_owned(), Text::Exact(method.clone())));
    let client = matched.clients.iter().map(|namespace| FilterStateMatcher {
        key: PEER_PRINCIPAL.to_owned(),
        matcher: Some(filter_state_matcher::Matcher::StringMatch(parts::text(
            MatchPattern::Contains(format!("/ns/{namespace}/sa/")),
        ))),
    });
    RouteMatch {
        path_specifier: Some(match &matched.path {
            Path::Exact(path) => PathSpecifier::Path(path.clone()),
            Path::Prefix(prefix) if prefix.is_empty() => PathSpecifier::Prefix("/".to_owned()),
            Path::Prefix(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.clone()),
            Path::Regex(regex) => PathSpecifier::SafeRegex(parts::regex(regex)),
        }),
        headers: method
            .iter()
            .chain(&matched.headers)
            .map(|(name, value)| HeaderMatcher {
                name: name.clone(),
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(value))),
                ..HeaderMatcher::default()
            })
            .collect(),
        query_parameters: matched
            .query
            .iter()
            .map(|(name, value)| QueryParameterMatcher {
                name: name.clone(),
                query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(text(value))),
            })
            .collect(),
        filter_state: client.collect(),
        ..RouteMatch::default()
    }
}

fn text(value: &Text) -> StringMatcher {
    parts::text(match value {
        Text::Exact(text) => MatchPattern::Exact(text.clone()),
        Text::Regex(regex) => MatchPattern::SafeRegex(parts::regex(regex)),
    })
}
