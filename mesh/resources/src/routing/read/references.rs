//! Objects that are referred to.

use serde::Deserialize;

use super::super::model::Parent;
use super::notes::BackendRef;
use super::values::list;

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// One of `parentRefs`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ParentSpec {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    section_name: Option<String>,
    port: Option<u16>,
}

impl ParentSpec {
    pub(super) fn parent(self) -> Parent {
        Parent {
            group: self.group.unwrap_or_else(|| GATEWAY_API.to_owned()),
            kind: self.kind.unwrap_or_else(|| "Gateway".to_owned()),
            namespace: self.namespace,
            name: self.name,
            section: self.section_name,
            port: self.port,
        }
    }
}

/// A backend that is referred to, with what else `backendRefs` have.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BackendSpec {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    port: Option<u16>,
    weight: Option<u32>,
    #[serde(default, deserialize_with = "list")]
    pub(super) filters: Vec<serde_json::Value>,
}

impl BackendSpec {
    pub(super) fn reference(&self) -> BackendRef<'_> {
        BackendRef {
            group: self.group.as_deref().unwrap_or_default(),
            kind: self.kind.as_deref().unwrap_or("Service"),
            namespace: self.namespace.as_deref(),
            name: &self.name,
            port: self.port,
        }
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight.unwrap_or(1)
    }
}
