//! Which policy denied how often.

use std::sync::{Arc, Mutex, PoisonError};

use culvert_state::Denial;
use culvert_telemetry::prometheus::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use rustc_hash::FxHashSet;

/// Policies that are counted by name; a node's pods are bound by fewer. All others are counted as one.
const NAMES: usize = 256;

/// Where policies allow somebody, and nobody of them is who connected: no policy can be named.
const NOT_ALLOWED: &str = "-";

const OVERFLOW: &str = "overflow";

/// Connections that policies denied, by the policy's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyDenials {
    counted: Family<[(&'static str, String); 1], Counter>,
    names: Arc<Mutex<FxHashSet<Arc<str>>>>,
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
            Denial::Policy(name) | Denial::PolicyMissing(name) => self.name(name),
            Denial::NotAllowed => NOT_ALLOWED,
            _ => return,
        };
        self.counted.get_or_create(&[("policy", policy.to_owned())]).inc();
    }

    /// The name by which a policy is counted.
    fn name<'a>(&self, policy: &'a Arc<str>) -> &'a str {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES && !names.contains(policy) {
            return OVERFLOW;
        }
        names.insert(Arc::clone(policy));
        policy
    }
}

#[cfg(test)]
mod tests {
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
}
