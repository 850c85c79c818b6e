//! Which endpoints of a Service come first, and from which places a waypoint looks at them.

use std::collections::BTreeMap;

use culvert_objects::ObjectName;
use culvert_proto::workload::load_balancing::{Mode, Scope};
use culvert_proto::workload::{Service, Workload};

use super::super::reader::Reader;
use super::super::wire;
use super::labelled;
use crate::routing::locality::{Label, Place, Preference};
use crate::routing::traffic::Traffic;
use crate::snapshot::place_of_pod;

/// Which endpoints of a Service come first: what a DestinationRule says, else the Service, else near ones where those that fail are left
/// out, which is how Istio's mesh is configured by default.
pub(super) fn near(service: &Service, traffic: &Traffic) -> Preference {
    let of_service = || {
        let balancing = service.load_balancing.as_ref();
        let balancing = balancing.filter(|found| found.mode() == Mode::Failover)?;
        let label = |scope| match scope {
            Scope::Region => Some(Label::Region(None)),
            Scope::Zone => Some(Label::Zone(None)),
            Scope::Subzone => Some(Label::Subzone(None)),
            Scope::Node => Some(Label::Node(None)),
            // All of it is in one.
            Scope::Network | Scope::Cluster | Scope::UnspecifiedScope => None,
        };
        Some(Preference::Ranked(
            balancing.routing_preference().filter_map(label).collect(),
        ))
    };
    let by_default = || match traffic.outlier {
        Some(_) => Preference::Regions(Vec::new()),
        None => Preference::None,
    };
    traffic.near.clone().or_else(of_service).unwrap_or_else(by_default)
}

/// Where the pods of a waypoint are, as far as a preference tells places apart: by what it calls each of them.
pub(super) fn places(reader: &Reader<'_>, scope: &str, preference: &Preference) -> BTreeMap<String, Place> {
    let Some((namespace, name)) = scope.split_once('/').filter(|_| *preference != Preference::None) else {
        return BTreeMap::new();
    };
    let service = wire::service_name(reader.settings(), &ObjectName::new(namespace, name));
    let pods = reader.workloads_of(&service).into_iter();
    let place = |pod: Workload| {
        let asked = preference.pod_labels();
        let labels = labelled::named(reader, &pod, &asked);
        let locality = pod.locality.unwrap_or_default();
        let locality = [locality.region, locality.zone, locality.subzone];
        if !asked.is_empty() {
            let key = place_of_pod(&pod.name);
            let node = pod.node;
            return Some((key, Place { locality, node, labels }));
        }
        match preference.is_by_node() {
            true => (!pod.node.is_empty()).then(|| {
                let key = pod.node.clone();
                let node = pod.node;
                (key, Place { locality, node, labels })
            }),
            false => (!locality[0].is_empty()).then(|| {
                let node = String::new();
                (locality.join("/"), Place { locality, node, labels })
            }),
        }
    };
    pods.filter_map(place).collect()
}
