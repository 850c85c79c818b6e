//! A matcher for a query parameter: Envoy's `QueryParameterMatcher`.

use culvert_envoy::pb::envoy::config::route::v3::{
    QueryParameterMatcher, query_parameter_matcher::QueryParameterMatchSpecifier,
};
use http::request::Parts;

use super::text::Text;
use crate::error::{CompileError, Within as _, take};

/// Matches a query parameter as it is written: the first one of its name, nothing decoded.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    name: String,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Present(bool),
    Text(Text),
}

impl Query {
    pub(crate) fn compile_all(matchers: &[QueryParameterMatcher]) -> Result<Vec<Self>, CompileError> {
        let compile = |(index, matcher)| Self::compile(matcher).within(|| format!("query_parameters[{index}]"));
        matchers.iter().enumerate().map(compile).collect()
    }

    fn compile(matcher: &QueryParameterMatcher) -> Result<Self, CompileError> {
        take!(matcher => QueryParameterMatcher { name, query_parameter_match_specifier } unserved {});
        if name.is_empty() {
            return Err(CompileError::missing("name"));
        }
        let rule = match query_parameter_match_specifier {
            None => Rule::Present(true),
            Some(QueryParameterMatchSpecifier::PresentMatch(present)) => Rule::Present(*present),
            Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
                Rule::Text(Text::compile(matcher).within(|| "string_match".into())?)
            }
        };
        Ok(Self {
            name: name.clone(),
            rule,
        })
    }

    pub(crate) fn matches(&self, request: &Parts) -> bool {
        let value = parameter(request, &self.name);
        match &self.rule {
            Rule::Present(present) => value.is_some() == *present,
            Rule::Text(text) => value.is_some_and(|value| text.matches(value.as_bytes())),
        }
    }
}

/// The first value of a query parameter, as it is written. Empty where it is given without `=`.
pub(crate) fn parameter<'a>(request: &'a Parts, name: &str) -> Option<&'a str> {
    let pairs = request.uri.query()?.split('&');
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}
