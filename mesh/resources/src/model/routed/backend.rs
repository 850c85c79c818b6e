//! A Service's ports as backends, for each waypoint that may send requests there: the one that it is behind, and those of the Services
//! whose routes name it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use culvert_envoy::endpoint::About;
use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE};
use culvert_objects::{Finding, GRPCRoute, HTTPRoute, Key, ObjectName, TCPRoute, TLSRoute, Written};
use culvert_proto::workload::load_balancing::HealthPolicy;
use culvert_proto::workload::{Service, TunnelProtocol, Workload, WorkloadStatus};
use prost::Message as _;

use super::super::health;
use super::super::reader::Reader;
use super::super::unit::Derived;
use super::super::wire;
use super::backend_tls::Policies;
use super::discovery::{self, How};
use super::frontend::{self, Frontend, Sort};
use super::nearness::{near, places};
use super::{hosts, labelled, ports, providers, scope, telemetry, traffic_policies};
use crate::routing::discovery::Discovery;
use crate::routing::envoy::cluster;
use crate::routing::envoy::endpoints::{self, Endpoint, Health, Host};
use crate::routing::locality::{Place, Preference};
use crate::routing::traffic::Traffic;
use crate::snapshot::{PLACED_TYPE, Resource, placed, to_address};

/// The clusters of a Service.
pub(in crate::model) fn clusters(reader: &Reader<'_>, name: &Arc<str>) -> Derived {
    let (resources, findings) = each(reader, name, |scope, _, cluster| {
        vec![Resource::scoped(
            CLUSTER_TYPE,
            scope,
            &cluster.name,
            cluster.encode_to_vec(),
            &[],
        )]
    });
    Derived {
        resources,
        findings,
        ..Derived::default()
    }
}

/// Where its clusters are. They are sent anew whenever the cluster is, since Envoy does not ask again.
pub(in crate::model) fn endpoints(reader: &Reader<'_>, name: &Arc<str>) -> Derived {
    let mut workloads: Option<(Vec<Workload>, bool)> = None;
    let (resources, _) = each(reader, name, |scope, at, cluster| {
        if !at.is_told {
            return Vec::new();
        }
        let (workloads, allows_all) = workloads.get_or_insert_with(|| {
            let service = reader.own_service(name);
            let balancing = service.and_then(|service| service.load_balancing);
            let allows_all = balancing.is_some_and(|found| found.health_policy() == HealthPolicy::AllowAll);
            (reader.workloads_of(name), allows_all)
        });
        let asked = at.near.pod_labels();
        let found: Vec<Endpoint> = workloads
            .iter()
            .filter(|workload| !at.is_refused && at.labels.is_none_or(|labels| labelled::has(reader, workload, labels)))
            .flat_map(|workload| {
                let labels = labelled::named(reader, workload, &asked);
                let endpoints = of_workload(reader, workload, name, at.port, *allows_all).into_iter();
                endpoints.map(move |endpoint| Endpoint {
                    labels: labels.clone(),
                    ..endpoint
                })
            })
            .filter(|endpoint| matches!(endpoint.host, Host::Address(_)))
            .collect();
        let cluster_body = cluster.encode_to_vec();
        let seen_from = |preference: &Preference, place: &Place| {
            let assignment = endpoints::assignment(scope, &cluster.name, &found, preference, place);
            let contents = endpoints::contents(&assignment);
            (assignment.encode_to_vec(), [contents, cluster_body.clone()].concat())
        };
        let (body, mut contents) = seen_from(&Preference::None, &Place::default());
        let mut made = Vec::new();
        for (key, place) in places(reader, scope, &at.near) {
            let (body, of_place) = seen_from(&at.near, &place);
            made.push(Resource::scoped_by(
                PLACED_TYPE,
                scope,
                &placed(&cluster.name, &key),
                body,
                &[&of_place],
            ));
            // Who holds those of one place is woken by a change of those for everybody.
            contents.extend(of_place);
        }
        made.push(Resource::scoped_by(
            ENDPOINT_TYPE,
            scope,
            &cluster.name,
            body,
            &[&contents],
        ));
        made
    });
    Derived {
        resources,
        ..Derived::default()
    }
}

