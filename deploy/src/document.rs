//! One object of Kubernetes.

use std::fmt;

use serde_json::Value;

/// Names an object within a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// For example `apps/v1`.
    pub api_version: String,
    /// For example `DaemonSet`.
    pub kind: String,
    /// Absent for what belongs to the whole cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// An object, ready to be applied. Displays as a YAML document that begins with `---`.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    id: Id,
    pub(crate) value: Value,
}

impl Document {
    /// Takes an object that has at least a kind, a version and a name.
    ///
    /// # Errors
    /// What it lacks.
    pub fn new(value: Value) -> Result<Self, &'static str> {
        let text = |pointer| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let id = Id {
            api_version: text("/apiVersion").ok_or("no apiVersion")?,
            kind: text("/kind").ok_or("no kind")?,
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name").ok_or("no metadata.name")?,
        };
        Ok(Self { id, value })
    }

    /// Which object this is.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// As Kubernetes takes it.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The same, owned.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.value
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.id.kind == kind
    }

    /// The containers of a pod template; none where there is no template.
    pub(crate) fn containers_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.value
            .pointer_mut("/spec/template/spec/containers")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_yaml_ng::to_string(&self.value).map_err(|_| fmt::Error)?;
        write!(f, "---\n{text}")
    }
}
