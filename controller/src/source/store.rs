//! What is held of the cluster, kind by kind, and how a change to it is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use culvert_objects::{
    EndpointSlice, Finding, Namespace, Node, Object, ObjectName, Objects, Pod, Service, ServiceAccount, check,
};
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::strip::Strip;

/// The kinds that are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Namespaces, their metadata.
    Namespace,
    /// Nodes, their metadata.
    Node,
    /// Service accounts, their metadata.
    ServiceAccount,
    /// Services.
    Service,
    /// Endpoint slices.
    EndpointSlice,
    /// Pods.
    Pod,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Namespace,
        Self::Node,
        Self::ServiceAccount,
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
    ];

    /// Its name, as in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
        }
    }

    fn of(object: &Object) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == object.kind())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An object of a kind that is followed.
pub(crate) trait Kept: Strip + Metadata<Ty = ObjectMeta> + Send + Sync + 'static {
    /// The object, as one of several kinds.
    fn into_object(self) -> Object;
}

macro_rules! kept {
    ($($kind:ident),*) => {
        $(impl Kept for $kind {
            fn into_object(self) -> Object {
                Object::$kind(Arc::new(self))
            }
        })*
    };
}

kept!(Namespace, Node, ServiceAccount, Service, EndpointSlice, Pod);

/// What a follower heard.
#[derive(Debug)]
pub(crate) enum Change {
    /// A list of all objects of the kind begins.
    Begin(Kind),
    /// An object of the list.
    Listed(Object),
    /// The list is complete: what was not in it is gone.
    Complete(Kind),
    /// An object is new or different.
    Applied(Object),
    /// An object is gone.
    Deleted(Object),
}

/// The objects that are held, stripped and checked.
#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: Objects,
    /// Those of which the list that is under way has not told yet.
    unheard: BTreeMap<Kind, BTreeSet<ObjectName>>,
    /// Objects that were refused by themselves.
    refused: BTreeMap<(Kind, ObjectName), Finding>,
    complete: BTreeSet<Kind>,
}

impl Store {
    /// Takes a change in. True if anything is different from before.
    pub(crate) fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Begin(kind) => {
                let names = self.names(kind);
                self.unheard.insert(kind, names);
                false
            }
            Change::Listed(object) => {
                if let Some(kind) = Kind::of(&object) {
                    self.unheard.entry(kind).or_default().remove(&object.name());
                }
                self.apply(object)
            }
            Change::Complete(kind) => {
                let gone = self.unheard.remove(&kind).unwrap_or_default();
                let first = self.complete.insert(kind);
                gone.iter()
                    .fold(first, |changed, name| self.remove(kind, name) || changed)
            }
            Change::Applied(object) => self.apply(object),
            Change::Deleted(object) => Kind::of(&object).is_some_and(|kind| self.remove(kind, &object.name())),
        }
    }

    /// Whether every kind was listed once.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.len() == Kind::ALL.len()
    }

    /// All objects that can be in force, and what is wrong with those that cannot.
    pub(crate) fn assemble(&self) -> (Objects, Vec<Finding>) {
        let mut objects = self.objects.clone();
        let services = &self.objects.services;
        // What Kubernetes makes of a selector tells nothing that the pods do not, and changes with every one of them.
        objects.endpoint_slices.retain(|name, slice| {
            let service = crate::model::slice::service_name(slice);
            let service = service.and_then(|s| services.get(&ObjectName::new(name.namespace.as_str(), s.as_str())));
            service.is_some_and(|service| crate::model::service::has_no_selector(service))
        });
        let mut findings = culvert_objects::assemble(&mut objects);
        findings.extend(self.refused.values().cloned());
        findings.sort();
        (objects, findings)
    }

    /// How many objects of a kind are held.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Namespace => self.objects.namespaces.len(),
            Kind::Node => self.objects.nodes.len(),
            Kind::ServiceAccount => self.objects.service_accounts.len(),
            Kind::Service => self.objects.services.len(),
            Kind::EndpointSlice => self.objects.endpoint_slices.len(),
            Kind::Pod => self.objects.pods.len(),
        }
    }

    /// About how many bytes they take: the structures themselves, and the text in labels, addresses and names.
    pub(crate) fn bytes(&self, kind: Kind) -> usize {
        super::size::of(&self.objects, kind)
    }

    fn apply(&mut self, object: Object) -> bool {
        let Some(kind) = Kind::of(&object) else { return false };
        let name = object.name();
        if let Err(finding) = check(&object) {
            let gone = self.remove(kind, &name);
            let before = self.refused.insert((kind, name), finding.clone());
            return gone || before.as_ref() != Some(&finding);
        }
        let mended = self.refused.remove(&(kind, name.clone())).is_some();
        put(&mut self.objects, name, object) || mended
    }

    fn remove(&mut self, kind: Kind, name: &ObjectName) -> bool {
        let refused = self.refused.remove(&(kind, name.clone())).is_some();
        let objects = &mut self.objects;
        let held = match kind {
            Kind::Namespace => objects.namespaces.remove(name).is_some(),
            Kind::Node => objects.nodes.remove(name).is_some(),
            Kind::ServiceAccount => objects.service_accounts.remove(name).is_some(),
            Kind::Service => objects.services.remove(name).is_some(),
            Kind::EndpointSlice => objects.endpoint_slices.remove(name).is_some(),
            Kind::Pod => objects.pods.remove(name).is_some(),
        };
        held || refused
    }

    fn names(&self, kind: Kind) -> BTreeSet<ObjectName> {
        let objects = &self.objects;
        let mut names: BTreeSet<ObjectName> = match kind {
            Kind::Namespace => objects.namespaces.keys().cloned().collect(),
            Kind::Node => objects.nodes.keys().cloned().collect(),
            Kind::ServiceAccount => objects.service_accounts.keys().cloned().collect(),
            Kind::Service => objects.services.keys().cloned().collect(),
            Kind::EndpointSlice => objects.endpoint_slices.keys().cloned().collect(),
            Kind::Pod => objects.pods.keys().cloned().collect(),
        };
        let refused = self.refused.keys().filter(|(k, _)| *k == kind);
        names.extend(refused.map(|(_, name)| name.clone()));
        names
    }
}

/// Puts an object in place of its predecessor, unless they are equal: then the predecessor stays, and its pointer.
fn put(objects: &mut Objects, name: ObjectName, object: Object) -> bool {
    fn replace<T: PartialEq>(all: &mut BTreeMap<ObjectName, Arc<T>>, name: ObjectName, object: Arc<T>) -> bool {
        if all.get(&name).is_some_and(|held| **held == *object) {
            return false;
        }
        all.insert(name, object);
        true
    }
    match object {
        Object::Namespace(o) => replace(&mut objects.namespaces, name, o),
        Object::Node(o) => replace(&mut objects.nodes, name, o),
        Object::ServiceAccount(o) => replace(&mut objects.service_accounts, name, o),
        Object::Service(o) => replace(&mut objects.services, name, o),
        Object::EndpointSlice(o) => replace(&mut objects.endpoint_slices, name, o),
        Object::Pod(o) => replace(&mut objects.pods, name, o),
        Object::ConfigMap(_) => false,
    }
}
