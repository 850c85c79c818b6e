//! ServiceCIDR: a range that services get their addresses from. Clusters before 1.33 have none.

use k8s_openapi::api::networking::v1::ServiceCIDR;

use super::node;
use super::prune;
use super::spec::KindSpec;
use crate::name::ObjectName;
use crate::problem::Problem;

impl KindSpec for ServiceCIDR {
    type Wire = Self;

    fn check(wire: &Self) -> Result<(), Problem> {
        let cidrs = wire
            .spec
            .iter()
            .flat_map(|spec| spec.cidrs.iter().flatten())
            .enumerate();
        for (index, text) in cidrs {
            node::range(&format!("spec.cidrs[{index}]"), text)?;
        }
        Ok(())
    }

    fn keep(mut wire: Self) -> Self {
        Self {
            metadata: prune::name(&mut wire.metadata),
            spec: wire.spec,
            status: None,
        }
    }

    fn name(&self) -> ObjectName {
        prune::cluster(&self.metadata)
    }

    fn label(&self, key: &str) -> Option<&str> {
        prune::label(&self.metadata, key)
    }

    fn heap(&self) -> usize {
        prune::metadata_bytes(&self.metadata)
    }
}
