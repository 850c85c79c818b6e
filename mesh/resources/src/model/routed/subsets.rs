//! Which subsets of a DestinationRule have endpoints.

use culvert_objects::{DestinationRule, ObjectName};

use super::super::reader::Reader;
use super::super::wire;
use super::{hosts, labelled};
use crate::routing::read::istio::destination_rule;
use crate::routing::read::notes::Notes;

/// The subsets whose labels no endpoint has, of a host that has endpoints.
pub(in crate::model) fn without_endpoints(
    reader: &Reader<'_>,
    name: &ObjectName,
    rule: &DestinationRule,
) -> Vec<String> {
    let Some(policy) = destination_rule::read(&rule.spec, &mut Notes::default()) else {
        return Vec::new();
    };
    let hosts = rule.hosts();
    let services = hosts.flat_map(|host| hosts::services_of(reader, name, host));
    let names = services.map(|service| wire::host_name(&service.namespace, &service.hostname));
    let endpoints: Vec<_> = names.flat_map(|service| reader.workloads_of(&service)).collect();
    if endpoints.is_empty() {
        return Vec::new();
    }
    let empty = policy.subsets().filter(|(_, labels)| {
        let mut there = endpoints.iter();
        !there.any(|workload| labelled::has(reader, workload, labels))
    });
    empty.map(|(subset, _)| subset.to_owned()).collect()
}
