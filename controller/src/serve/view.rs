//! What each kind of caller sees of a state.
//!
//! A node's proxy sees the mesh: its pods may talk to anybody. A workload sees its own namespace: a waypoint serves the
//! Services and pods of the namespace that it runs in, and a token that somebody took out of a pod tells no more than that.
//! It is served no policies: until they are read, and one can tell which of them bind there, a proxy that waits for them
//! is safer than one that has heard of none.

use std::sync::Arc;

use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, MESH_TYPE, ROOTS_TYPE};
use culvert_xds::server::{Entry, Named, Resources as _, TypeSpec, View};

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

/// What a workload is sent.
const WORKLOAD_TYPES: [TypeSpec; 3] = [
    TypeSpec {
        url: ROOTS_TYPE,
        after: &[],
    },
    TypeSpec {
        url: MESH_TYPE,
        after: &[],
    },
    TypeSpec {
        url: ADDRESS_TYPE,
        after: &[],
    },
];

/// What one caller sees of a moment.
pub(super) struct CallerView<'a> {
    scope: Scope<'a>,
    snapshot: &'a Snapshot,
    roots: &'a Roots,
}

/// How much of it.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// All, as the proxy of this node.
    Node(&'a str),
    /// Workloads and Services of this namespace.
    Namespace(&'a str),
}

impl<'a> CallerView<'a> {
    /// What `caller` sees of this moment.
    pub(super) fn new(caller: &'a Caller, snapshot: &'a Snapshot, roots: &'a Roots) -> Self {
        let scope = match caller {
            Caller::Node { name } => Scope::Node(name),
            Caller::Workload { namespace, .. } => Scope::Namespace(namespace),
        };
        Self { scope, snapshot, roots }
    }

    /// Whether it is shown a resource that is there.
    fn shows(&self, type_url: &str, name: &str) -> bool {
        match self.scope {
            Scope::Namespace(namespace) if type_url == ADDRESS_TYPE => {
                self.snapshot.namespace(type_url, name) == Some(namespace)
            }
            Scope::Node(_) | Scope::Namespace(_) => true,
        }
    }
}

impl View for CallerView<'_> {
    fn types(&self) -> &'static [TypeSpec] {
        match self.scope {
            Scope::Node(_) => &NODE_TYPES,
            Scope::Namespace(_) => &WORKLOAD_TYPES,
        }
    }

    fn all<'a>(&'a self, type_url: &str) -> Named<'a> {
        if type_url == ROOTS_TYPE {
            return Box::new(self.roots.all());
        }
        let all = self.snapshot.all(type_url).into_iter().flatten();
        match self.scope {
            Scope::Namespace(_) if type_url == ADDRESS_TYPE => {
                Box::new(all.filter(|(name, _)| self.shows(ADDRESS_TYPE, name)))
            }
            Scope::Node(_) | Scope::Namespace(_) => Box::new(all),
        }
    }

    fn get(&self, type_url: &str, name: &str) -> Option<&Entry> {
        match type_url {
            ROOTS_TYPE => self.roots.get(name),
            _ => self.snapshot.get(type_url, name).filter(|_| self.shows(type_url, name)),
        }
    }

    fn expand(&self, type_url: &str, name: &str) -> Vec<Arc<str>> {
        match type_url {
            ROOTS_TYPE => self.shared(type_url, name).into_iter().collect(),
            _ => {
                let mut found = self.snapshot.expand(type_url, name);
                found.retain(|name| self.shows(type_url, name));
                found
            }
        }
    }

    fn knows(&self, type_url: &str, name: &str) -> bool {
        match (type_url, self.scope) {
            (ROOTS_TYPE, _) => self.roots.get(name).is_some(),
            (_, Scope::Node(_)) => self.snapshot.knows(type_url, name),
            (_, Scope::Namespace(_)) => !self.expand(type_url, name).is_empty(),
        }
    }

    fn keys(&self, type_url: &str, name: &str) -> Vec<Arc<str>> {
        match type_url {
            ROOTS_TYPE => vec![name.into()],
            _ => self.snapshot.keys(type_url, name).into_iter().collect(),
        }
    }

    fn shared(&self, type_url: &str, name: &str) -> Option<Arc<str>> {
        match type_url {
            ROOTS_TYPE => self
                .roots
                .all()
                .map(|(name, _)| Arc::clone(name))
                .find(|own| **own == *name),
            _ => self.snapshot.shared(type_url, name),
        }
    }

    fn initial(&self, type_url: &str) -> Vec<Arc<str>> {
        match (type_url, self.scope) {
            (ROOTS_TYPE, _) => self.roots.all().map(|(name, _)| Arc::clone(name)).collect(),
            (_, Scope::Node(node)) => self.snapshot.initial(type_url, node),
            (_, Scope::Namespace(_)) => self.snapshot.initial(type_url, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_proto::workload::{Address, Service, Workload, address};

    use super::*;
    use crate::snapshot::Resource;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (number, namespace) in ["shop", "bank"].into_iter().enumerate() {
            let octet = u8::try_from(number).unwrap();
            let service = Service {
                name: "web".to_owned(),
                namespace: namespace.to_owned(),
                ..Service::default()
            };
            let service_name = format!("{namespace}/web");
            let workload = Workload {
                uid: format!("{namespace}/pod"),
                namespace: namespace.to_owned(),
                addresses: vec![vec![198, 18, 0, octet]],
                node: "n".to_owned(),
                services: [(service_name.clone(), Default::default())].into(),
                ..Workload::default()
            };
            for (name, kind) in [
                (service_name, address::Type::Service(service)),
                (workload.uid.clone(), address::Type::Workload(workload)),
            ] {
                let address = Address { r#type: Some(kind) };
                snapshot.set(Resource::address(&name, &namespace.into(), &address));
            }
        }
        snapshot
    }

    #[test]
    fn a_workload_sees_its_own_namespace_and_a_node_all() {
        let (snapshot, roots) = (snapshot(), Roots::new("pem"));
        let workload = Caller::Workload {
            namespace: "shop".to_owned(),
            account: "waypoint".to_owned(),
            pod: None,
            node: None,
        };
        let node = Caller::Node { name: "n".to_owned() };
        let view = CallerView::new(&workload, &snapshot, &roots);
        let names = |names: Vec<Arc<str>>| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let all = |view: &CallerView<'_>| names(view.all(ADDRESS_TYPE).map(|(name, _)| Arc::clone(name)).collect());
        assert_eq!(all(&view), ["shop/pod", "shop/web"]);
        assert_eq!(names(view.expand(ADDRESS_TYPE, "shop/web")), ["shop/pod", "shop/web"]);
        for foreign in ["bank/web", "bank/pod", "/198.18.0.1"] {
            assert!(view.expand(ADDRESS_TYPE, foreign).is_empty(), "{foreign}");
            assert!(!view.knows(ADDRESS_TYPE, foreign), "{foreign}");
            assert!(view.get(ADDRESS_TYPE, foreign).is_none(), "{foreign}");
        }
        assert!(view.knows(ADDRESS_TYPE, "/198.18.0.0") && view.initial(ADDRESS_TYPE).is_empty());
        assert!(view.get(ROOTS_TYPE, "roots").is_some());
        assert!(view.types().iter().all(|spec| spec.url != AUTHORIZATION_TYPE));

        let view = CallerView::new(&node, &snapshot, &roots);
        assert_eq!(all(&view).len(), 4);
        assert_eq!(names(view.initial(ADDRESS_TYPE)), ["bank/pod", "shop/pod"]);
        assert!(view.knows(ADDRESS_TYPE, "/198.18.0.1"));
    }
}
