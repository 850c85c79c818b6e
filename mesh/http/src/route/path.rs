//! How a path is rewritten, for what is forwarded and for redirects alike.

use culvert_envoy::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use crate::error::{CompileError, Within as _, take};
use crate::matching::path::Path;
use crate::matching::text::compile_regex;
use crate::re2::{Regex, Substitution};

/// What a path becomes.
#[derive(Debug)]
pub(super) enum PathRewrite {
    /// The first so many bytes are replaced.
    Prefix { length: usize, by: String },
    /// Every match is replaced.
    Regex { regex: Regex, by: Substitution },
}

impl PathRewrite {
    /// Of the two at most one is set.
    pub(super) fn compile(
        prefix: &str,
        regex: &Option<RegexMatchAndSubstitute>,
        path: &Path,
    ) -> Result<Option<Self>, CompileError> {
        match (prefix, regex) {
            ("", None) => Ok(None),
            ("", Some(regex)) => Ok(Some(Self::compile_regex(regex).within(|| "regex_rewrite".into())?)),
            (_, Some(_)) => Err(CompileError::invalid("regex_rewrite", "is set beside prefix_rewrite")),
            (by, None) => match path.replaceable() {
                Some(length) => Ok(Some(Self::Prefix {
                    length,
                    by: by.to_owned(),
                })),
                None => Err(CompileError::invalid(
                    "prefix_rewrite",
                    "needs a path or a prefix to match",
                )),
            },
        }
    }

    pub(super) fn compile_regex(rewrite: &RegexMatchAndSubstitute) -> Result<Self, CompileError> {
        take!(rewrite => RegexMatchAndSubstitute { pattern, substitution } unserved {});
        let pattern = pattern.as_ref().ok_or_else(|| CompileError::missing("pattern"))?;
        let regex = compile_regex(pattern).within(|| "pattern".into())?;
        let by = regex
            .substitution(substitution)
            .map_err(|error| CompileError::new("substitution", error))?;
        Ok(Self::Regex { regex, by })
    }

    /// The new path, of one without its query.
    pub(super) fn path(&self, path: &str) -> Vec<u8> {
        match self {
            Self::Prefix { length, by } => {
                let rest = path.as_bytes().get(*length..).unwrap_or_default();
                [by.as_bytes(), rest].concat()
            }
            Self::Regex { regex, by } => regex.replace_all(path.as_bytes(), by),
        }
    }

    /// The new path with the query, which stays.
    pub(super) fn path_and_query(&self, path: &str, query: Option<&str>) -> Vec<u8> {
        let mut out = self.path(path);
        if let Some(query) = query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        out
    }
}
