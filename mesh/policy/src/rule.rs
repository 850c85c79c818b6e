//! The rules of a policy, and what their values are compared with.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::compared::{Compared, Digest, Facts};

/// All clauses must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) clauses: Box<[Clause]>,
}

/// One of the matches must match. Policies that have the same matches may share them: see [`Shared`](crate::Shared).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(crate) matches: Arc<[Match]>,
}

/// Each list of `any` must have a value that matches, and none of `none` may. Only lists that have values are here: of the twelve that
/// there could be, most matches have one or two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Match {
    pub(crate) any: Box<[Values]>,
    pub(crate) none: Box<[Values]>,
}

/// Values of one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Values {
    DestinationPorts(Box<[u16]>),
    Namespaces(Box<[Text]>),
    ServiceAccounts(Box<[ServiceAccount]>),
    Principals(Box<[Text]>),
    SourceIps(Box<[IpNet]>),
    DestinationIps(Box<[IpNet]>),
}

/// A comparison with a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    /// The digest is the text's, and makes most comparisons one of two numbers.
    Exact {
        digest: Digest,
        text: Arc<str>,
    },
    Prefix(Arc<str>),
    Suffix(Arc<str>),
    /// Any text that is not empty.
    Presence,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServiceAccount {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Rule {
    /// Whether it covers a connection.
    pub(crate) fn matches(&self, facts: &Facts<'_>) -> bool {
        self.clauses
            .iter()
            .all(|clause| clause.matches.iter().any(|one| one.matches(facts)))
    }
}

impl Match {
    fn matches(&self, facts: &Facts<'_>) -> bool {
        !self.is_empty()
            && self.any.iter().all(|values| values.match_one(facts))
            && !self.none.iter().any(|values| values.match_one(facts))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

impl Values {
    /// Whether one of the values matches. A peer without identity matches no value that asks for one, so that it fails every positive
    /// condition on it and passes every negative one: that is how a policy says "deny who has no identity".
    fn match_one(&self, facts: &Facts<'_>) -> bool {
        let Facts { connection, peer } = facts;
        let destination = connection.destination;
        match self {
            Self::DestinationPorts(ports) => ports.contains(&destination.port()),
            Self::Namespaces(texts) => peer.is_some_and(|peer| texts.iter().any(|text| text.matches(&peer.namespace))),
            Self::ServiceAccounts(accounts) => peer.is_some_and(|peer| {
                let (namespace, name) = (peer.namespace.text, peer.service_account);
                accounts.iter().any(|account| account.matches(namespace, name))
            }),
            Self::Principals(texts) => peer.is_some_and(|peer| texts.iter().any(|text| text.matches(&peer.principal))),
            Self::SourceIps(nets) => contains(nets, connection.source),
            Self::DestinationIps(nets) => contains(nets, destination.ip()),
        }
    }
}

fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    nets.iter().any(|net| net.contains(&address))
}

impl Text {
    pub(crate) fn exact(text: Arc<str>) -> Self {
        Self::Exact {
            digest: Digest::of(&text),
            text,
        }
    }

    fn matches(&self, compared: &Compared<'_>) -> bool {
        let text = compared.text;
        match self {
            Self::Exact { digest, text: exact } => *digest == compared.digest && *text == **exact,
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
