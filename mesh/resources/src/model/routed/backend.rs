//! A Service's ports as backends, for each waypoint that may send requests there: the one that it is behind, and those of the Services
//! whose routes name it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use culvert_envoy::endpoint::About;
use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE};
use culvert_objects::{GRPCRoute, HTTPRoute, Key, ObjectName, TCPRoute, TLSRoute, Written};
use culvert_proto::workload::{Service, TunnelProtocol, Workload, WorkloadStatus, load_balancing::HealthPolicy};
use prost::Message as _;

use super::super::health;
use super::super::reader::Reader;
use super::super::unit::Derived;
use super::super::wire;
use super::{hosts, labelled, ports, providers, scope, telemetry, traffic_policies};
use crate::routing::envoy::cluster;
use crate::routing::envoy::endpoints::{self, Endpoint, Health};
use crate::routing::traffic::Traffic;
use crate::snapshot::{Resource, to_address};

/// The clusters of a Service.
pub(in crate::model) fn clusters(reader: &Reader<'_>, name: &Arc<str>) -> Derived {
    let made = each(reader, name, |scope, _, cluster| {
        Resource::scoped(CLUSTER_TYPE, scope, &cluster.name, cluster.encode_to_vec(), &[])
    });
    Derived {
        resources: made,
        ..Derived::default()
    }
}

/// Where its clusters are. They are sent anew whenever the cluster is, since Envoy does not ask again.
pub(in crate::model) fn endpoints(reader: &Reader<'_>, name: &Arc<str>) -> Derived {
    let mut workloads: Option<(Vec<Workload>, bool)> = None;
    let resources = each(reader, name, |scope, at, cluster| {
        let (workloads, allows_all) = workloads.get_or_insert_with(|| {
            let service = reader.own_service(name);
            let balancing = service.and_then(|service| service.load_balancing);
            let allows_all = balancing.is_some_and(|found| found.health_policy() == HealthPolicy::AllowAll);
            (reader.workloads_of(name), allows_all)
        });
        let found: Vec<Endpoint> = workloads
            .iter()
            .filter(|workload| !at.is_refused && at.labels.is_none_or(|labels| labelled::has(reader, workload, labels)))
            .flat_map(|workload| of_workload(reader, workload, name, at.port, *allows_all))
            .collect();
        let assignment = endpoints::assignment(scope, &cluster.name, &found);
        let contents = endpoints::contents(&assignment);
        let body = assignment.encode_to_vec();
        Resource::scoped_by(
            ENDPOINT_TYPE,
            scope,
            &assignment.cluster_name,
            body,
            &[&contents, &cluster.encode_to_vec()],
        )
    });
    Derived {
        resources,
        ..Derived::default()
    }
}

/// Each cluster of a Service, for each waypoint that needs it.
fn each(
    reader: &Reader<'_>,
    name: &Arc<str>,
    mut make: impl FnMut(&Arc<str>, &At<'_>, &Cluster) -> Resource,
) -> Vec<Resource> {
    let Some(service) = reader.own_service(name) else {
        return Vec::new();
    };
    let scopes = scopes(reader, name, &service);
    if scopes.is_empty() {
        return Vec::new();
    }
    let object = ports::of_object(reader, &service);
    let policy = hosts::policy(reader, &service);
    let is_peak_ewma = ports::asks_for_peak_ewma(reader, &service);
    let subsets = policy.subsets().map(|(name, labels)| (Some(name), Some(labels)));
    let parts: Vec<_> = std::iter::once((None, None)).chain(subsets).collect();
    let mut made = Vec::new();
    for port in ports::of_service(&service) {
        let protocol = ports::protocol(&service, object.as_ref(), port);
        let held = object
            .as_ref()
            .and_then(|(object, ports)| traffic_policies::of_port(reader, object, ports, port));
        let health_check = held.and_then(|held| held.policy.health_check.clone());
        for (subset, labels) in &parts {
            let traffic = Traffic {
                is_peak_ewma,
                health_check: health_check.clone(),
                ..policy.at_port(port, *subset)
            };
            let at = At {
                port,
                labels: *labels,
                is_refused: traffic.is_refused,
            };
            for scope in &scopes {
                let cluster = cluster::cluster(scope, name, port, *subset, protocol, &traffic);
                made.push(make(scope, &at, &cluster));
            }
        }
    }
    made
}

/// Which endpoints a cluster has.
struct At<'a> {
    port: u16,
    /// Those with these labels alone.
    labels: Option<&'a BTreeMap<String, String>>,
    /// None, since connections would go in another way than asked for.
    is_refused: bool,
}

