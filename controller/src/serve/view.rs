//! What each kind of caller sees of a state.

use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, MESH_TYPE, ROOTS_TYPE};
use culvert_xds::server::{Entry, Resources as _, TypeSpec, View};

use super::roots::Roots;
use crate::authority::Caller;
use crate::snapshot::Snapshot;

/// What a node's proxy is sent, and in which order: the roots before it meets a certificate, the mesh's ranges before it
/// decides about an address, and policies before the workloads that they bind.
const NODE_TYPES: [TypeSpec; 4] = [
    TypeSpec {
        url: ROOTS_TYPE,
        after: &[],
    },
    TypeSpec {
        url: MESH_TYPE,
        after: &[],
    },
    TypeSpec {
        url: AUTHORIZATION_TYPE,
        after: &[],
    },
    TypeSpec {
        url: ADDRESS_TYPE,
        after: &[AUTHORIZATION_TYPE],
    },
];

/// What one caller sees.
pub(super) enum CallerView<'a> {
    Node(NodeView<'a>),
    /// Nothing yet: waypoints and gateways will have types of their own.
    Workload,
}

/// The mesh, as the proxy of one node sees it.
pub(super) struct NodeView<'a> {
    node: &'a str,
    snapshot: &'a Snapshot,
    roots: &'a Roots,
}

impl<'a> CallerView<'a> {
    /// What `caller` sees of this moment.
    pub(super) fn new(caller: &'a Caller, snapshot: &'a Snapshot, roots: &'a Roots) -> Self {
        match caller {
            Caller::Node { name } => Self::Node(NodeView {
                node: name,
                snapshot,
                roots,
            }),
            Caller::Workload { .. } => Self::Workload,
        }
    }

    fn node(&self) -> Option<&NodeView<'a>> {
        match self {
            Self::Node(view) => Some(view),
            Self::Workload => None,
        }
    }
}

impl View for CallerView<'_> {
    fn types(&self) -> &'static [TypeSpec] {
        match self {
            Self::Node(_) => &NODE_TYPES,
            Self::Workload => &[],
        }
    }

    fn all<'a>(&'a self, type_url: &str) -> Box<dyn Iterator<Item = (&'a str, &'a Entry)> + 'a> {
        match self.node() {
            Some(view) => view.all(type_url),
            None => Box::new(std::iter::empty()),
        }
    }

    fn get(&self, type_url: &str, name: &str) -> Option<&Entry> {
        self.node()?.get(type_url, name)
    }

    fn expand(&self, type_url: &str, name: &str) -> Vec<String> {
        self.node().map(|view| view.expand(type_url, name)).unwrap_or_default()
    }

    fn knows(&self, type_url: &str, name: &str) -> bool {
        self.node().is_some_and(|view| view.knows(type_url, name))
    }

    fn keys(&self, type_url: &str, name: &str) -> Vec<String> {
        self.node().map(|view| view.keys(type_url, name)).unwrap_or_default()
    }

    fn initial(&self, type_url: &str) -> Vec<String> {
        self.node().map(|view| view.initial(type_url)).unwrap_or_default()
    }
}

impl NodeView<'_> {
    fn all<'a>(&'a self, type_url: &str) -> Box<dyn Iterator<Item = (&'a str, &'a Entry)> + 'a> {
        if type_url == ROOTS_TYPE {
            return Box::new(self.roots.all());
        }
        self.snapshot
            .all(type_url)
            .unwrap_or_else(|| Box::new(std::iter::empty()))
    }

    fn get(&self, type_url: &str, name: &str) -> Option<&Entry> {
        match type_url {
            ROOTS_TYPE => self.roots.get(name),
            _ => self.snapshot.get(type_url, name),
        }
    }

    fn expand(&self, type_url: &str, name: &str) -> Vec<String> {
        match type_url {
            ROOTS_TYPE => self.roots.get(name).map(|_| name.to_owned()).into_iter().collect(),
            _ => self.snapshot.expand(type_url, name),
        }
    }

    fn knows(&self, type_url: &str, name: &str) -> bool {
        match type_url {
            ROOTS_TYPE => self.roots.get(name).is_some(),
            _ => self.snapshot.knows(type_url, name),
        }
    }

    fn keys(&self, type_url: &str, name: &str) -> Vec<String> {
        match type_url {
            ROOTS_TYPE => vec![name.to_owned()],
            _ => self
                .snapshot
                .keys(type_url, name)
                .iter()
                .map(|key| key.to_string())
                .collect(),
        }
    }

    fn initial(&self, type_url: &str) -> Vec<String> {
        match type_url {
            ROOTS_TYPE => self.roots.all().map(|(name, _)| name.to_owned()).collect(),
            _ => self.snapshot.initial(type_url, self.node),
        }
    }
}
