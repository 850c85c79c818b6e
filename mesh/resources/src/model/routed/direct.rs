//! The endpoints behind a waypoint that is Envoy, for whoever dials one by its own address. `culvert-waypoint` needs none of it, so that
//! nothing of it is derived for others.

use std::net::SocketAddr;
use std::sync::Arc;

use culvert_objects::{Gateway, HTTPRoute, KindSpec as _};
use culvert_proto::workload::{Service, TunnelProtocol, Workload};

use super::super::reader::Reader;
use super::frontend::Frontend;
use super::{hosts, ports};
use crate::routing::envoy::direct::Endpoint;
use crate::routing::envoy::listener::Port;
use crate::snapshot::to_address;

/// Whether a waypoint is Envoy, which has to be told whose endpoint an address is.
pub(super) fn is_envoy(gateway: &Gateway) -> bool {
    gateway.spec["gatewayClassName"] == "culvert-envoy"
}

/// The endpoints of each of a Service's ports.
pub(super) fn of_service(
    reader: &Reader<'_>,
    name: &Arc<str>,
    service: &Service,
    ports: &[Port],
) -> Vec<(Port, Vec<Endpoint>)> {
    if asks(reader, service) {
        return Vec::new();
    }
    let policy = hosts::policy(reader, service);
    let workloads = reader.workloads_of(name);
    // Connections to others would go in another way than asked for.
    let served = ports.iter().filter(|port| !policy.at_port(port.port, None).is_refused);
    let with_endpoints = served.map(|port| {
        let endpoints = workloads.iter().flat_map(|workload| endpoints(workload, port));
        (port.clone(), endpoints.collect())
    });
    with_endpoints.collect()
}

/// Whether a route of a Service asks somebody whether requests may pass. No route is looked at here, and nobody is to get past that.
fn asks(reader: &Reader<'_>, service: &Service) -> bool {
    let Some(frontend) = Frontend::of(reader, service) else {
        return false;
    };
    reader.find::<HTTPRoute>(frontend.key()).any(|(name, route)| {
        let mut parents = route.parents();
        let is_for = parents
            .any(|parent| parent.kind == frontend.sort().kind() && parent.object(&name.namespace) == frontend.object);
        is_for && route.binding().is_some()
    })
}

/// Where a Workload has a port, at each of its addresses.
fn endpoints(workload: &Workload, port: &Port) -> Vec<Endpoint> {
    let list = workload.services.get(&*port.service);
    let mut known = list.into_iter().flat_map(|list| &list.ports);
    let found = known.find(|known| known.service_port == u32::from(port.port));
    let Some(target) = found.and_then(|found| ports::number(found.target_port)) else {
        return Vec::new();
    };
    let addresses = workload.addresses.iter().filter_map(|address| to_address(address));
    addresses
        .map(|address| Endpoint {
            address: SocketAddr::new(address, target),
            is_tunnelled: workload.tunnel_protocol() == TunnelProtocol::Hbone,
        })
        .collect()
}
