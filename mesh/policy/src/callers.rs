//! Whom a policy could be about at all.

use crate::{
    compared::{Digest, Facts},
    rule::{Clause, Match, Rule, Text, Values},
};

/// The callers that a policy names, as far as one word can tell: who is not among them is covered by none of its rules. Most policies name a
/// few callers, so that most of those that bind a workload need no look at their rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Callers(u64);

impl Callers {
    const ANYBODY: Self = Self(u64::MAX);
    const NOBODY: Self = Self(0);

    /// One of the rules must cover a caller.
    pub(crate) fn of(rules: &[Rule]) -> Self {
        rules.iter().map(Self::of_rule).fold(Self::NOBODY, Self::or)
    }

    /// Whether a rule could cover this caller. False is certain.
    pub(crate) fn may_include(self, facts: &Facts<'_>) -> bool {
        // Without an identity a caller is none of those that are named.
        let own = facts.peer.map_or(Self::NOBODY, |peer| {
            Self::principal(peer.principal.digest).or(Self::namespace(peer.namespace.digest))
        });
        self == Self::ANYBODY || self.0 & own.0 != 0
    }

    /// All clauses must match, so any of them tells; the one that names the fewest tells most.
    fn of_rule(rule: &Rule) -> Self {
        let clauses = rule.clauses.iter().map(Self::of_clause);
        clauses
            .min_by_key(|callers| callers.0.count_ones())
            .unwrap_or(Self::ANYBODY)
    }

    fn of_clause(clause: &Clause) -> Self {
        clause.matches.iter().map(Self::of_match).fold(Self::NOBODY, Self::or)
    }

    /// Each list must have a value that matches.
    fn of_match(one: &Match) -> Self {
        let lists = one.any.iter().map(Self::of_values);
        lists
            .min_by_key(|callers| callers.0.count_ones())
            .unwrap_or(Self::ANYBODY)
    }

    fn of_values(values: &Values) -> Self {
        let (texts, place): (_, fn(Digest) -> Self) = match values {
            Values::Principals(texts) => (texts, Self::principal),
            Values::Namespaces(texts) => (texts, Self::namespace),
            _ => return Self::ANYBODY,
        };
        let of_text = |text: &Text| match text {
            Text::Exact { digest, .. } => place(*digest),
            _ => Self::ANYBODY,
        };
        texts.iter().map(of_text).fold(Self::NOBODY, Self::or)
    }

    fn principal(digest: Digest) -> Self {
        Self(1 << digest.six_bits(0))
    }

    /// Of another part of the digest, so that a namespace has a place that has nothing to do with those of its principals.
    fn namespace(digest: Digest) -> Self {
        Self(1 << digest.six_bits(6))
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
