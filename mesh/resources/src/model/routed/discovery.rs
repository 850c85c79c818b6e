//! How the endpoints of a Service of the first round are found by a waypoint.

use std::sync::Arc;

use culvert_objects::{Finding, Kind, ObjectName, ServiceEntry};
use culvert_proto::workload::{Service, TunnelProtocol, Workload, load_balancing::Mode};

use super::super::ranges;
use super::super::reader::Reader;

/// How the endpoints of all ports of a Service are found.
pub(super) enum How {
    /// The controller tells them.
    Told,
    /// Some are names: these, and what stands beside them.
    Names {
        workloads: Vec<Workload>,
        is_round_robin: bool,
        /// Endpoints that cannot be beside names, and why.
        findings: Vec<Finding>,
    },
    /// A connection goes where it was going.
    Dialled,
}

/// How the endpoints of a Service are found.
pub(super) fn of(reader: &Reader<'_>, name: &Arc<str>, service: &Service) -> How {
    if is_dialled(service) {
        return How::Dialled;
    }
    let object = ObjectName::new(service.namespace.as_str(), service.name.as_str());
    let entry = match reader.get::<ServiceEntry>(&object) {
        Some(entry) if entry.hosts.iter().any(|(_, host)| **host == *service.hostname) => entry,
        _ => return How::Told,
    };
    if !entry.resolution.is_dns() {
        return How::Told;
    }
    let all = reader.workloads_of(name);
    if all.iter().all(|workload| workload.hostname.is_empty()) {
        return How::Told;
    }
    let mut findings = Vec::new();
    let mut refuse =
        |why: String| findings.push(Finding::of_object(Kind::ServiceEntry, &object, "spec.endpoints", why));
    let domain = format!(".svc.{}", reader.settings().cluster_domain);
    let workloads: Vec<Workload> = all
        .into_iter()
        .filter(|workload| {
            let in_tunnel = workload.tunnel_protocol() == TunnelProtocol::Hbone;
            let of_cluster = workload.hostname.ends_with(&domain);
            if in_tunnel {
                refuse(format!(
                    "{} is in the mesh, and beside endpoints that are names it has no place at a waypoint: it gets nothing from there",
                    workload.name
                ));
            }
            if of_cluster {
                refuse(format!(
                    "{} is a name of the cluster, and a waypoint would go there in clear: it gets nothing from there; name the Service in a route",
                    workload.hostname
                ));
            }
            !in_tunnel && !of_cluster
        })
        .collect();
    How::Names {
        // A name with many endpoints beside it has no turns to take.
        is_round_robin: entry.resolution == culvert_objects::Resolution::DnsRoundRobin && workloads.len() == 1,
        workloads,
        findings,
    }
}

/// Whether connections to a Service go where they were going.
pub(super) fn is_dialled(service: &Service) -> bool {
    let balancing = service.load_balancing.as_ref();
    balancing.is_some_and(|balancing| balancing.mode() == Mode::Passthrough)
}

/// Where nothing may be reached in clear.
pub(super) fn mesh(reader: &Reader<'_>) -> Arc<[ipnet::IpNet]> {
    ranges::nets(reader).into()
}
