//! The ranges that addresses of the mesh come from, so that proxies send nothing in plaintext to an address that may be
//! a pod's or a service's before they know whose it is.

use culvert_objects::{Node, ServiceCIDR};
use culvert_proto::config::Range;
use ipnet::IpNet;

use super::reader::Reader;
use super::wire;

/// The ranges of nodes' pods and of services, as few as say the same.
pub(super) fn ranges(reader: &Reader<'_>) -> Vec<Range> {
    let range = |range: IpNet| Range {
        address: wire::octets(range.network()),
        length: range.prefix_len().into(),
    };
    nets(reader).into_iter().map(range).collect()
}

/// The same, in order.
pub(super) fn nets(reader: &Reader<'_>) -> Vec<IpNet> {
    let pods = reader
        .all::<Node>()
        .flat_map(|(_, node)| node.pod_cidrs.iter().copied());
    let services = reader.all::<ServiceCIDR>().filter_map(|(_, range)| range.spec.as_ref());
    let services = services.flat_map(|spec| spec.cidrs.iter().flatten());
    let all: Vec<IpNet> = pods
        .chain(services.filter_map(|text| text.parse().ok()))
        .chain(reader.settings().service_cidrs.iter().copied())
        .map(|range| range.trunc())
        .collect();
    let mut ranges = IpNet::aggregate(&all);
    ranges.sort_unstable();
    ranges
}