/// The waypoints that may send requests to a Service.
fn scopes(reader: &Reader<'_>, name: &str, service: &Service) -> BTreeSet<Arc<str>> {
    let mut found: BTreeSet<Arc<str>> = scope::of_service(reader, service).into_iter().collect();
    found.extend(hosts::scopes(reader, service));
    found.extend(providers::scopes(reader, service));
    found.extend(traffic_policies::counter_scopes(reader, service));
    found.extend(telemetry::scopes(reader, name));
    let Some(object) = wire::object_of_host(reader.settings(), &service.hostname) else {
        return found;
    };
    let key = Key::backend("Service", &object);
    for (name, route) in reader.find::<HTTPRoute>(key) {
        found.extend(scopes_of_route(reader, name, route, &object));
    }
    for (name, route) in reader.find::<GRPCRoute>(key) {
        found.extend(scopes_of_route(reader, name, route, &object));
    }
    for (name, route) in reader.find::<TCPRoute>(key) {
        found.extend(scopes_of_route(reader, name, route, &object));
    }
    for (name, route) in reader.find::<TLSRoute>(key) {
        found.extend(scopes_of_route(reader, name, route, &object));
    }
    found
}

/// The waypoints of the Services that a route is for, if it names the backend.
fn scopes_of_route<M>(
    reader: &Reader<'_>,
    name: &ObjectName,
    route: &Written<M>,
    backend: &ObjectName,
) -> Vec<Arc<str>> {
    let names_it = route
        .backends()
        .iter()
        .any(|reference| reference.kind == "Service" && reference.object(&name.namespace) == *backend);
    if !names_it {
        return Vec::new();
    }
    let parents = route
        .parents()
        .filter(|parent| parent.group.is_empty() && parent.kind == "Service");
    let services = parents.filter_map(|parent| {
        let parent = wire::service_name(reader.settings(), &parent.object(&name.namespace));
        reader.derived_service(&parent)
    });
    services
        .filter_map(|service| scope::of_service(reader, &service))
        .collect()
}

/// The endpoints that a Workload is of a port of a Service: one for each of its addresses, as clients would choose them.
fn of_workload(reader: &Reader<'_>, workload: &Workload, service: &str, port: u16, allows_all: bool) -> Vec<Endpoint> {
    let ports = workload.services.get(service);
    let mut ports = ports.into_iter().flat_map(|list| &list.ports);
    let target = ports.find(|known| known.service_port == u32::from(port));
    let Some(target) = target.and_then(|found| ports::number(found.target_port)) else {
        return Vec::new();
    };
    let health = match workload.status() {
        _ if allows_all => Health::Healthy,
        WorkloadStatus::Healthy => Health::Healthy,
        WorkloadStatus::Unhealthy if health::is_terminating(workload) => Health::Draining,
        WorkloadStatus::Unhealthy => Health::Unhealthy,
    };
    let locality = workload.locality.clone().unwrap_or_default();
    let is_tunnelled = workload.tunnel_protocol() == TunnelProtocol::Hbone;
    // One family is enough: an endpoint of two would get two shares.
    let addresses = workload
        .addresses
        .iter()
        .filter_map(|address| to_address(address))
        .take(1);
    addresses
        .map(|address| Endpoint {
            address,
            port: target,
            is_tunnelled,
            health,
            locality: [locality.region.clone(), locality.zone.clone(), locality.subzone.clone()],
            weight: workload.capacity.filter(|capacity| *capacity > 0),
            about: about(reader, workload, is_tunnelled),
        })
        .collect()
}

fn about(reader: &Reader<'_>, workload: &Workload, is_tunnelled: bool) -> About {
    let domain = match workload.trust_domain.as_str() {
        "" => reader.settings().trust_domain.as_str(),
        domain => domain,
    };
    let identity = format!(
        "spiffe://{domain}/ns/{}/sa/{}",
        workload.namespace, workload.service_account
    );
    About {
        uid: workload.uid.clone(),
        identity: if is_tunnelled { identity } else { String::new() },
        name: workload.name.clone(),
        namespace: workload.namespace.clone(),
        workload: workload.workload_name.clone(),
        canonical_name: workload.canonical_name.clone(),
        canonical_revision: workload.canonical_revision.clone(),
        cluster: workload.cluster_id.clone(),
        node: workload.node.clone(),
    }
}