/// Each cluster of a Service, for each waypoint that needs it, and what is wrong with its endpoints.
fn each(
    reader: &Reader<'_>,
    name: &Arc<str>,
    mut make: impl FnMut(&Arc<str>, &At<'_>, &Cluster) -> Vec<Resource>,
) -> (Vec<Resource>, Vec<Finding>) {
    let Some(service) = reader.own_service(name) else {
        return (Vec::new(), Vec::new());
    };
    let scopes = scopes(reader, name, &service);
    if scopes.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let how = discovery::of(reader, name, &service);
    let object = ports::of_object(reader, &service);
    let frontend = Frontend::of(reader, &service);
    let policy = hosts::policy(reader, &service);
    let tls_policies = Policies::of(reader, &service);
    let is_peak_ewma = ports::asks_for_peak_ewma(reader, &service);
    let subsets = policy.subsets().map(|(name, labels)| (Some(name), Some(labels)));
    let parts: Vec<_> = std::iter::once((None, None)).chain(subsets).collect();
    let mut made = Vec::new();
    for port in ports::of_service(&service) {
        let protocol = ports::protocol(&service, object.as_ref(), port);
        let held = frontend
            .as_ref()
            .and_then(|frontend| traffic_policies::of_port(reader, frontend, port));
        let held = held.map(|held| held.policy);
        let health_check = held.as_ref().and_then(|policy| policy.health_check.clone());
        let endpoint_idle = held.and_then(|policy| policy.timeouts.endpoint_idle);
        for (subset, labels) in &parts {
            let mut traffic = Traffic {
                is_peak_ewma,
                health_check: health_check.clone(),
                ..policy.at_port(port, *subset)
            };
            traffic.pool.idle_timeout = endpoint_idle.or(traffic.pool.idle_timeout);
            tls_policies.settle(&mut traffic, &service, port);
            let discovery = match &how {
                How::Told => Discovery::Told,
                // Where connections would go in another way than asked for, none goes where it was going either: no endpoint is told.
                How::Dialled if traffic.is_refused => Discovery::Told,
                How::Dialled => Discovery::Dialled {
                    mesh: discovery::mesh(reader),
                },
                How::Names {
                    workloads,
                    is_round_robin,
                    ..
                } => Discovery::Names {
                    endpoints: workloads
                        .iter()
                        .filter(|_| !traffic.is_refused)
                        .filter(|workload| labels.is_none_or(|labels| labelled::has(reader, workload, labels)))
                        .flat_map(|workload| of_workload(reader, workload, name, port, false))
                        .collect(),
                    is_round_robin: *is_round_robin,
                    mesh: discovery::mesh(reader),
                },
            };
            let at = At {
                port,
                labels: *labels,
                is_refused: traffic.is_refused,
                is_told: discovery.is_told(),
                near: near(&service, &traffic),
            };
            let as_backend = cluster::Backend {
                service: name,
                port,
                subset: *subset,
                protocol,
                policy: &traffic,
                discovery: &discovery,
            };
            for scope in &scopes {
                made.extend(make(scope, &at, &cluster::cluster(scope, &as_backend)));
            }
        }
    }
    let findings = match how {
        How::Names { findings, .. } => findings,
        How::Told | How::Dialled => Vec::new(),
    };
    (made, findings)
}

/// Which endpoints a cluster has.
struct At<'a> {
    port: u16,
    /// Those with these labels alone.
    labels: Option<&'a BTreeMap<String, String>>,
    /// None, since connections would go in another way than asked for.
    is_refused: bool,
    /// Whether the controller tells them.
    is_told: bool,
    /// Which of them come first.
    near: Preference,
}

/// The waypoints that may send requests to a Service.
pub(super) fn scopes(reader: &Reader<'_>, name: &str, service: &Service) -> BTreeSet<Arc<str>> {
    let mut found: BTreeSet<Arc<str>> = scope::of_service(reader, service).into_iter().collect();
    found.extend(hosts::scopes(reader, service));
    found.extend(providers::scopes(reader, service));
    found.extend(traffic_policies::counter_scopes(reader, service));
    found.extend(telemetry::scopes(reader, name));
    for key in keys(reader, service) {
        for (name, route) in reader.find::<HTTPRoute>(key) {
            found.extend(scopes_of_route(reader, name, route, service));
        }
        for (name, route) in reader.find::<GRPCRoute>(key) {
            found.extend(scopes_of_route(reader, name, route, service));
        }
        for (name, route) in reader.find::<TCPRoute>(key) {
            found.extend(scopes_of_route(reader, name, route, service));
        }
        for (name, route) in reader.find::<TLSRoute>(key) {
            found.extend(scopes_of_route(reader, name, route, service));
        }
    }
    found
}

/// Under which routes are filed that name a Service as a backend: as an object, and as a host.
fn keys(reader: &Reader<'_>, service: &Service) -> Vec<Key> {
    let object = wire::object_of_host(reader.settings(), &service.hostname);
    let by_object = object.map(|object| Key::backend("Service", &object));
    let by_host = Key::backend("Hostname", &ObjectName::cluster(service.hostname.as_str()));
    by_object.into_iter().chain([by_host]).collect()
}

/// The waypoints of the Services that a route is for, if it names the backend.
fn scopes_of_route<M>(reader: &Reader<'_>, name: &ObjectName, route: &Written<M>, backend: &Service) -> Vec<Arc<str>> {
    let object = wire::object_of_host(reader.settings(), &backend.hostname);
    let names_it = route.backends().iter().any(|reference| match reference.kind {
        "Service" => object
            .as_ref()
            .is_some_and(|object| reference.object(&name.namespace) == *object),
        // Of several Services with the host, the one that the route's namespace sees.
        "Hostname" if reference.name.eq_ignore_ascii_case(&backend.hostname) => {
            let own = wire::host_name(&backend.namespace, &backend.hostname);
            hosts::resource_name(reader, &backend.hostname, &name.namespace) == own
        }
        _ => false,
    });
    if !names_it {
        return Vec::new();
    }
    let parents = route.parents().filter_map(|parent| {
        let sort = Sort::of(parent.group, parent.kind)?;
        Some(frontend::services(reader, sort, &parent.object(&name.namespace)))
    });
    parents
        .flatten()
        .flat_map(|(_, service)| scope::of_service(reader, &service))
        .collect()
}

/// The endpoints that a Workload is of a port of a Service: one for each of its addresses, as clients would choose them.
pub(super) fn of_workload(
    reader: &Reader<'_>,
    workload: &Workload,
    service: &str,
    port: u16,
    allows_all: bool,
) -> Vec<Endpoint> {
    // Its address would lead to somebody else in this network.
    if !workload.network.is_empty() {
        return Vec::new();
    }
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
    let addresses = workload.addresses.iter().filter_map(|address| to_address(address));
    let hosts = addresses.map(Host::Address).take(1);
    let named = (!workload.hostname.is_empty()).then(|| Host::Name(workload.hostname.as_str().into()));
    hosts
        .chain(named)
        .map(|host| Endpoint {
            host,
            port: target,
            is_tunnelled,
            health,
            locality: [locality.region.clone(), locality.zone.clone(), locality.subzone.clone()],
            weight: workload.capacity.filter(|capacity| *capacity > 0),
            labels: BTreeMap::new(),
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
