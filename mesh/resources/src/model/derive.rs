//! What each unit is derived to.

use culvert_objects::{
    AuthorizationPolicy, EndpointSlice, Finding, Kind, PeerAuthentication, Pod, Service, ServiceEntry, WorkloadEntry,
};

use super::agents::Agents;
use super::reader::Reader;
use super::unit::{Derived, Unit};
use super::{
    mesh, mesh_config, pod, policy, resource, restriction, routed, service, service_entry, slice, waypoint,
    workload_entry,
};
use crate::snapshot::Resource;

/// What a unit is derived to.
pub(super) fn make(unit: &Unit, reader: &Reader<'_>, agents: &Agents) -> Derived {
    match unit {
        Unit::Pod(name) => {
            let Some(pod) = reader.own::<Pod>(name) else {
                return Derived::default();
            };
            let proxy = pod::proxy(reader, pod);
            match pod::workload(reader, agents, name, pod) {
                Some(made) => Derived {
                    resources: std::iter::once(resource::of_workload(&name.namespace, made.workload))
                        .chain(made.policies.iter().map(Resource::authorization))
                        .chain(proxy)
                        .collect(),
                    findings: made.findings,
                    ..Derived::default()
                },
                None => Derived {
                    resources: proxy.into_iter().collect(),
                    ..Derived::default()
                },
            }
        }
        Unit::Slice(name) => {
            let slice = reader.own::<EndpointSlice>(name);
            let workloads = slice
                .map(|slice| slice::workloads(reader, name, slice))
                .unwrap_or_default();
            Derived {
                resources: workloads
                    .into_iter()
                    .map(|workload| resource::of_workload(&name.namespace, workload))
                    .collect(),
                ..Derived::default()
            }
        }
        Unit::Service(name) => {
            let Some(object) = reader.own::<Service>(name) else {
                return Derived::default();
            };
            let Some(made) = service::service(reader, name, object) else {
                return Derived::default();
            };
            let faults = waypoint::faults(reader, name, &**object).into_iter();
            Derived {
                resources: vec![resource::of_service(&name.namespace, made)],
                findings: faults
                    .map(|(field, why)| Finding::of_object(Kind::Service, name, &field, why))
                    .collect(),
                ..Derived::default()
            }
        }
        Unit::ServiceEntry(name) => {
            let entry = reader.own::<ServiceEntry>(name);
            entry
                .map(|entry| service_entry::derive(reader, name, entry))
                .unwrap_or_default()
        }
        Unit::WorkloadEntry(name) => {
            let entry = reader.own::<WorkloadEntry>(name);
            match entry.map(|entry| workload_entry::workload(reader, name, entry)) {
                None => Derived::default(),
                Some(Err(finding)) => Derived {
                    findings: vec![*finding],
                    ..Derived::default()
                },
                Some(Ok(workload)) => Derived {
                    resources: workload
                        .into_iter()
                        .map(|workload| resource::of_workload(&name.namespace, workload))
                        .collect(),
                    ..Derived::default()
                },
            }
        }
        Unit::Policy(name) => {
            let policy = reader.own::<AuthorizationPolicy>(name);
            policy
                .map(|policy| policy::authorization(reader, name, policy))
                .unwrap_or_default()
        }
        Unit::PeerAuthentication(name) => {
            let peer = reader.own::<PeerAuthentication>(name);
            peer.map(|peer| policy::peer_authentication(reader, name, peer))
                .unwrap_or_default()
        }
        Unit::Restriction(kind, name) => {
            let object = reader.own_of(*kind, name);
            let policy = object.and_then(|object| restriction::policy(reader, name, &object));
            Derived {
                resources: policy.iter().map(Resource::authorization).collect(),
                ..Derived::default()
            }
        }
        Unit::Waypoint(name) => routed::waypoint::derive(reader, name),
        Unit::WaypointPolicy(kind, name) => routed::policies::derive(reader, *kind, name),
        Unit::Route(Kind::BackendTLSPolicy, name) => routed::tls_policy::derive(reader, name),
        Unit::Route(kind, name) => routed::findings::derive(reader, *kind, name),
        Unit::Routes(service) => routed::routes::derive(reader, service),
        Unit::Clusters(service) => routed::backend::clusters(reader, service),
        Unit::Endpoints(service) => routed::backend::endpoints(reader, service),
        Unit::MeshConfig(name) => mesh_config::findings(reader, name),
        Unit::Mesh => {
            let mesh = mesh::mesh(reader);
            let strict = policy::strict(reader);
            let resources = mesh.iter().map(Resource::mesh);
            Derived {
                resources: resources.chain(strict.iter().map(Resource::authorization)).collect(),
                ..Derived::default()
            }
        }
    }
}
