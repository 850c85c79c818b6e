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
            Path::Plain(prefix) => PathSpecifier::Prefix(prefix.clone()),
            Path::Regex(regex) => PathSpecifier::SafeRegex(parts::regex(regex)),
        }),
        case_sensitive: matched.ignores_case.then_some(false).and_then(parts::flag),
        headers: matched
            .without
            .iter()
            .map(|(name, value)| header(name, value, true))
            .chain(
                method
                    .iter()
                    .chain(&matched.headers)
                    .map(|(name, value)| header(name, value, false)),
            )
            .collect(),
        query_parameters: matched
            .query
            .iter()
            .map(|(name, value)| QueryParameterMatcher {
                name: name.clone(),
                query_parameter_match_specifier: Some(match text(value) {
                    Some(text) => QueryParameterMatchSpecifier::StringMatch(text),
                    None => QueryParameterMatchSpecifier::PresentMatch(true),
                }),
            })
            .collect(),
        filter_state: client.collect(),
        ..RouteMatch::default()
    }
}

/// The same as headers alone, in which Envoy has the path with the query; none for every request.
pub(super) fn as_headers(matched: &Match) -> Vec<HeaderMatcher> {
    let path = match &matched.path {
        Path::Prefix(prefix) if prefix.is_empty() => None,
        Path::Plain(prefix) => Some(Text::Prefix(prefix.clone())),
        Path::Exact(path) => Some(Text::Regex(format!(r"{}(\?.*)?", regex::escape(path)))),
        Path::Prefix(prefix) => Some(Text::Regex(format!("{}([/?].*)?", regex::escape(prefix)))),
        Path::Regex(regex) => Some(Text::Regex(format!(r"(?:{regex})(\?.*)?"))),
    };
    let path = path.map(|path| (":path".to_owned(), path));
    let method = matched.method.as_ref();
    let method = method.map(|method| (":method".to_owned(), Text::Exact(method.clone())));
    let all = path.iter().chain(&method).chain(&matched.headers);
    all.map(|(name, value)| header(name, value, false)).collect()
}

/// A header that is there and has a value, or has not. One that is absent has not the value.
fn header(name: &str, value: &Text, is_inverted: bool) -> HeaderMatcher {
    let text = text(value);
    HeaderMatcher {
        name: name.to_owned(),
        invert_match: is_inverted,
        treat_missing_header_as_empty: is_inverted && text.is_some(),
        header_match_specifier: Some(match text {
            Some(text) => HeaderMatchSpecifier::StringMatch(text),
            None => HeaderMatchSpecifier::PresentMatch(true),
        }),
    }
}

/// None for one that is only to be there.
fn text(value: &Text) -> Option<StringMatcher> {
    parts::pattern(value).map(parts::text)
}
