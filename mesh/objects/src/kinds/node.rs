//! Node: where it is, which system it runs, and the ranges that its pods get their addresses from.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, NodeSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::prune;
use super::spec::KindSpec;
use crate::problem::Problem;

/// Labels that are read.
const LABELS: [&str; 4] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "kubernetes.io/os",
];

impl KindSpec for Node {
    fn prune(mut self) -> Self {
        let labels = prune::only(self.metadata.labels.take(), &LABELS);
        let uid = self.metadata.uid.take();
        let spec = self.spec.map(|spec| NodeSpec {
            pod_cidr: spec.pod_cidr,
            pod_cidrs: spec.pod_cidrs,
            ..NodeSpec::default()
        });
        Self {
            metadata: ObjectMeta {
                labels,
                uid,
                ..prune::name(&mut self.metadata)
            },
            spec: spec.filter(|spec| *spec != NodeSpec::default()),
            status: None,
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let Some(spec) = &self.spec else { return Ok(()) };
        let one = spec.pod_cidr.iter().map(|text| ("spec.podCIDR".to_owned(), text));
        let all = spec.pod_cidrs.iter().flatten().enumerate();
        let all = all.map(|(index, text)| (format!("spec.podCIDRs[{index}]"), text));
        for (field, text) in one.chain(all) {
            range(&field, text)?;
        }
        Ok(())
    }
}

/// A range of addresses.
pub(super) fn range(field: &str, text: &str) -> Result<IpNet, Problem> {
    let wrong = |_| Problem::of_field(field, format!("{text:?} is not a range of addresses"));
    text.parse().map_err(wrong)
}
