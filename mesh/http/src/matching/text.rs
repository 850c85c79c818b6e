//! A matcher for one text.

use culvert_envoy::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};

use crate::error::{CompileError, Within as _, take};
use crate::re2::Regex;

/// Matches a text.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Contains(Vec<u8>),
    Regex(Regex),
    /// One of the others but a regular expression, blind to the case of ASCII; its text is in lower case.
    IgnoreCase(Box<Text>),
}

impl Text {
    pub(crate) fn compile(matcher: &StringMatcher) -> Result<Self, CompileError> {
        take!(matcher => StringMatcher { ignore_case, match_pattern } unserved {});
        let text = |text: &String| {
            if *ignore_case {
                text.to_ascii_lowercase().into_bytes()
            } else {
                text.clone().into_bytes()
            }
        };
        let plain = match match_pattern {
            Some(MatchPattern::Exact(value)) => Self::Exact(text(value)),
            Some(MatchPattern::Prefix(value)) if value.is_empty() => {
                return Err(CompileError::invalid("prefix", "is empty"));
            }
            Some(MatchPattern::Suffix(value)) if value.is_empty() => {
                return Err(CompileError::invalid("suffix", "is empty"));
            }
            Some(MatchPattern::Contains(value)) if value.is_empty() => {
                return Err(CompileError::invalid("contains", "is empty"));
            }
            Some(MatchPattern::Prefix(value)) => Self::Prefix(text(value)),
            Some(MatchPattern::Suffix(value)) => Self::Suffix(text(value)),
            Some(MatchPattern::Contains(value)) => Self::Contains(text(value)),
            Some(MatchPattern::SafeRegex(regex)) => {
                return compile_regex(regex).within(|| "safe_regex".into()).map(Self::Regex);
            }
            Some(MatchPattern::Custom(_)) => return Err(CompileError::unserved("custom")),
            None => return Err(CompileError::missing("match_pattern")),
        };
        Ok(if *ignore_case {
            Self::IgnoreCase(Box::new(plain))
        } else {
            plain
        })
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(value) => text == value,
            Self::Prefix(value) => text.starts_with(value),
            Self::Suffix(value) => text.ends_with(value),
            Self::Contains(value) => text.windows(value.len()).any(|window| window == value),
            Self::Regex(regex) => regex.is_full_match(text),
            Self::IgnoreCase(plain) => plain.matches(&text.to_ascii_lowercase()),
        }
    }
}

/// A regular expression out of a message. The engine is RE2's, the only one there is.
pub(crate) fn compile_regex(matcher: &RegexMatcher) -> Result<Regex, CompileError> {
    take!(matcher => RegexMatcher { regex, engine_type } unserved {});
    let _ = engine_type;
    if regex.is_empty() {
        return Err(CompileError::missing("regex"));
    }
    Regex::new(regex).map_err(|error| CompileError::new("regex", error))
}
