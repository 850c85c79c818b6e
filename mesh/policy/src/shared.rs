//! What policies of one mesh have in common, held once.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::rule::Match;

/// Texts, and clauses of policies that were made with [`Policy::from_proto_sharing`](crate::Policy::from_proto_sharing). A mesh of many
/// policies compares with few different texts, and often lets the same callers in: equal ones are one allocation.
#[derive(Debug, Default)]
pub struct Shared {
    texts: FxHashSet<Arc<str>>,
    matches: FxHashSet<Arc<[Match]>>,
}

impl Shared {
    /// Forgets what nothing uses any more.
    pub fn sweep(&mut self) {
        // These first: they use texts.
        self.matches.retain(|matches| Arc::strong_count(matches) > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
    }

    /// A text that is equal; made now, if there was none.
    pub fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    pub(crate) fn matches(&mut self, matches: Vec<Match>) -> Arc<[Match]> {
        if let Some(known) = self.matches.get(&matches[..]) {
            return Arc::clone(known);
        }
        let matches: Arc<[Match]> = matches.into();
        self.matches.insert(Arc::clone(&matches));
        matches
    }
}

#[cfg(test)]
mod tests {
    use culvert_proto::security as proto;

    use super::*;
    use crate::{
        Policy,
        rule::{Text, Values},
    };

    /// Lets these namespaces in at this port.
    fn policy(name: &str, namespaces: [&str; 2], port: u32, shared: &mut Shared) -> Policy {
        let exact = |text: &str| proto::StringMatch {
            match_type: Some(proto::string_match::MatchType::Exact(text.to_owned())),
        };
        let from = proto::Match {
            namespaces: namespaces.map(exact).to_vec(),
            ..Default::default()
        };
        let to = proto::Match {
            destination_ports: vec![port],
            ..Default::default()
        };
        let clauses = [from, to].map(|one| proto::Clause { matches: vec![one] });
        let wire = proto::Authorization {
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            rules: vec![proto::Rule {
                clauses: clauses.to_vec(),
            }],
            ..Default::default()
        };
        Policy::from_proto_sharing(&wire, shared).unwrap()
    }

    #[test]
    fn what_policies_have_in_common_is_held_once_and_for_as_long_as_one_of_them_is_there() {
        let mut shared = Shared::default();
        let one = policy("one", ["a", "b"], 80, &mut shared);
        let other = policy("other", ["a", "b"], 443, &mut shared);
        let third = policy("third", ["b", "a"], 80, &mut shared);
        let clause = |policy: &Policy, at: usize| Arc::clone(&policy.rules[0].clauses[at].matches);
        assert!(Arc::ptr_eq(&clause(&one, 0), &clause(&other, 0)));
        assert!(!Arc::ptr_eq(&clause(&one, 1), &clause(&other, 1)) && one != other);
        assert!(!Arc::ptr_eq(&clause(&one, 0), &clause(&third, 0)));
        assert!(Arc::ptr_eq(&clause(&one, 1), &clause(&third, 1)));
        assert_eq!((shared.texts.len(), shared.matches.len()), (3, 4));
        drop((one, third));
        shared.sweep();
        assert_eq!((shared.texts.len(), shared.matches.len()), (3, 2));
        drop(other);
        shared.sweep();
        assert_eq!((shared.texts.len(), shared.matches.len()), (0, 0));
    }

    /// A node holds all policies of the mesh.
    #[test]
    fn what_a_policy_is_made_of_has_not_grown() {
        let sizes = [
            size_of::<Policy>(),
            size_of::<Match>(),
            size_of::<Values>(),
            size_of::<Text>(),
        ];
        assert_eq!(sizes, [64, 32, 24, 24]);
    }
}
