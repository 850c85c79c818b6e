//! Who asks. Known from a token, never from what the asker says of itself: what it may see, which certificates it gets and
//! what the status page shows of it follow from this value.

use std::{fmt, net::IpAddr, net::SocketAddr, time::SystemTime};

use culvert_identity::SpiffeId;

/// A program that the controller has to do with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// A node's own programs: its proxy. It acts for the pods of the node.
    Node {
        /// As Pods' `spec.nodeName`.
        name: String,
    },
    /// Any other workload, for itself alone: a waypoint, a gateway.
    Workload {
        /// The namespace of its service account.
        namespace: String,
        /// Its service account.
        account: String,
        /// The pod that its token is bound to, if it is to one.
        pod: Option<String>,
        /// The node of that pod, where it is known.
        node: Option<String>,
    },
}

impl Caller {
    /// The node whose programs call, if they do.
    pub(crate) fn node(&self) -> Option<&str> {
        match self {
            Self::Node { name } => Some(name),
            Self::Workload { .. } => None,
        }
    }

    /// The pod that calls, `NAMESPACE/POD`, where it is known.
    pub(crate) fn pod_name(&self) -> Option<String> {
        match self {
            Self::Workload {
                namespace,
                pod: Some(pod),
                ..
            } => Some(format!("{namespace}/{pod}")),
            Self::Workload { pod: None, .. } | Self::Node { .. } => None,
        }
    }

    /// The identity that a workload has itself; a node's programs have none.
    pub(crate) fn own_identity(&self, trust_domain: &str) -> Option<SpiffeId> {
        match self {
            Self::Node { .. } => None,
            Self::Workload { namespace, account, .. } => SpiffeId::new(trust_domain, namespace, account).ok(),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { name } => write!(f, "node {name}"),
            Self::Workload {
                namespace,
                account,
                pod: Some(pod),
                ..
            } => write!(f, "workload {namespace}/{account} in pod {pod}"),
            Self::Workload { namespace, account, .. } => write!(f, "workload {namespace}/{account}"),
        }
    }
}

/// A caller, and until when it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authenticated {
    pub(crate) caller: Caller,
    /// When the token expires, if it does.
    pub(crate) expires: Option<SystemTime>,
}

/// The connection of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source(pub(crate) Option<SocketAddr>);

impl Source {
    /// The address, without the port: one machine or pod as a rule.
    pub(crate) fn address(self) -> Option<IpAddr> {
        self.0.map(|address| address.ip().to_canonical())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("an unknown address"),
        }
    }
}
