//! Access policies: the filter `envoy.filters.http.rbac`. [`rules`] are one list of policies, [`attributes`] what they look at.

mod attributes;
mod rules;

pub use attributes::Attributes;
use culvert_envoy::pb::envoy::extensions::filters::http::rbac::v3::Rbac as Message;
use culvert_envoy::{DRY_RUN_ALLOW, DRY_RUN_DENY};

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

/// What a filter says of a request without deciding about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    prefix: String,
    access: Access,
    is_audit: bool,
    /// Where rules that are tried out would refuse it: the policy that denies it, or none where they allow others alone.
    pub refused_by: Option<Option<String>>,
}

impl Remark {
    /// The policy with the action AUDIT (Envoy's LOG) that the request is like.
    pub fn audited_by(&self) -> Option<&str> {
        self.access.policy.as_deref().filter(|_| self.is_audit)
    }

    /// What it leaves as metadata for filters behind it and for the access log, in the namespace [`culvert_envoy::RBAC_METADATA`].
    pub fn metadata(&self) -> impl Iterator<Item = (String, String)> {
        let result = if self.access.allowed { "allowed" } else { "denied" };
        let policy = self.access.policy.clone();
        let left = [
            policy.map(|policy| ("effective_policy_id", policy)),
            Some(("engine_result", result.to_owned())),
        ];
        let left = left.into_iter().flatten().filter(|_| !self.is_audit);
        left.map(|(key, value)| (format!("{}shadow_{key}", self.prefix), value))
    }
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

    /// What is said of a request without deciding about it. None without rules of that kind.
    pub fn remark(&self, attributes: &Attributes<'_>) -> Option<Remark> {
        if let Some(access) = self.shadow(attributes) {
            let is_tried = [DRY_RUN_DENY, DRY_RUN_ALLOW].contains(&&*self.shadow_prefix);
            return Some(Remark {
                prefix: self.shadow_prefix.clone(),
                refused_by: (is_tried && !access.allowed).then(|| access.policy.clone()),
                access,
                is_audit: false,
            });
        }
        let rules = self.rules.as_ref().filter(|rules| rules.is_log())?;
        let access = Self::by(Some(rules), attributes);
        access.policy.is_some().then_some(Remark {
            prefix: String::new(),
            refused_by: None,
            access,
            is_audit: true,
        })
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
