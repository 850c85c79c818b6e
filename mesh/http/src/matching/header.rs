//! A matcher for a header field: Envoy's `HeaderMatcher`.

use culvert_envoy::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use culvert_envoy::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use http::HeaderMap;
use http::request::Parts;

use super::text::{Text, compile_regex};
use crate::error::{CompileError, Within as _, take};
use crate::request::{FieldName, Values};

/// Matches a header field, each line by itself.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    name: FieldName,
    rule: Rule,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Clone, Debug)]
enum Rule {
    Present(bool),
    Text(Text),
    /// From the first up to but without the second.
    Range(i64, i64),
}

impl Header {
    pub(crate) fn compile_all(matchers: &[HeaderMatcher]) -> Result<Vec<Self>, CompileError> {
        let compile = |(index, matcher)| Self::compile(matcher).within(|| format!("headers[{index}]"));
        matchers.iter().enumerate().map(compile).collect()
    }

    pub(crate) fn compile(matcher: &HeaderMatcher) -> Result<Self, CompileError> {
        take!(matcher => HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } unserved {});
        let text = |pattern: MatchPattern| {
            let matcher = StringMatcher {
                match_pattern: Some(pattern),
                ignore_case: false,
            };
            Text::compile(&matcher).map(Rule::Text)
        };
        #[allow(deprecated, reason = "Envoy still serves them")]
        let rule = match header_match_specifier {
            None => Rule::Present(true),
            Some(HeaderMatchSpecifier::PresentMatch(present)) => Rule::Present(*present),
            Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
                Rule::Text(Text::compile(matcher).within(|| "string_match".into())?)
            }
            Some(HeaderMatchSpecifier::RangeMatch(range)) => Rule::Range(range.start, range.end),
            Some(HeaderMatchSpecifier::ExactMatch(value)) => text(MatchPattern::Exact(value.clone()))?,
            Some(HeaderMatchSpecifier::PrefixMatch(value)) => text(MatchPattern::Prefix(value.clone()))?,
            Some(HeaderMatchSpecifier::SuffixMatch(value)) => text(MatchPattern::Suffix(value.clone()))?,
            Some(HeaderMatchSpecifier::ContainsMatch(value)) => text(MatchPattern::Contains(value.clone()))?,
            Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
                Rule::Text(Text::Regex(compile_regex(regex).within(|| "safe_regex_match".into())?))
            }
        };
        Ok(Self {
            name: FieldName::parse(name).ok_or_else(|| {
                CompileError::invalid("name", format_args!("{name:?} is not the name of a header field"))
            })?,
            rule,
            invert: *invert_match,
            missing_is_empty: *treat_missing_header_as_empty,
        })
    }

    pub(crate) fn matches(&self, request: &Parts) -> bool {
        self.matches_values(self.name.values(request))
    }

    /// The same for the fields of an answer, which has nothing with a colon in front.
    pub(crate) fn matches_fields(&self, headers: &HeaderMap) -> bool {
        self.matches_values(self.name.fields(headers))
    }

    fn matches_values(&self, values: Values<'_>) -> bool {
        let mut values = values.peekable();
        if let Rule::Present(present) = self.rule {
            let found = values.peek().is_some() || self.missing_is_empty;
            return (found == present) != self.invert;
        }
        if values.peek().is_none() {
            return self.missing_is_empty && self.one(b"") != self.invert;
        }
        // Inverted, it matches only if no line does.
        values.any(|value| self.one(&value)) != self.invert
    }

    fn one(&self, value: &[u8]) -> bool {
        match &self.rule {
            Rule::Present(present) => *present,
            Rule::Text(text) => text.matches(value),
            Rule::Range(from, to) => str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .is_some_and(|number| (*from..*to).contains(&number)),
        }
    }
}
