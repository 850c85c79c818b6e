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

    /// The objects of a namespace that would restrict somebody and are of a kind that is not served. What each binds says
    /// [`Object::binding`]; those of the root namespace bind in all namespaces.
    pub fn restricting(&self, namespace: &str) -> Vec<Object> {
        let may = |kind: &Kind| kind.descriptor().unserved.is_some_and(|known| !known.never_restricts());
        let kinds = Kind::ALL.iter().copied().filter(may);
        let objects = kinds.flat_map(|kind| {
            let names = self.names_in(kind, namespace).into_iter();
            names.filter_map(move |name| self.get(kind, &name))
        });
        objects.filter(|object| object.binding().is_some()).collect()
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
