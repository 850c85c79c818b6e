//! ServiceCIDR: a range that services get their addresses from. Clusters before 1.33 have none.

use k8s_openapi::api::networking::v1::ServiceCIDR;

use super::node;
use super::prune;
use super::spec::KindSpec;
use crate::problem::Problem;

impl KindSpec for ServiceCIDR {
    fn prune(mut self) -> Self {
        Self {
            metadata: prune::name(&mut self.metadata),
            spec: self.spec,
            status: None,
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let cidrs = self
            .spec
            .iter()
            .flat_map(|spec| spec.cidrs.iter().flatten())
            .enumerate();
        for (index, text) in cidrs {
            node::range(&format!("spec.cidrs[{index}]"), text)?;
        }
        Ok(())
    }
}
