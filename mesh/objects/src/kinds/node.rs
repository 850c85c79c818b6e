//! Node: where it is, which system it runs, and the ranges that its pods get their addresses from.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node as Wire, NodeSpec};

use super::spec::KindSpec;
use crate::labels::Labels;
use crate::name::ObjectName;
use crate::problem::Problem;

/// Labels that are read.
const LABELS: [&str; 4] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "kubernetes.io/os",
];

/// A node: what is read of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its name; nodes live in no namespace.
    pub name: ObjectName,
    /// Tells it from others of the same name, before and after.
    pub uid: Box<str>,
    /// Those labels that say where it is and which system it runs.
    pub labels: Labels,
    /// Where its pods get their addresses from.
    pub pod_cidrs: Box<[IpNet]>,
}

impl KindSpec for Node {
    type Wire = Wire;

    fn check(wire: &Wire) -> Result<(), Problem> {
        for (field, text) in wire.spec.iter().flat_map(cidrs) {
            range(&field, text)?;
        }
        Ok(())
    }

    fn keep(wire: Wire) -> Self {
        let mut pod_cidrs: Vec<IpNet> = wire
            .spec
            .iter()
            .flat_map(cidrs)
            .filter_map(|(_, text)| text.parse().ok())
            .collect();
        pod_cidrs.sort_unstable();
        pod_cidrs.dedup();
        Self {
            name: ObjectName::cluster(wire.metadata.name.unwrap_or_default()),
            uid: wire.metadata.uid.unwrap_or_default().into(),
            labels: Labels::only(wire.metadata.labels.as_ref(), |key| LABELS.contains(&key)),
            pod_cidrs: pod_cidrs.into(),
        }
    }

    fn name(&self) -> ObjectName {
        self.name.clone()
    }

    fn uid(&self) -> Option<&str> {
        Some(&self.uid)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    fn heap(&self) -> usize {
        self.name.name.len() + self.uid.len() + size_of_val(&*self.pod_cidrs)
    }
}

/// The ranges of its pods, each with the field that says so.
fn cidrs(spec: &NodeSpec) -> impl Iterator<Item = (String, &String)> {
    let one = spec.pod_cidr.iter().map(|text| ("spec.podCIDR".to_owned(), text));
    let all = spec.pod_cidrs.iter().flatten().enumerate();
    one.chain(all.map(|(index, text)| (format!("spec.podCIDRs[{index}]"), text)))
}

/// A range of addresses.
pub(super) fn range(field: &str, text: &str) -> Result<IpNet, Problem> {
    let wrong = |_| Problem::of_field(field, format!("{text:?} is not a range of addresses"));
    text.parse().map_err(wrong)
}
