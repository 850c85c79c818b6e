//! The kinds of objects that the mesh reads: one line in the table below, and one file that implements [`KindSpec`].
//!
//! Everything else about a kind follows from these two: where it is listed, what is kept of an object, what refuses it, by
//! which keys others find it, and where it is held. Whatever goes through all kinds goes through [`Kind::ALL`].

use std::fmt;
use std::sync::Arc;

use k8s_openapi::Metadata as _;
use serde_json::Value;

use crate::check::{self, Naming};
use crate::name::ObjectName;
use crate::persistent::PersistentMap;
use crate::problem::Problem;

mod config_map;
mod endpoint_slice;
mod key;
mod namespace;
mod node;
mod pod;
mod prune;
mod security;
mod selector;
mod service;
mod service_account;
mod service_cidr;
mod spec;

pub use endpoint_slice::{Endpoint, EndpointSlice, PodReference, SlicePort, referenced_pod, service_of_slice};
pub use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Service, ServiceAccount},
    networking::v1::ServiceCIDR,
};
pub use key::Key;
pub use node::Node;
pub use pod::{NamedPort, Owner, Pod, is_agent};
pub use security::{AuthorizationPolicy, PeerAuthentication};
pub use selector::Selector;
pub use service::{has_no_selector, is_external, selector};
pub use spec::KindSpec;

/// Whether a cluster has the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Every cluster has it. Nothing is served before its objects are known.
    Required,
    /// It may be absent, or come and go: then there are no objects of it.
    Optional,
    /// It is read from files alone.
    Files,
}

/// What there is to know about a kind without its type.
#[derive(Debug)]
pub struct Descriptor {
    /// The kind.
    pub kind: Kind,
    /// As in YAML.
    pub name: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// As in the API server's paths.
    pub plural: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether a cluster has it.
    pub presence: Presence,
    /// Whether the metadata is all that is read.
    pub metadata_only: bool,
    read: fn(Value) -> Result<Object, Problem>,
}

impl Descriptor {
    /// `group/version`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            return self.version.to_owned();
        }
        format!("{}/{}", self.group, self.version)
    }

    /// Reads an object from an API server's JSON, checks it, and keeps of it what is read.
    ///
    /// # Errors
    /// Where it is not what the kind's type says, or is what an API server would refuse.
    pub fn read(&self, value: Value) -> Result<Object, Problem> {
        (self.read)(value)
    }
}

fn read<T: Held>(value: Value) -> Result<Arc<T>, Problem> {
    let wire: T::Wire = serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        let message = error.into_inner().to_string();
        Problem {
            line: None,
            field: (field != ".").then_some(field),
            message,
        }
    })?;
    made(wire)
}

/// An object that is made valid here, once and for all.
fn made<T: Held>(wire: T::Wire) -> Result<Arc<T>, Problem> {
    let kind = T::KIND;
    let naming = Naming {
        namespaced: kind.descriptor().namespaced,
        is_label: matches!(kind, Kind::Namespace | Kind::Service),
    };
    check::metadata(wire.metadata(), naming)?;
    T::check(&wire)?;
    Ok(Arc::new(T::keep(wire)))
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $field:ident: $kind:ident {
        $group:literal, $version:literal, $plural:literal, $namespaced:literal, $presence:ident, $metadata_only:literal
    })*) => {
        /// A kind that the mesh reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        /// All objects at one moment. A copy shares them; an object that did not change keeps its `Arc` from one moment to
        /// the next, so that comparing pointers tells what changed.
        #[derive(Clone, Debug, Default)]
        pub struct Objects {
            $($(#[$doc])* pub $field: PersistentMap<ObjectName, Arc<$kind>>,)*
        }

        /// One object of a kind that the mesh reads.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $($(#[$doc])* $kind(Arc<$kind>),)*
        }

        static DESCRIPTORS: &[Descriptor] = &[$(Descriptor {
            kind: Kind::$kind,
            name: stringify!($kind),
            group: $group,
            version: $version,
            plural: $plural,
            namespaced: $namespaced,
            presence: Presence::$presence,
            metadata_only: $metadata_only,
            read: |value| read(value).map(Object::$kind),
        }),*];

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];
        }

        impl Objects {
            /// The object of a kind and a name.
            pub fn get(&self, kind: Kind, name: &ObjectName) -> Option<Object> {
                match kind {
                    $(Kind::$kind => self.$field.get(name).cloned().map(Object::$kind),)*
                }
            }

            /// Puts an object in the place of its predecessor and returns that.
            pub fn insert(&mut self, name: ObjectName, object: Object) -> Option<Object> {
                match object {
                    $(Object::$kind(object) => self.$field.insert(name, object).map(Object::$kind),)*
                }
            }

            /// Takes an object out.
            pub fn remove(&mut self, kind: Kind, name: &ObjectName) -> Option<Object> {
                match kind {
                    $(Kind::$kind => self.$field.remove(name).map(Object::$kind),)*
                }
            }

            /// How many objects there are of a kind.
            pub fn count(&self, kind: Kind) -> usize {
                match kind {
                    $(Kind::$kind => self.$field.len(),)*
                }
            }

            /// The names of a kind's objects, in order.
            pub fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = &ObjectName> + '_> {
                match kind {
                    $(Kind::$kind => Box::new(self.$field.keys()),)*
                }
            }

            /// The names of a kind's objects in a namespace, in order.
            pub fn names_in(&self, kind: Kind, namespace: &str) -> Vec<ObjectName> {
                match kind {
                    $(Kind::$kind => in_namespace(&self.$field, namespace).map(|(name, _)| name.clone()).collect(),)*
                }
            }

            /// The names of a kind's objects that are others, new or gone in `now`.
            pub fn changed(&self, kind: Kind, now: &Self) -> Vec<ObjectName> {
                match kind {
                    $(Kind::$kind => self.$field.changed(&now.$field),)*
                }
            }

            /// Whether both are copies of one moment.
            pub fn is_same(&self, other: &Self) -> bool {
                $(self.$field.is_same(&other.$field))&&*
            }
        }

        impl Object {
            /// The kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Namespace and name.
            pub fn name(&self) -> ObjectName {
                match self {
                    $(Self::$kind(object) => KindSpec::name(&**object),)*
                }
            }

            /// The value of a label, or of one that is read at least.
            pub fn label(&self, key: &str) -> Option<&str> {
                match self {
                    $(Self::$kind(object) => KindSpec::label(&**object, key),)*
                }
            }

            /// Whether both are the very same object, by pointer.
            pub fn is_same(&self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$kind(a), Self::$kind(b)) => Arc::ptr_eq(a, b),)*
                    _ => false,
                }
            }

            /// By what others find it, beside its name.
            pub fn keys(&self, name: &ObjectName) -> Vec<Key> {
                match self {
                    $(Self::$kind(object) => KindSpec::keys(&**object, name),)*
                }
            }

            /// About how many bytes it takes: the structure itself, and what it alone holds.
            pub fn bytes(&self) -> usize {
                match self {
                    $(Self::$kind(object) => size_of_val(&**object) + object.heap(),)*
                }
            }
        }

        $(impl Held for $kind {
            const KIND: Kind = Kind::$kind;

            fn map(objects: &Objects) -> &PersistentMap<ObjectName, Arc<Self>> {
                &objects.$field
            }
        })*

        /// Reads a document of files, if the mesh reads its kind.
        pub(crate) fn typed(
            api_version: &str,
            kind: &str,
            value: &serde_yaml_ng::Value,
            source: Option<&str>,
        ) -> Option<Result<Object, Problem>> {
            $(if kind == stringify!($kind) && api_version == Kind::$kind.descriptor().api_version() {
                let wire = crate::yaml::read::<<$kind as KindSpec>::Wire>(value, source);
                let object = wire.and_then(|wire| made(<$kind as KindSpec>::with_defaults(wire)));
                return Some(object.map(Object::$kind));
            })*
            None
        }
    };
}

