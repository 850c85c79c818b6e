//! Workloads that are no pods: endpoints that ServiceEntries list, and WorkloadEntries.

use std::collections::BTreeMap;

use culvert_objects::{EntryEndpoint, EntryHost, EntryLocality, Labels, ObjectName};
use culvert_proto::workload::{Locality, PortList, TunnelProtocol, Workload, WorkloadType};

use super::reader::Reader;
use super::{names, policy, restriction, tunnel, waypoint, wire};

/// What a Workload is made of that is no pod's.
pub(super) struct Outside<'a> {
    /// The object that tells of it.
    pub(super) object: &'a ObjectName,
    /// The name of its resource.
    pub(super) uid: String,
    /// The labels by which policies and telemetry go.
    pub(super) labels: &'a Labels,
    pub(super) annotations: &'a Labels,
    pub(super) endpoint: &'a EntryEndpoint,
    /// The services that it is an endpoint of.
    pub(super) services: BTreeMap<String, PortList>,
}

/// The Workload.
pub(super) fn workload(reader: &Reader<'_>, of: Outside<'_>) -> Workload {
    let settings = reader.settings();
    let (namespace, endpoint) = (&of.object.namespace, of.endpoint);
    let workload_name = names::given(of.labels).unwrap_or(&of.object.name).to_owned();
    let is_tunnelled = **namespace != *settings.system_namespace && tunnel::is_there(of.labels, of.annotations);
    let mut policies = policy::of_workload(reader, namespace, of.labels);
    policies.extend(restriction::of_workload(reader, namespace, of.labels, &of.services));
    let (addresses, hostname) = match &endpoint.host {
        EntryHost::Address(address) => (vec![wire::octets(*address)], String::new()),
        EntryHost::Name(name) => (Vec::new(), name.to_string()),
    };
    let protocol = match is_tunnelled {
        true => TunnelProtocol::Hbone,
        false => TunnelProtocol::None,
    };
    Workload {
        uid: of.uid,
        name: of.object.name.to_string(),
        namespace: namespace.to_string(),
        addresses,
        hostname,
        network: endpoint.network.to_string(),
        tunnel_protocol: protocol.into(),
        trust_domain: wire::trust_domain(settings),
        service_account: endpoint.service_account.to_string(),
        canonical_name: names::canonical_name(of.labels, &workload_name),
        canonical_revision: names::canonical_revision(of.labels),
        workload_type: WorkloadType::Pod.into(),
        workload_name,
        native_tunnel: is_tunnelled && tunnel::is_native(of.labels),
        services: of.services.into_iter().collect(),
        authorization_policies: policies,
        waypoint: waypoint::of_workload(reader, of.object, of.labels).map(|found| waypoint::address(reader, &found)),
        cluster_id: settings.cluster_id.clone(),
        locality: locality(&endpoint.locality),
        capacity: endpoint.weight,
        ..Workload::default()
    }
}

fn locality(said: &EntryLocality) -> Option<Locality> {
    let locality = Locality {
        region: said.region.to_string(),
        zone: said.zone.to_string(),
        subzone: said.subzone.to_string(),
    };
    (locality != Locality::default()).then_some(locality)
}
