//! Which ports refuse every connection without a certificate, whoever makes it. What knows ports and no identities can refuse these,
//! too.

use std::collections::BTreeSet;

use crate::{
    Action, Policy,
    rule::{Clause, Match, Rule, Values},
};

/// Ports to which nobody may connect without a certificate: all or none, but for exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strictness {
    /// Whether ports that are not exceptions are such.
    pub strict: bool,
    /// Ports for which the opposite holds.
    pub exceptions: BTreeSet<u16>,
}

impl Strictness {
    /// Every port.
    pub const EVERY_PORT: Self = Self {
        strict: true,
        exceptions: BTreeSet::new(),
    };
    /// No port.
    pub const NO_PORT: Self = Self {
        strict: false,
        exceptions: BTreeSet::new(),
    };

    /// What these policies together say. It is read off their rules: a DENY policy counts for the ports to which it refuses each peer
    /// that has no identity, which is what PeerAuthentication becomes. It never says more than [`evaluate`](crate::evaluate) does, and
    /// may say less: policies that allow, and conditions on addresses, are not looked at.
    pub fn of<'p>(policies: impl IntoIterator<Item = &'p Policy>) -> Self {
        let denying = policies
            .into_iter()
            .filter(|policy| policy.action == Action::Deny && policy.is_enforced());
        let rules = denying.flat_map(|policy| &policy.rules);
        rules.map(of_rule).fold(Self::NO_PORT, Self::or)
    }

    /// Whether a port is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.strict != self.exceptions.contains(&port)
    }

    fn or(self, other: Self) -> Self {
        self.join(&other, self.strict || other.strict, |one, other| one || other)
    }

    fn and(self, other: Self) -> Self {
        self.join(&other, self.strict && other.strict, |one, other| one && other)
    }

    /// `strict` is what the operation makes of the two defaults.
    fn join(&self, other: &Self, strict: bool, operation: fn(bool, bool) -> bool) -> Self {
        let special = self.exceptions.union(&other.exceptions).copied();
        let exceptions = special.filter(|port| operation(self.contains(*port), other.contains(*port)) != strict);
        Self {
            strict,
            exceptions: exceptions.collect(),
        }
    }
}

/// A rule without clauses matches everything.
fn of_rule(rule: &Rule) -> Strictness {
    rule.clauses
        .iter()
        .map(of_clause)
        .fold(Strictness::EVERY_PORT, Strictness::and)
}

fn of_clause(clause: &Clause) -> Strictness {
    clause
        .matches
        .iter()
        .map(of_match)
        .fold(Strictness::NO_PORT, Strictness::or)
}

/// The ports for which a match holds for every peer without an identity.
fn of_match(one: &Match) -> Strictness {
    if one.is_empty() {
        return Strictness::NO_PORT;
    }
    let wanted = one.any.iter().map(|values| match values {
        Values::DestinationPorts(ports) => of_ports(ports, false),
        // It asks for an identity, or for an address.
        _ => Strictness::NO_PORT,
    });
    let unwanted = one.none.iter().map(|values| match values {
        Values::DestinationPorts(ports) => of_ports(ports, true),
        Values::SourceIps(_) | Values::DestinationIps(_) => Strictness::NO_PORT,
        // Who has no identity has none of these.
        Values::Namespaces(_) | Values::ServiceAccounts(_) | Values::Principals(_) => Strictness::EVERY_PORT,
    });
    wanted.chain(unwanted).fold(Strictness::EVERY_PORT, Strictness::and)
}

/// These ports alone, or all but these.
fn of_ports(ports: &[u16], strict: bool) -> Strictness {
    Strictness {
        strict,
        exceptions: ports.iter().copied().collect(),
    }
}

#[cfg(test)]
mod tests;
