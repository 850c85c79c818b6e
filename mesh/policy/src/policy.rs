//! A policy, well-formed by construction.

use std::sync::Arc;

use ipnet::IpNet;

use crate::Connection;

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
        self.rules.iter().any(|rule| rule.matches(connection))
    }
}

/// All clauses must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) clauses: Box<[Clause]>,
}

/// One of the matches must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(crate) matches: Box<[Match]>,
}

/// Every field that has values must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) namespaces: Field<Text>,
    pub(crate) service_accounts: Field<ServiceAccount>,
    pub(crate) principals: Field<Text>,
    pub(crate) source_ips: Field<IpNet>,
    pub(crate) destination_ips: Field<IpNet>,
    pub(crate) destination_ports: Field<u16>,
}

/// Values of which one must match, and values of which none may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field<T> {
    pub(crate) any: Box<[T]>,
    pub(crate) none: Box<[T]>,
}

/// A comparison with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Suffix(Arc<str>),
    /// Any text that is not empty.
    Presence,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceAccount {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Rule {
    fn matches(&self, connection: &Connection<'_>) -> bool {
        self.clauses
            .iter()
            .all(|clause| clause.matches.iter().any(|one| one.matches(connection)))
    }
}

impl Match {
    fn matches(&self, connection: &Connection<'_>) -> bool {
        let identity = connection.identity;
        !self.is_empty()
            && self
                .destination_ports
                .holds(|port| *port == connection.destination.port())
            && self
                .namespaces
                .holds(|text| identity.is_some_and(|id| text.matches(id.namespace())))
            && self
                .service_accounts
                .holds(|account| identity.is_some_and(|id| account.matches(id.namespace(), id.service_account())))
            && self
                .principals
                .holds(|text| identity.is_some_and(|id| text.matches(id.principal())))
            && self
                .source_ips
                .holds(|net| net.contains(&connection.source.to_canonical()))
            && self
                .destination_ips
                .holds(|net| net.contains(&connection.destination.ip().to_canonical()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.service_accounts.is_empty()
            && self.principals.is_empty()
            && self.source_ips.is_empty()
            && self.destination_ips.is_empty()
            && self.destination_ports.is_empty()
    }
}

impl<T> Field<T> {
    /// A peer without identity fails every positive condition on it and passes every negative one: that is how a policy
    /// says "deny who has no identity".
    fn holds(&self, matches: impl Fn(&T) -> bool) -> bool {
        (self.any.is_empty() || self.any.iter().any(&matches)) && !self.none.iter().any(&matches)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

// By hand: the derived one would ask for `T: Default`.
impl<T> Default for Field<T> {
    fn default() -> Self {
        Self {
            any: Box::default(),
            none: Box::default(),
        }
    }
}

impl Text {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == &**exact,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::Presence => !text.is_empty(),
        }
    }
}

impl ServiceAccount {
    fn matches(&self, namespace: &str, name: &str) -> bool {
        *self.namespace == *namespace && *self.name == *name
    }
}
