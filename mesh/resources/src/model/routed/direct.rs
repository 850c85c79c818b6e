//! The endpoints behind a waypoint that is Envoy, for whoever dials one by its own address. `culvert-waypoint` needs none of it, so that
//! nothing of it is derived for others.

use std::net::SocketAddr;

use culvert_envoy::{CLUSTER_TYPE, LISTENER_TYPE};
use culvert_objects::{Gateway, HTTPRoute, KindSpec as _, ObjectName};
use culvert_proto::workload::{Service, TunnelProtocol, Workload};
use prost::Message as _;

use super::super::reader::Reader;
use super::super::unit::Derived;
use super::super::wire;
use super::frontend::Frontend;
use super::{hosts, ports, scope, waypoint};
use crate::routing::envoy::direct::{self, Endpoint};
use crate::routing::envoy::listener::Port;
use crate::snapshot::{Resource, to_address};

/// Whether a waypoint is Envoy, which has to be told whose endpoint an address is.
pub(super) fn is_envoy(gateway: &Gateway) -> bool {
    gateway.spec["gatewayClassName"] == "culvert-envoy"
}

/// What the waypoint of a Gateway is told of endpoints' own addresses.
pub(in crate::model) fn derive(reader: &Reader<'_>, name: &ObjectName) -> Derived {
    if !scope::gateway(reader, name).is_some_and(|gateway| is_envoy(gateway)) {
        return Derived::default();
    }
    let scope = scope::of_gateway(name);
    let mut all: Vec<(Port, Vec<Endpoint>)> = Vec::new();
    for service in reader.behind(&wire::hostname(reader.settings(), name)) {
        let Some(found) = reader.derived_service(&service) else {
            continue;
        };
        if scope::of_service(reader, &found).as_deref() != Some(&*scope) {
            continue;
        }
        if asks(reader, &found) {
            continue;
        }
        let policy = hosts::policy(reader, &found);
        let workloads = reader.workloads_of(&service);
        for port in waypoint::ports(reader, name, &service, &found) {
            // Connections to them would go in another way than asked for.
            if policy.at_port(port.port, None).is_refused {
                continue;
            }
            let endpoints = workloads.iter().flat_map(|workload| endpoints(workload, &port));
            let endpoints = endpoints.collect();
            all.push((port, endpoints));
        }
    }
    // An endpoint of several is the first one's by name, as `culvert-waypoint` has it.
    all.sort_by_cached_key(|(port, _)| culvert_envoy::names::chain(&port.service, port.port));
    let listener = direct::listener(&scope, &all);
    let listener =
        listener.map(|found| Resource::scoped(LISTENER_TYPE, &scope, &found.name, found.encode_to_vec(), &[]));
    let clusters = direct::clusters(&scope);
    let clusters = clusters
        .iter()
        .map(|cluster| Resource::scoped(CLUSTER_TYPE, &scope, &cluster.name, cluster.encode_to_vec(), &[]));
    Derived {
        resources: clusters.chain(listener).collect(),
        ..Derived::default()
    }
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
