//! A matcher for a value of dynamic metadata: Envoy's `ValueMatcher`, on JSON.

use culvert_envoy::pb::envoy::r#type::matcher::v3::{
    DoubleMatcher, ValueMatcher, double_matcher, list_matcher, value_matcher::MatchPattern,
};
use serde_json::Value;

use super::text::Text;
use crate::error::{CompileError, Within as _};

/// Matches a value, or that there is none.
#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Number(f64),
    /// From the first up to but without the second.
    Range(f64, f64),
    Text(Text),
    Bool(bool),
    Present(bool),
    /// A list with an element like this.
    OneOf(Box<Json>),
    Or(Vec<Json>),
}

impl Json {
    pub(crate) fn compile(matcher: &ValueMatcher) -> Result<Self, CompileError> {
        Ok(match &matcher.match_pattern {
            Some(MatchPattern::NullMatch(_)) => Self::Null,
            Some(MatchPattern::DoubleMatch(DoubleMatcher { match_pattern })) => match match_pattern {
                Some(double_matcher::MatchPattern::Exact(number)) => Self::Number(*number),
                Some(double_matcher::MatchPattern::Range(range)) => Self::Range(range.start, range.end),
                None => return Err(CompileError::missing("double_match")),
            },
            Some(MatchPattern::StringMatch(text)) => Self::Text(Text::compile(text).within(|| "string_match".into())?),
            Some(MatchPattern::BoolMatch(wanted)) => Self::Bool(*wanted),
            Some(MatchPattern::PresentMatch(present)) => Self::Present(*present),
            Some(MatchPattern::ListMatch(list)) => match &list.match_pattern {
                Some(list_matcher::MatchPattern::OneOf(value)) => Self::OneOf(Box::new(Self::compile(value)?)),
                None => return Err(CompileError::missing("list_match")),
            },
            Some(MatchPattern::OrMatch(or)) => {
                Self::Or(or.value_matchers.iter().map(Self::compile).collect::<Result<_, _>>()?)
            }
            None => return Err(CompileError::missing("match_pattern")),
        })
    }

    pub(crate) fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Present(present), value) => value.is_some() == *present,
            (Self::Or(any), value) => any.iter().any(|matcher| matcher.matches(value)),
            (_, None) => false,
            (Self::Null, Some(value)) => value.is_null(),
            (Self::Number(wanted), Some(value)) => value.as_f64() == Some(*wanted),
            (Self::Range(from, to), Some(value)) => value.as_f64().is_some_and(|number| (*from..*to).contains(&number)),
            (Self::Text(text), Some(value)) => value.as_str().is_some_and(|value| text.matches(value.as_bytes())),
            (Self::Bool(wanted), Some(value)) => value.as_bool() == Some(*wanted),
            (Self::OneOf(matcher), Some(value)) => value
                .as_array()
                .is_some_and(|list| list.iter().any(|element| matcher.matches(Some(element)))),
        }
    }
}
