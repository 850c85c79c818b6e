//! What each kind of caller sees of a state.
//!
//! A node's proxy sees the mesh: its pods may talk to anybody. A workload sees its own namespace: a waypoint serves the
//! Services and pods of the namespace that it runs in, and a token that somebody took out of a pod tells no more than that.
//! It is served no policies: until they are read, and one can tell which of them bind there, a proxy that waits for them
//! is safer than one that has heard of none.
//!
//! A pod of a waypoint also sees what is made for that waypoint (its *scope*), of other waypoints nothing, and its own
//! certificate and key. Nobody else is served these types.

use std::sync::Arc;

use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, SECRET_TYPE};
use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, MESH_TYPE, ROOTS_TYPE};
use culvert_xds::server::{Entry, Named, Resources as _, TypeSpec, View};
use culvert_xds::{Interest, Key};

use super::roots::Roots;
use super::secrets::Secrets;
use crate::authority::Caller;
use crate::snapshot::{PLACED_TYPE, PROXY_TYPE, Snapshot, placed};

/// Bytes of policies in a response to a node that has none yet, which waits for the workloads that they bind until it has all of them.
const PIECE: usize = 16 << 10;

/// What a node's proxy is sent, and in which order: the roots before it meets a certificate, the mesh's ranges before it
/// decides about an address, and policies before the workloads that they bind.
const NODE_TYPES: [TypeSpec; 4] = [
    TypeSpec {
        url: ROOTS_TYPE,
        after: &[],
        piece: None,
        followed_by: None,
    },
    TypeSpec {
        url: MESH_TYPE,
        after: &[],
        piece: None,
        followed_by: None,
    },
    TypeSpec {
        url: AUTHORIZATION_TYPE,
        after: &[],
        piece: Some(PIECE),
        followed_by: None,
    },
    TypeSpec {
        url: ADDRESS_TYPE,
        after: &[AUTHORIZATION_TYPE],
        piece: None,
        followed_by: None,
    },
];

/// What a workload is sent.
const WORKLOAD_TYPES: [TypeSpec; 3] = [
    TypeSpec {
        url: ROOTS_TYPE,
        after: &[],
        piece: None,
        followed_by: None,
    },
    TypeSpec {
        url: MESH_TYPE,
        after: &[],
        piece: None,
        followed_by: None,
    },
    TypeSpec {
        url: ADDRESS_TYPE,
        after: &[],
        piece: None,
        followed_by: None,
    },
];

/// What a waypoint is sent beside. Envoy acknowledges clusters only when it has their endpoints and certificates: these wait for
/// nothing. Endpoints are sent again after each cluster that changed, since both kinds of waypoint wait for them and neither asks.
/// Listeners and routes come when the clusters are acknowledged that they lead to, and clusters go when what led to them is gone.
const WAYPOINT_TYPES: [TypeSpec; 8] = [
    WORKLOAD_TYPES[0],
    WORKLOAD_TYPES[1],
    WORKLOAD_TYPES[2],
    TypeSpec {
        url: SECRET_TYPE,
        after: &[],
        piece: None,
        followed_by: None,
    },
    TypeSpec {
        url: CLUSTER_TYPE,
        after: &[],
        piece: None,
        followed_by: Some(ENDPOINT_TYPE),
    },
    TypeSpec {
        url: ENDPOINT_TYPE,
        after: &[],
        piece: None,
        followed_by: None,
    },
    TypeSpec {
        url: LISTENER_TYPE,
        after: &[CLUSTER_TYPE, ENDPOINT_TYPE],
        piece: None,
        followed_by: None,
    },
    TypeSpec {
        url: ROUTE_TYPE,
        after: &[CLUSTER_TYPE, ENDPOINT_TYPE],
        piece: None,
        followed_by: None,
    },
];

/// The types of which a waypoint sees what is in its scope.
const SCOPED_TYPES: [&str; 4] = [CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE];

/// What one caller sees of a moment.
pub(super) struct CallerView<'a> {
    scope: Scope<'a>,
    snapshot: &'a Snapshot,
    own: Own<'a>,
    /// The pod that the caller is, where it is one of a waypoint.
    pod: Option<String>,
}

/// What is not in the snapshot.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    /// What all trust.
    pub(super) roots: &'a Roots,
    /// The caller's certificate, for Envoy.
    pub(super) secrets: &'a Secrets,
    /// The scope of the waypoint that the caller is of, if it is of one.
    pub(super) waypoint: Option<&'a Arc<str>>,
}

