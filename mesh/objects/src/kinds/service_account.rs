//! ServiceAccount: that it exists, since identities are named after it.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::prune;
use super::spec::KindSpec;
use crate::defaults;

impl KindSpec for ServiceAccount {
    fn with_defaults(self) -> Self {
        defaults::service_account(self)
    }

    fn prune(mut self) -> Self {
        Self {
            metadata: prune::name(&mut self.metadata),
            ..Self::default()
        }
    }
}