kinds! {
    /// Namespaces, by [`ObjectName::cluster`]. Those that every cluster has (`default`, `kube-system`) are always there.
    namespaces: Namespace { "", "v1", "namespaces", false, Required, true }
    /// Nodes, by [`ObjectName::cluster`].
    nodes: Node { "", "v1", "nodes", false, Required, false }
    /// The ranges that services get their addresses from, by [`ObjectName::cluster`].
    service_cidrs: ServiceCIDR { "networking.k8s.io", "v1", "servicecidrs", false, Optional, false }
    /// Service accounts. Every namespace has one named `default`.
    service_accounts: ServiceAccount { "", "v1", "serviceaccounts", true, Required, true }
    /// Services.
    services: Service { "", "v1", "services", true, Required, false }
    /// Endpoint slices as written; none are made for services with selectors.
    endpoint_slices: EndpointSlice { "discovery.k8s.io", "v1", "endpointslices", true, Required, false }
    /// Pods in every phase, those that have ended included.
    pods: Pod { "", "v1", "pods", true, Required, false }
    /// Authorization policies of Istio, as written.
    authorization_policies: AuthorizationPolicy {
        "security.istio.io", "v1", "authorizationpolicies", true, Optional, false
    }
    /// Peer authentications of Istio, as written.
    peer_authentications: PeerAuthentication {
        "security.istio.io", "v1", "peerauthentications", true, Optional, false
    }
    /// Configuration maps.
    config_maps: ConfigMap { "", "v1", "configmaps", true, Files, false }
}

/// A kind by its type.
pub trait Held: KindSpec {
    /// The kind.
    const KIND: Kind;

    /// Where its objects are.
    fn map(objects: &Objects) -> &PersistentMap<ObjectName, Arc<Self>>;
}

impl Kind {
    /// What there is to know about it.
    pub fn descriptor(self) -> &'static Descriptor {
        &DESCRIPTORS[self as usize]
    }

    /// Its name, as in YAML.
    pub fn name(self) -> &'static str {
        self.descriptor().name
    }

    /// Those that are followed in a cluster.
    pub fn followed() -> impl Iterator<Item = Self> {
        let followed = |kind: &Self| kind.descriptor().presence != Presence::Files;
        Self::ALL.iter().copied().filter(followed)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The part of a kind's objects that lies in one namespace.
pub fn in_namespace<'a, T>(
    objects: &'a PersistentMap<ObjectName, Arc<T>>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a ObjectName, &'a Arc<T>)> {
    objects
        .range_from(&ObjectName::new(namespace, ""))
        .take_while(move |(name, _)| *name.namespace == *namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_finds_its_own_descriptor() {
        for kind in Kind::ALL {
            assert_eq!(kind.descriptor().kind, *kind);
        }
        assert_eq!(Kind::ServiceCIDR.descriptor().api_version(), "networking.k8s.io/v1");
    }

    #[test]
    fn an_object_that_is_not_of_its_type_says_where() {
        let pod = serde_json::json!({"metadata": {"name": "a", "creationTimestamp": "9999-12-31T23:59:59Z"}});
        let problem = Kind::Pod.descriptor().read(pod).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("metadata.creationTimestamp"));
    }
}
