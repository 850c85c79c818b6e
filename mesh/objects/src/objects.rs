//! How objects are found among others.

use std::sync::Arc;

use crate::kinds::{Kind, Namespace, Object, Objects, Pod};
use crate::name::ObjectName;

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
        Kind::ALL.iter().map(|kind| self.count(*kind)).sum()
    }

    /// Whether there is no object at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Object {
    /// Whether objects of this kind live in a namespace.
    pub fn is_namespaced(&self) -> bool {
        self.kind().descriptor().namespaced
    }

    /// `Kind namespace/name`, as findings call it.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }
}
