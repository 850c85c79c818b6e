//! ConfigMap: read from files, by programs of the tests.

use k8s_openapi::api::core::v1::ConfigMap;

use super::spec::KindSpec;
use crate::defaults;

impl KindSpec for ConfigMap {
    fn with_defaults(self) -> Self {
        defaults::config_map(self)
    }

    fn prune(self) -> Self {
        self
    }
}
