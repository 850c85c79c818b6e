//! The immutable snapshot of all objects.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Namespace and name of an object. The namespace is empty for objects that have none (Namespace, Node).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Namespace, or empty.
    pub namespace: String,
    /// Name within the namespace.
    pub name: String,
}

impl ObjectName {
    /// The object `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// An object that lives in no namespace.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self::new("", name)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All objects at one moment. An object that did not change keeps its `Arc` from one snapshot to the next, so that
/// comparing pointers tells what changed.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Namespaces, by [`ObjectName::cluster`]. Those that every cluster has (`default`, `kube-system`) are always there.
    pub namespaces: BTreeMap<ObjectName, Arc<Namespace>>,
    /// Pods in every phase, those that have ended included.
    pub pods: BTreeMap<ObjectName, Arc<Pod>>,
    /// Services.
    pub services: BTreeMap<ObjectName, Arc<Service>>,
    /// Service accounts. Every namespace has one named `default`.
    pub service_accounts: BTreeMap<ObjectName, Arc<ServiceAccount>>,
    /// Endpoint slices as written; none are made for services with selectors.
    pub endpoint_slices: BTreeMap<ObjectName, Arc<EndpointSlice>>,
    /// Nodes, by [`ObjectName::cluster`].
    pub nodes: BTreeMap<ObjectName, Arc<Node>>,
    /// Configuration maps.
    pub config_maps: BTreeMap<ObjectName, Arc<ConfigMap>>,
}

impl Objects {
    /// The namespace named `name`.
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(&ObjectName::cluster(name))
    }

    /// The pod `name` in `namespace`.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(&ObjectName::new(namespace, name))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.namespaces.len()
            + self.pods.len()
            + self.services.len()
            + self.service_accounts.len()
            + self.endpoint_slices.len()
            + self.nodes.len()
            + self.config_maps.len()
    }

    /// Whether there is no object at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both hold the very same objects, by pointer.
    pub fn same(&self, other: &Self) -> bool {
        fn map<K: Ord, T>(a: &BTreeMap<K, Arc<T>>, b: &BTreeMap<K, Arc<T>>) -> bool {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((ka, va), (kb, vb))| ka == kb && Arc::ptr_eq(va, vb))
        }
        map(&self.namespaces, &other.namespaces)
            && map(&self.pods, &other.pods)
            && map(&self.services, &other.services)
            && map(&self.service_accounts, &other.service_accounts)
            && map(&self.endpoint_slices, &other.endpoint_slices)
            && map(&self.nodes, &other.nodes)
            && map(&self.config_maps, &other.config_maps)
    }

    pub(crate) fn insert(&mut self, name: ObjectName, object: Object) {
        match object {
            Object::Namespace(o) => drop(self.namespaces.insert(name, o)),
            Object::Pod(o) => drop(self.pods.insert(name, o)),
            Object::Service(o) => drop(self.services.insert(name, o)),
            Object::ServiceAccount(o) => drop(self.service_accounts.insert(name, o)),
            Object::EndpointSlice(o) => drop(self.endpoint_slices.insert(name, o)),
            Object::Node(o) => drop(self.nodes.insert(name, o)),
            Object::ConfigMap(o) => drop(self.config_maps.insert(name, o)),
        }
    }
}

/// One object of a kind that the mesh reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `v1 Namespace`
    Namespace(Arc<Namespace>),
    /// `v1 Pod`
    Pod(Arc<Pod>),
    /// `v1 Service`
    Service(Arc<Service>),
    /// `v1 ServiceAccount`
    ServiceAccount(Arc<ServiceAccount>),
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice(Arc<EndpointSlice>),
    /// `v1 Node`
    Node(Arc<Node>),
    /// `v1 ConfigMap`
    ConfigMap(Arc<ConfigMap>),
}

impl Object {
    /// The kind, as in YAML.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Namespace(_) => "Namespace",
            Self::Pod(_) => "Pod",
            Self::Service(_) => "Service",
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::EndpointSlice(_) => "EndpointSlice",
            Self::Node(_) => "Node",
            Self::ConfigMap(_) => "ConfigMap",
        }
    }

    /// The metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(o) => &o.metadata,
            Self::Pod(o) => &o.metadata,
            Self::Service(o) => &o.metadata,
            Self::ServiceAccount(o) => &o.metadata,
            Self::EndpointSlice(o) => &o.metadata,
            Self::Node(o) => &o.metadata,
            Self::ConfigMap(o) => &o.metadata,
        }
    }

    /// Namespace and name.
    pub fn name(&self) -> ObjectName {
        let metadata = self.metadata();
        let namespace = if self.is_namespaced() {
            metadata.namespace.clone().unwrap_or_default()
        } else {
            String::new()
        };
        ObjectName {
            namespace,
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub fn is_namespaced(&self) -> bool {
        !matches!(self, Self::Namespace(_) | Self::Node(_))
    }

    /// `Kind namespace/name`, as findings call it.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }
}
