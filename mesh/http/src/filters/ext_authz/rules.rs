//! Which headers of a request a service may change, where the filter says so (`decoder_header_mutation_rules`).

use culvert_envoy::pb::envoy::config::common::mutation_rules::v3::HeaderMutationRules as Message;
use http::{HeaderName, header};

use crate::error::{CompileError, Within as _, take};
use crate::matching::text::compile_regex;
use crate::re2::Regex;

/// The rules. What they do not allow is left as it is.
#[derive(Debug)]
pub(super) struct Rules {
    disallowed: Option<Regex>,
    allows_envoys: bool,
}

impl Rules {
    pub(super) fn compile(message: &Message) -> Result<Self, CompileError> {
        take!(message => Message { allow_envoy, disallow_expression } unserved {
            allow_all_routing, disallow_system, disallow_all, allow_expression, disallow_is_error,
        });
        Ok(Self {
            disallowed: disallow_expression
                .as_ref()
                .map(compile_regex)
                .transpose()
                .within(|| "disallow_expression".into())?,
            allows_envoys: allow_envoy.is_some_and(|allows| allows.value),
        })
    }

    /// Whether a header of this name may be changed.
    pub(super) fn allow(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        let is_disallowed = || {
            self.disallowed
                .as_ref()
                .is_some_and(|regex| regex.is_full_match(text.as_bytes()))
        };
        *name != header::HOST && (self.allows_envoys || !text.starts_with("x-envoy-")) && !is_disallowed()
    }
}
