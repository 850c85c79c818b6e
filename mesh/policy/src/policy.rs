//! A policy, well-formed by construction.

use std::sync::Arc;

use crate::{Connection, callers::Callers, compared::Facts, rule::Rule};

/// Which workloads a policy binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every workload of the mesh.
    Global,
    /// Every workload of the policy's namespace.
    Namespace,
    /// The workloads that name the policy.
    WorkloadSelector,
}

/// What follows from a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The connection may pass, if nothing denies it.
    Allow,
    /// The connection is refused.
    Deny,
}

/// What a policy is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It decides.
    Enforced,
    /// It is tried out (`istio.io/dry-run`): [`remarks`](crate::remarks) says what it would change.
    DryRun,
    /// It names what matches (`action: AUDIT`): see [`remarks`](crate::remarks).
    Audit,
}

/// An authorization policy. Made by [`Policy::from_proto`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) scope: Scope,
    pub(crate) action: Action,
    pub(crate) purpose: Purpose,
    /// Those of the rules.
    pub(crate) callers: Callers,
    pub(crate) rules: Box<[Rule]>,
}

impl Policy {
    /// The resource's name: `namespace/name`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where the policy lives.
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// Which workloads it binds.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// What follows from a match.
    pub fn action(&self) -> Action {
        self.action
    }

    /// What it is there for. [`evaluate`](crate::evaluate) passes over what is not enforced.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Whether it decides.
    pub fn is_enforced(&self) -> bool {
        self.purpose == Purpose::Enforced
    }

    /// How many rules the policy has.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Whether one of the rules covers the connection, whatever the action.
    pub fn matches(&self, connection: &Connection<'_>) -> bool {
        self.covers(&Facts::of(connection))
    }

    pub(crate) fn covers(&self, facts: &Facts<'_>) -> bool {
        self.callers.may_include(facts) && self.rules.iter().any(|rule| rule.matches(facts))
    }
}
