//! A matcher for the path of a request, and what an index can know of it.

use culvert_envoy::pb::envoy::config::route::v3::{RouteMatch, route_match::PathSpecifier};
use http::Method;
use http::request::Parts;

use super::text::compile_regex;
use crate::error::{CompileError, Within as _};
use crate::re2::{Regex, literal_prefix};

/// Matches the path, without the query.
#[derive(Clone, Debug)]
pub(crate) enum Path {
    Exact {
        path: String,
        ignore_case: bool,
    },
    Prefix {
        prefix: String,
        ignore_case: bool,
    },
    /// A prefix that ends with the path or before a slash.
    Separated {
        prefix: String,
        ignore_case: bool,
    },
    Regex {
        regex: Regex,
        begins: String,
    },
    /// `CONNECT`, which nothing else matches.
    Connect,
}

/// By what an index finds a matcher.
pub(crate) enum Key<'a> {
    /// The path is this one.
    Exact { path: &'a str, ignore_case: bool },
    /// The path begins with this.
    Prefix { prefix: &'a str, ignore_case: bool },
    /// Nothing is known.
    Any,
}

impl Path {
    pub(crate) fn compile(matcher: &RouteMatch) -> Result<Self, CompileError> {
        let ignore_case = matcher
            .case_sensitive
            .as_ref()
            .is_some_and(|sensitive| !sensitive.value);
        Ok(match &matcher.path_specifier {
            Some(PathSpecifier::Path(path)) => Self::Exact {
                path: path.clone(),
                ignore_case,
            },
            Some(PathSpecifier::Prefix(prefix)) => Self::Prefix {
                prefix: prefix.clone(),
                ignore_case,
            },
            Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
                if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                    let reason =
                        format_args!("{prefix:?} does not begin with a slash, ends with one, or has ? or # in it");
                    return Err(CompileError::invalid("path_separated_prefix", reason));
                }
                Self::Separated {
                    prefix: prefix.clone(),
                    ignore_case,
                }
            }
            Some(PathSpecifier::SafeRegex(regex)) => Self::Regex {
                begins: literal_prefix(&regex.regex).to_owned(),
                regex: compile_regex(regex).within(|| "safe_regex".into())?,
            },
            Some(PathSpecifier::ConnectMatcher(_)) => Self::Connect,
            Some(PathSpecifier::PathMatchPolicy(_)) => return Err(CompileError::unserved("path_match_policy")),
            None => return Err(CompileError::missing("path_specifier")),
        })
    }

    pub(crate) fn matches(&self, request: &Parts) -> bool {
        let connect = request.method == Method::CONNECT;
        if let Self::Connect = self {
            return connect;
        }
        if connect {
            return false;
        }
        let path = request.uri.path();
        match self {
            Self::Exact {
                path: exact,
                ignore_case,
            } => equal(path, exact, *ignore_case),
            Self::Prefix { prefix, ignore_case } => starts(path, prefix, *ignore_case),
            Self::Separated { prefix, ignore_case } => {
                starts(path, prefix, *ignore_case) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
            Self::Regex { regex, .. } => regex.is_full_match(path.as_bytes()),
            Self::Connect => connect,
        }
    }

    pub(crate) fn key(&self) -> Key<'_> {
        match self {
            Self::Exact { path, ignore_case } => Key::Exact {
                path,
                ignore_case: *ignore_case,
            },
            Self::Prefix { prefix, ignore_case } | Self::Separated { prefix, ignore_case } => Key::Prefix {
                prefix,
                ignore_case: *ignore_case,
            },
            Self::Regex { begins, .. } => Key::Prefix {
                prefix: begins,
                ignore_case: false,
            },
            Self::Connect => Key::Any,
        }
    }

    /// How many bytes of a path that matches a prefix rewrite replaces: the prefix, or the path that is equal. None for other matchers.
    pub(crate) fn replaceable(&self) -> Option<usize> {
        match self {
            Self::Exact { path, .. } => Some(path.len()),
            Self::Prefix { prefix, .. } | Self::Separated { prefix, .. } => Some(prefix.len()),
            Self::Regex { .. } | Self::Connect => None,
        }
    }
}

fn equal(path: &str, other: &str, ignore_case: bool) -> bool {
    if ignore_case {
        path.eq_ignore_ascii_case(other)
    } else {
        path == other
    }
}

fn starts(path: &str, prefix: &str, ignore_case: bool) -> bool {
    let (path, prefix) = (path.as_bytes(), prefix.as_bytes());
    if ignore_case {
        path.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    } else {
        path.starts_with(prefix)
    }
}
