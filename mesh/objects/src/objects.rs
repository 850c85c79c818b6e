//! What objects are called, and how they are found among others.

use std::fmt;
use std::sync::Arc;

use crate::kinds::{Kind, Namespace, Object, Objects, Pod};

/// Namespace and name of an object. The namespace is empty for objects that have none (Namespace, Node). Copies share the
/// texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Namespace, or empty.
    pub namespace: Arc<str>,
    /// Name within the namespace.
    pub name: Arc<str>,
}

impl ObjectName {
    /// The object `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// An object that lives in no namespace.
    pub fn cluster(name: impl Into<Arc<str>>) -> Self {
        Self::new("", name)
    }

    /// The namespace as an object, which a namespaced object is in.
    #[must_use]
    pub fn home(&self) -> Self {
        Self::cluster(Arc::clone(&self.namespace))
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
    /// Namespace and name.
    pub fn name(&self) -> ObjectName {
        let metadata = self.metadata();
        let namespace = metadata.namespace.as_deref().filter(|_| self.is_namespaced());
        ObjectName::new(
            namespace.unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        )
    }

    /// Whether objects of this kind live in a namespace.
    pub fn is_namespaced(&self) -> bool {
        self.kind().descriptor().namespaced
    }

    /// `Kind namespace/name`, as findings call it.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }
}
