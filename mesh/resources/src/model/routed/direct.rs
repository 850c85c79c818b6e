//! The endpoints behind a waypoint that is Envoy, for whoever dials one by its own address. `culvert-waypoint` needs none of it, so that
//! nothing of it is derived for others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use culvert_envoy::names;
use culvert_objects::{Gateway, HTTPRoute, KindSpec as _};
use culvert_proto::workload::{Service, TunnelProtocol, Workload};

use super::super::reader::Reader;
use super::backend_tls::Policies;
use super::frontend::Frontend;
use super::{hosts, labelled, ports};
use crate::routing::backend_tls::Said;
use crate::routing::envoy::direct::{Endpoint, Endpoints, Spoken};
use crate::routing::envoy::port::Port;
use crate::snapshot::to_address;

/// Whether a waypoint is Envoy, which has to be told whose endpoint an address is.
pub(super) fn is_envoy(gateway: &Gateway) -> bool {
    gateway.spec["gatewayClassName"] == "culvert-envoy"
}

/// The endpoints of each of a Service's ports, and how they are connected to.
pub(super) fn of_service(reader: &Reader<'_>, name: &Arc<str>, service: &Service, ports: &[Port]) -> Vec<Endpoints> {
    let is_refused = asks(reader, service);
    let policy = hosts::policy(reader, service);
    let tls_policies = Policies::of(reader, service);
    let workloads = reader.workloads_of(name);
    let mut made = Vec::new();
    for port in ports {
        let spoken = |subset: Option<&str>| {
            let mut traffic = policy.at_port(port.port, subset);
            tls_policies.settle(&mut traffic, service, port.port);
            // Connections would go in another way than asked for: there is no endpoint.
            if traffic.is_refused {
                return Err(Refused);
            }
            Ok(Spoken {
                proxy_protocol: traffic.proxy_protocol,
                tls: match traffic.tls {
                    Said::Tls(tls) => Some(tls),
                    Said::Nothing | Said::None => None,
                },
            })
        };
        let own = spoken(None);
        let subsets = policy
            .subsets()
            .map(|(name, labels)| (name, labels, spoken(Some(name))));
        // Where nothing else is said of a subset, its endpoints are as others.
        let mut subsets: Vec<_> = subsets.filter(|(_, _, spoken)| *spoken != own).collect();
        subsets.sort_by_key(|(name, _, spoken)| {
            let plainness = spoken.as_ref().ok().map(plainness);
            (spoken.is_ok(), plainness, *name)
        });
        let mut found: BTreeMap<Option<&str>, Vec<Endpoint>> = BTreeMap::new();
        for workload in &workloads {
            let mut of = subsets.iter();
            let subset = of.find(|(_, labels, _)| labelled::has(reader, workload, labels));
            let endpoints = endpoints(workload, port);
            found
                .entry(subset.map(|(name, ..)| *name))
                .or_default()
                .extend(endpoints);
        }
        for (subset, endpoints) in found {
            let of_subset = subsets.iter().find(|(name, ..)| Some(*name) == subset);
            let spoken = of_subset.map_or(&own, |(_, _, spoken)| spoken);
            if let Ok(spoken) = spoken {
                made.push(Endpoints {
                    port: port.clone(),
                    subset: subset.map(Into::into),
                    spoken: spoken.clone(),
                    is_refused,
                    endpoints,
                });
            }
        }
    }
    made
}

/// Nobody is connected to.
#[derive(PartialEq, Eq)]
struct Refused;

/// Puts those first that are taken where an endpoint is of several ports, in the order that `culvert-waypoint` has: one at which TLS is asked
/// for, so that nobody gets past that, then one at which the PROXY protocol is, and else by name.
pub(super) fn in_order(endpoints: &mut [Endpoints]) {
    endpoints.sort_by_cached_key(
        |Endpoints {
             port, subset, spoken, ..
         }| {
            let chain = names::chain(&port.service, port.port);
            (plainness(spoken), chain, subset.clone())
        },
    );
}

/// The least is taken.
fn plainness(spoken: &Spoken) -> (bool, bool) {
    (spoken.tls.is_none(), spoken.proxy_protocol.is_none())
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
    // Its address would lead to somebody else in this network.
    if !workload.network.is_empty() {
        return Vec::new();
    }
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
