//! Where pods come from.
//!
//! A [`PodSource`] says which pods of this node shall take part in the mesh; enrolment brings it about. [`local`] reads a
//! directory of Kubernetes objects and needs no cluster; [`kubernetes`] follows a cluster's API server.

use std::{collections::BTreeSet, fmt, net::IpAddr, path::PathBuf, sync::Arc};

use culvert_objects::{BadDnsCapture, BadFallback, BadHold, BadSameNode, DnsCapture, Fallback, Hold, SameNode};

pub mod kubernetes;
pub mod local;

/// The pods of one node, as they should be.
pub trait PodSource {
    /// Waits for the next state: the first call returns what there is, later ones return when it has changed. `None` when
    /// nothing will change any more. May be cancelled.
    fn next(&mut self) -> impl Future<Output = Option<Arc<Snapshot>>> + Send;
}

/// What a source knows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Pods that shall take part.
    pub wanted: Vec<PodSpec>,
    /// Pods of this node that stay outside, and why.
    pub outside: Vec<Outside>,
    /// Namespaces that ask for connections to be closed that their pods had open before they joined.
    pub closing: BTreeSet<String>,
    /// False when the source knows that something may be missing, for example because a file does not parse: nothing that
    /// an earlier agent enrolled is thrown away on the strength of it.
    pub complete: bool,
}

/// A pod that shall take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// The Kubernetes UID.
    pub uid: Arc<str>,
    /// Namespace and name.
    pub name: PodName,
    /// Its service account: with the namespace, its identity.
    pub service_account: String,
    /// All its addresses, the primary one first. Never empty.
    pub addresses: Vec<IpAddr>,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Which of the connections that it opens are held until their far side is there.
    pub hold: Hold,
    /// Why none is, although something was asked for.
    pub hold_problem: Option<String>,
    /// What its connections do while no proxy serves.
    pub fallback: Fallback,
    /// Why they wait, although something else was asked for.
    pub fallback_problem: Option<String>,
    /// How connections to it go that other pods of its node open.
    pub same_node: SameNode,
    /// Why they go through the proxy, although something else was asked for.
    pub same_node_problem: Option<String>,
    /// Whether the proxy sees its DNS queries; none where the agent's own setting decides.
    pub dns: Option<DnsCapture>,
    /// Why that decides, although something was asked for.
    pub dns_problem: Option<String>,
}

impl PodSpec {
    /// With what annotations say of connections to be held; what they say wrong is a problem, and nothing is held.
    #[must_use]
    pub fn with_hold(self, said: Result<Hold, BadHold>) -> Self {
        let (hold, hold_problem) = match said {
            Ok(hold) => (hold, None),
            Err(error) => (Hold::None, Some(error.to_string())),
        };
        Self {
            hold,
            hold_problem,
            ..self
        }
    }

    /// With what annotations say of the time without a proxy; what they say wrong is a problem, and nothing goes direct.
    #[must_use]
    pub fn with_fallback(self, said: Result<Fallback, BadFallback>) -> Self {
        let (fallback, fallback_problem) = match said {
            Ok(fallback) => (fallback, None),
            Err(error) => (Fallback::None, Some(error.to_string())),
        };
        Self {
            fallback,
            fallback_problem,
            ..self
        }
    }

    /// With what annotations say of connections within the node; what they say wrong is a problem, and all go through the proxy.
    #[must_use]
    pub fn with_same_node(self, said: Result<SameNode, BadSameNode>) -> Self {
        let (same_node, same_node_problem) = match said {
            Ok(same_node) => (same_node, None),
            Err(error) => (SameNode::Proxy, Some(error.to_string())),
        };
        Self {
            same_node,
            same_node_problem,
            ..self
        }
    }

    /// With what annotations say of DNS queries; what they say wrong is a problem, and the agent's own setting decides.
    #[must_use]
    pub fn with_dns(self, said: Result<Option<DnsCapture>, BadDnsCapture>) -> Self {
        let (dns, dns_problem) = match said {
            Ok(dns) => (dns, None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            dns,
            dns_problem,
            ..self
        }
    }
}

/// A pod that stays outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The Kubernetes UID.
    pub uid: Arc<str>,
    /// Namespace and name.
    pub name: PodName,
    /// Its addresses, as far as known.
    pub addresses: Vec<IpAddr>,
    /// What is wrong with it; none when it is not labelled.
    pub problem: Option<String>,
}

/// Namespace and name of a pod; displayed as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
