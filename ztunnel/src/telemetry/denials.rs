//! Which policy denied how often, and which said something without deciding.

use culvert_policy::{Remarks, Trial};
use culvert_state::Denial;
use culvert_telemetry::{
    names::BoundedNames,
    prometheus::{
        metrics::{counter::Counter, family::Family},
        registry::Registry,
    },
};

/// Where policies allow somebody, and nobody of them is who connected: no policy can be named.
const NOT_ALLOWED: &str = "-";

/// Connections that policies denied, by the policy's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyDenials {
    counted: Family<[(&'static str, String); 1], Counter>,
    names: BoundedNames,
}

impl PolicyDenials {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let denials = Self::default();
        registry.register(
            "culvert_ztunnel_policy_denials",
            "Connections that a policy denied, by namespace/name; `-` where policies allow others alone",
            denials.counted.clone(),
        );
        denials
    }

    /// Counts a denial, if a policy's it is.
    pub(crate) fn count(&self, denial: &Denial) {
        let policy = match denial {
            Denial::Policy(name) | Denial::PolicyMissing(name) => self.names.of(name),
            Denial::NotAllowed => NOT_ALLOWED,
            _ => return,
        };
        self.counted.get_or_create(&[("policy", policy.to_owned())]).inc();
    }
}

/// Connections of which policies said something that decided nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyRemarks {
    tried: Family<[(&'static str, String); 2], Counter>,
    audited: Family<[(&'static str, String); 1], Counter>,
    names: BoundedNames,
}

impl PolicyRemarks {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let remarks = Self::default();
        registry.register(
            "culvert_ztunnel_policy_dry_run",
            "Connections of which something else would become (outcome) if policies that are tried out were enforced, by namespace/name of \
             the policy that would deny; `-` for other outcomes",
            remarks.tried.clone(),
        );
        registry.register(
            "culvert_ztunnel_policy_audited",
            "Connections that a policy with the action AUDIT matches, by namespace/name",
            remarks.audited.clone(),
        );
        remarks
    }

    /// Counts what was said of one connection.
    pub(crate) fn count(&self, remarks: &Remarks) {
        if let Some(trial) = &remarks.dry_run {
            let (outcome, policy) = match trial {
                Trial::Allowed => ("allowed", NOT_ALLOWED),
                Trial::NotAllowed => ("not_allowed", NOT_ALLOWED),
                Trial::Denied(policy) => ("denied", self.names.of(policy)),
            };
            let labels = [("outcome", outcome.to_owned()), ("policy", policy.to_owned())];
            self.tried.get_or_create(&labels).inc();
        }
        for policy in &remarks.audited {
            let labels = [("policy", self.names.of(policy).to_owned())];
            self.audited.get_or_create(&labels).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_telemetry::names::{NAMES, OVERFLOW};
    use std::sync::Arc;

    use super::*;

    fn count(denials: &PolicyDenials, policy: &str) -> u64 {
        denials.counted.get_or_create(&[("policy", policy.to_owned())]).get()
    }

    #[test]
    fn denials_are_counted_by_policy_and_their_names_are_bounded() {
        let denials = PolicyDenials::default();
        for number in 0..NAMES + 10 {
            denials.count(&Denial::Policy(format!("shop/p-{number}").into()));
        }
        denials.count(&Denial::PolicyMissing("shop/p-0".into()));
        denials.count(&Denial::NotAllowed);
        denials.count(&Denial::NoEndpoint("shop/cart".into()));
        assert_eq!(count(&denials, "shop/p-0"), 2);
        assert_eq!(count(&denials, OVERFLOW), 10);
        assert_eq!(count(&denials, NOT_ALLOWED), 1);
        assert_eq!(count(&denials, "shop/cart"), 0, "no policy denied this");
    }

    #[test]
    fn what_policies_say_without_deciding_is_counted_by_outcome_and_policy() {
        let counted = PolicyRemarks::default();
        let said = |dry_run, audited: &[&str]| Remarks {
            dry_run,
            audited: audited.iter().map(|name| Arc::from(*name)).collect(),
        };
        counted.count(&said(Some(Trial::Denied("shop/no".into())), &["shop/a", "shop/b"]));
        counted.count(&said(Some(Trial::NotAllowed), &["shop/a"]));
        let tried = |outcome: &str, policy: &str| {
            let labels = [("outcome", outcome.to_owned()), ("policy", policy.to_owned())];
            counted.tried.get_or_create(&labels).get()
        };
        assert_eq!((tried("denied", "shop/no"), tried("not_allowed", NOT_ALLOWED)), (1, 1));
        let audited = |policy: &str| counted.audited.get_or_create(&[("policy", policy.to_owned())]).get();
        assert_eq!((audited("shop/a"), audited("shop/b")), (2, 1));
    }
}
