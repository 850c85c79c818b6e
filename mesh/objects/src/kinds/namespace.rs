//! Namespace: its labels say whether its pods are in the mesh.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::prune;
use super::spec::KindSpec;
use crate::defaults;

impl KindSpec for Namespace {
    fn with_defaults(self) -> Self {
        defaults::namespace(self)
    }

    fn prune(mut self) -> Self {
        self.metadata = ObjectMeta {
            labels: self.metadata.labels.take(),
            annotations: prune::annotations(self.metadata.annotations.take()),
            namespace: None,
            creation_timestamp: None,
            ..prune::identity(&mut self.metadata)
        };
        Self {
            metadata: self.metadata,
            ..Self::default()
        }
    }
}