/// How much of it.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// All, as the proxy of this node.
    Node(&'a str),
    /// Workloads and Services of this namespace.
    Namespace(&'a str),
    /// The same, and what is for the waypoint of this scope.
    Waypoint(&'a str, &'a Arc<str>),
}

impl<'a> CallerView<'a> {
    /// What `caller` sees of this moment.
    pub(super) fn new(caller: &'a Caller, snapshot: &'a Snapshot, own: Own<'a>) -> Self {
        let scope = match caller {
            Caller::Node { name } => Scope::Node(name),
            Caller::Workload { namespace, .. } => match own.waypoint {
                Some(waypoint) => Scope::Waypoint(namespace, waypoint),
                None => Scope::Namespace(namespace),
            },
        };
        let is_waypoint = matches!(scope, Scope::Waypoint(..));
        Self {
            scope,
            snapshot,
            own,
            pod: caller.pod_name().filter(|_| is_waypoint),
        }
    }

    /// A resource of a waypoint as it is for one in the caller's place, where that matters.
    fn in_place(&self, type_url: &str, name: &str) -> Option<&Entry> {
        let pod = self.pod.as_deref().filter(|_| type_url == ENDPOINT_TYPE)?;
        let places = std::str::from_utf8(&self.snapshot.get(PROXY_TYPE, pod)?.body).ok()?;
        let mut places = places.lines().filter(|place| !place.is_empty());
        places.find_map(|place| self.snapshot.get(PLACED_TYPE, &placed(name, place)))
    }

    /// Whether it is shown a resource that is there.
    fn shows(&self, type_url: &str, name: &str) -> bool {
        match self.scope {
            Scope::Namespace(namespace) | Scope::Waypoint(namespace, _) if type_url == ADDRESS_TYPE => {
                self.snapshot.namespace(type_url, name) == Some(namespace)
            }
            Scope::Waypoint(_, scope) if SCOPED_TYPES.contains(&type_url) => {
                self.snapshot.scope(type_url, name) == Some(scope)
            }
            _ => !SCOPED_TYPES.contains(&type_url),
        }
    }

    /// What the caller holds of a type that is not in the snapshot; none where the snapshot has the type.
    fn own(&self, type_url: &str) -> Option<Vec<(&Arc<str>, &Entry)>> {
        match type_url {
            ROOTS_TYPE => Some(self.own.roots.all().collect()),
            SECRET_TYPE => Some(self.own.secrets.all().collect()),
            _ => None,
        }
    }

    fn own_get(&self, type_url: &str, name: &str) -> Option<Option<(&Arc<str>, &Entry)>> {
        let own = self.own(type_url)?;
        Some(own.into_iter().find(|(known, _)| ***known == *name))
    }
}

/// By what a stream is woken that asked for everything of a type: one that sees a scope alone by what is in the scope. See
/// [`Snapshot::keys`].
pub(super) fn woken_by(interest: Interest, waypoint: Option<&Arc<str>>) -> Interest {
    match (&interest.key, waypoint) {
        (Key::All, Some(scope)) if SCOPED_TYPES.contains(&interest.type_url) => Interest {
            key: Key::Name(Arc::clone(scope)),
            ..interest
        },
        _ => interest,
    }
}

impl View for CallerView<'_> {
    fn types(&self) -> &'static [TypeSpec] {
        match self.scope {
            Scope::Node(_) => &NODE_TYPES,
            Scope::Namespace(_) => &WORKLOAD_TYPES,
            Scope::Waypoint(..) => &WAYPOINT_TYPES,
        }
    }

    fn all<'a>(&'a self, type_url: &str) -> Named<'a> {
        if let Some(own) = self.own(type_url) {
            return Box::new(own.into_iter());
        }
        let all = || self.snapshot.all(type_url).into_iter().flatten();
        match self.scope {
            Scope::Namespace(_) | Scope::Waypoint(..) if type_url == ADDRESS_TYPE => {
                Box::new(all().filter(|(name, _)| self.shows(ADDRESS_TYPE, name)))
            }
            Scope::Waypoint(_, scope) if SCOPED_TYPES.contains(&type_url) => {
                let url = SCOPED_TYPES
                    .into_iter()
                    .find(|url| *url == type_url)
                    .unwrap_or_default();
                let names = self.snapshot.in_scope(url, scope);
                Box::new(names.filter_map(move |name| {
                    let entry = self.in_place(url, name).or_else(|| self.snapshot.get(url, name))?;
                    Some((name, entry))
                }))
            }
            _ => Box::new(all()),
        }
    }

    fn get(&self, type_url: &str, name: &str) -> Option<&Entry> {
        match self.own_get(type_url, name) {
            Some(found) => found.map(|(_, entry)| entry),
            None => {
                let shown = self
                    .snapshot
                    .get(type_url, name)
                    .filter(|_| self.shows(type_url, name))?;
                Some(self.in_place(type_url, name).unwrap_or(shown))
            }
        }
    }

    fn expand(&self, type_url: &str, name: &str) -> Vec<Arc<str>> {
        match self.own_get(type_url, name) {
            Some(found) => found.into_iter().map(|(name, _)| Arc::clone(name)).collect(),
            None => {
                let mut found = self.snapshot.expand(type_url, name);
                found.retain(|name| self.shows(type_url, name));
                found
            }
        }
    }

    fn knows(&self, type_url: &str, name: &str) -> bool {
        match (self.own_get(type_url, name), self.scope) {
            (Some(found), _) => found.is_some(),
            (None, Scope::Node(_)) => self.snapshot.knows(type_url, name),
            (None, Scope::Namespace(_) | Scope::Waypoint(..)) => !self.expand(type_url, name).is_empty(),
        }
    }

    fn keys(&self, type_url: &str, name: &str) -> Vec<Arc<str>> {
        match type_url {
            ROOTS_TYPE | SECRET_TYPE => vec![name.into()],
            _ => self.snapshot.keys(type_url, name).into_iter().collect(),
        }
    }

    fn shared(&self, type_url: &str, name: &str) -> Option<Arc<str>> {
        match self.own_get(type_url, name) {
            Some(found) => found.map(|(name, _)| Arc::clone(name)),
            None => self.snapshot.shared(type_url, name),
        }
    }

    fn initial(&self, type_url: &str) -> Vec<Arc<str>> {
        match (type_url, self.scope) {
            (ROOTS_TYPE, _) => self.own.roots.all().map(|(name, _)| Arc::clone(name)).collect(),
            (_, Scope::Node(node)) => self.snapshot.initial(type_url, node),
            (_, Scope::Namespace(_) | Scope::Waypoint(..)) => self.snapshot.initial(type_url, ""),
        }
    }
}

#[cfg(test)]
mod tests;
