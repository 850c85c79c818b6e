//! Namespace: its labels say whether its pods are in the mesh.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::key::Key;
use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::name::ObjectName;
use crate::outbound::{OUTBOUND_ANNOTATION, OutboundPolicy};

impl KindSpec for Namespace {
    type Wire = Self;

    fn with_defaults(wire: Self) -> Self {
        defaults::namespace(wire)
    }

    fn keep(mut wire: Self) -> Self {
        let metadata = ObjectMeta {
            labels: wire.metadata.labels.take(),
            annotations: prune::annotations(wire.metadata.annotations.take()),
            namespace: None,
            creation_timestamp: None,
            ..prune::identity(&mut wire.metadata)
        };
        Self {
            metadata,
            ..Self::default()
        }
    }

    fn name(&self) -> ObjectName {
        prune::cluster(&self.metadata)
    }

    fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    fn label(&self, key: &str) -> Option<&str> {
        prune::label(&self.metadata, key)
    }

    fn keys(&self, _name: &ObjectName) -> Vec<Key> {
        let annotations = self.metadata.annotations.as_ref();
        let outbound = annotations.and_then(|all| all.get(OUTBOUND_ANNOTATION));
        let key = OutboundPolicy::is_registry_only(outbound.map(String::as_str)).then(Key::registry_only);
        key.into_iter().collect()
    }

    fn heap(&self) -> usize {
        prune::metadata_bytes(&self.metadata)
    }
}
