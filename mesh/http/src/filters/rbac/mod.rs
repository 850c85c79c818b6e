//! Access policies: the filter `envoy.filters.http.rbac`. [`rules`] are one list of policies, [`attributes`] what they look at.

mod attributes;
mod rules;

pub use attributes::Attributes;
use culvert_envoy::pb::envoy::extensions::filters::http::rbac::v3::Rbac as Message;

use crate::error::{CompileError, Within as _, take};
use rules::Rules;

/// The filter: rules that count, and others that are only looked at.
#[derive(Debug)]
pub struct Rbac {
    rules: Option<Rules>,
    shadow: Option<Rules>,
    /// What the key begins with under which the shadow's decision is left.
    shadow_prefix: String,
}

/// Whether a request goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether it does. What does not is answered with 403 and the text `RBAC: access denied`.
    pub allowed: bool,
    /// The policy that decided, the first by name: for what is refused, in the details
    /// `rbac_access_denied_matched_policy[NAME]`, see [`details`](Self::details).
    pub policy: Option<String>,
}

impl Rbac {
    /// Reads the filter's configuration.
    ///
    /// # Errors
    /// Where it is not valid, or has something set that is not served. The name of the policy is in it.
    pub fn compile(message: &Message) -> Result<Self, CompileError> {
        take!(message => Message { rules, rules_stat_prefix, shadow_rules, shadow_rules_stat_prefix, track_per_rule_stats } unserved {
            matcher, shadow_matcher,
        });
        // Names of statistics.
        let _ = (rules_stat_prefix, track_per_rule_stats);
        Ok(Self {
            rules: rules
                .as_ref()
                .map(Rules::compile)
                .transpose()
                .within(|| "rules".into())?,
            shadow: shadow_rules
                .as_ref()
                .map(Rules::compile)
                .transpose()
                .within(|| "shadow_rules".into())?,
            shadow_prefix: shadow_rules_stat_prefix.clone(),
        })
    }

    /// Whether a request goes on. Without rules every one does.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Access {
        Self::by(self.rules.as_ref(), attributes)
    }

    /// What the rules that are only looked at say. None without any.
    pub fn shadow(&self, attributes: &Attributes<'_>) -> Option<Access> {
        self.shadow.as_ref().map(|rules| Self::by(Some(rules), attributes))
    }

    /// What the shadow leaves as metadata for filters behind it: the key and the policy that a request is like, if it is like one.
    pub fn left(&self, attributes: &Attributes<'_>) -> Option<(String, String)> {
        let policy = self.shadow(attributes)?.policy?;
        Some((format!("{}shadow_effective_policy_id", self.shadow_prefix), policy))
    }

    fn by(rules: Option<&Rules>, attributes: &Attributes<'_>) -> Access {
        match rules {
            Some(rules) => {
                let (allowed, policy) = rules.decide(attributes);
                Access {
                    allowed,
                    policy: policy.map(str::to_owned),
                }
            }
            None => Access {
                allowed: true,
                policy: None,
            },
        }
    }
}

impl Access {
    /// The details of the answer to what is refused: spaces in the policy's name become `_`.
    pub fn details(&self) -> String {
        let name = self.policy.as_deref().unwrap_or("none").replace(' ', "_");
        format!("rbac_access_denied_matched_policy[{name}]")
    }
}

#[cfg(test)]
mod tests;
