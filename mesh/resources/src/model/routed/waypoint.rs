//! A Gateway that is a waypoint becomes listeners, and the clusters that lead from one to the other.

use std::sync::Arc;

use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::{CLUSTER_TYPE, LISTENER_TYPE};
use culvert_objects::{Finding, Gateway, Kind, ObjectName, Severity, WAYPOINT_FOR};
use culvert_proto::workload::Service;
use ipnet::IpNet;
use prost::Message as _;

use super::super::gateways::{self, Purpose};
use super::super::reader::Reader;
use super::super::unit::Derived;
use super::super::wire;
use super::attached;
use super::frontend::Frontend;
use super::{access, direct, lasting, pods, ports, proxy_config, scope, telemetry, traffic_policies};
use crate::routing::envoy::listener;
use crate::routing::envoy::port::Port;
use crate::routing::envoy::{self, plumbing};
use crate::snapshot::{Resource, to_address};

/// What the waypoint of a Gateway is told of itself.
pub(in crate::model) fn derive(reader: &Reader<'_>, name: &ObjectName) -> Derived {
    let Some(gateway) = scope::gateway(reader, name) else {
        return Derived {
            findings: foreign(reader, name).into_iter().collect(),
            ..Derived::default()
        };
    };
    let scope = scope::of_gateway(name);
    let host = wire::hostname(reader.settings(), name);
    let mut ports = Vec::new();
    let mut endpoints = Vec::new();
    for service in reader.behind(&host) {
        let Some(found) = reader.derived_service(&service) else {
            continue;
        };
        if scope::of_service(reader, &found).contains(&scope) {
            let found_ports = self::ports(reader, name, &service, &found);
            if direct::is_envoy(gateway) {
                endpoints.extend(direct::of_service(reader, &service, &found, &found_ports));
            }
            ports.extend(found_ports);
        }
    }
    let pods = pods::of(reader, name, gateway);
    ports.extend(pods.ports);
    let trust_domain = &reader.settings().trust_domain;
    let listeners = [plumbing::tunnel(&scope, trust_domain), plumbing::connect(&scope)];
    direct::in_order(&mut endpoints);
    let of_endpoints = envoy::direct::chains(&scope, &ports, &endpoints);
    let listeners = listeners
        .into_iter()
        .chain(listener::inbound(&scope, &ports, of_endpoints));
    let listeners = listeners
        .map(|listener| Resource::scoped(LISTENER_TYPE, &scope, &listener.name, listener.encode_to_vec(), &[]));
    let clusters = [plumbing::inbound(&scope), plumbing::originate(&scope, trust_domain)];
    let to_endpoints = envoy::direct::clusters(&scope, &endpoints);
    let to_endpoints = to_endpoints.into_iter().filter(|_| direct::is_envoy(gateway));
    let clusters: Vec<Cluster> = clusters.into_iter().chain(to_endpoints).collect();
    let clusters = clusters
        .iter()
        .map(|cluster| Resource::scoped(CLUSTER_TYPE, &scope, &cluster.name, cluster.encode_to_vec(), &[]));
    Derived {
        resources: listeners.chain(clusters).chain(pods.resources).collect(),
        findings: proxy_config::of(gateway)
            .notes
            .into_iter()
            .map(|(field, why)| Finding::of_object(Kind::Gateway, name, &proxy_config::at(&field), why))
            .chain(unknown_purpose(reader, name, gateway))
            .collect(),
        ..Derived::default()
    }
}

/// That nobody knows what a Gateway, or its class, says that it is for.
fn unknown_purpose(reader: &Reader<'_>, name: &ObjectName, gateway: &Gateway) -> Option<Finding> {
    gateways::purpose(reader, name).filter(|purpose| *purpose == Purpose::Unknown)?;
    let word = gateways::word(reader, gateway).unwrap_or_default();
    let message = format!(
        "{word:?} is none of service, workload, all and none (the class may say it, too): what asks for the waypoint is refused"
    );
    let field = format!("metadata.labels[{WAYPOINT_FOR}]");
    Some(Finding::of_object(Kind::Gateway, name, &field, message))
}

/// That a Gateway is of a class of others.
fn foreign(reader: &Reader<'_>, name: &ObjectName) -> Option<Finding> {
    let gateway = reader.own::<Gateway>(name)?;
    let class = &gateway.spec["gatewayClassName"];
    let message = format!("{class} is no class of Culvert's: the Gateway is left to others");
    let finding = Finding::of_object(Kind::Gateway, name, "spec.gatewayClassName", message);
    Some(finding.of_severity(Severity::Info))
}

/// The ports of a Service behind the waypoint of a Gateway.
fn ports(reader: &Reader<'_>, gateway: &ObjectName, name: &Arc<str>, service: &Service) -> Vec<Port> {
    let mut found = Vec::new();
    let object = ports::of_object(reader, service);
    let frontend = Frontend::of(reader, service);
    let addresses = addresses(reader, name, service);
    let telemetry = Arc::new(telemetry::of_service(reader, gateway, service));
    let access = Arc::new(access::of_service(reader, gateway, service));
    for port in ports::of_service(service) {
        let said = attached::virtual_at(reader, service, port).unwrap_or_default();
        let named = frontend
            .as_ref()
            .map(|frontend| attached::named(reader, frontend, port));
        let split = frontend
            .as_ref()
            .and_then(|frontend| attached::split(reader, frontend, port))
            .or(said.split);
        let named = named.filter(|named| !named.is_empty()).unwrap_or(said.named);
        let protocol = ports::protocol(service, object.as_ref(), port);
        let lasting = match protocol.is_tcp() {
            true => lasting::of_port(reader, (name, port), split.as_ref(), &named),
            false => Vec::new(),
        };
        found.push(Port {
            service: Arc::clone(name),
            addresses: addresses.clone(),
            port,
            protocol,
            split,
            named,
            lasting,
            access: Arc::clone(&access),
            policies: frontend
                .as_ref()
                .map(|frontend| traffic_policies::at_port(reader, frontend, port))
                .unwrap_or_default(),
            telemetry: Arc::clone(&telemetry),
        });
    }
    found
}

/// What clients dial: the Service's own addresses and ranges, or the addresses of its endpoints if it has none.
fn addresses(reader: &Reader<'_>, name: &Arc<str>, service: &Service) -> Vec<IpNet> {
    let own: Vec<IpNet> = service
        .addresses
        .iter()
        .filter_map(|range| {
            let address = to_address(&range.address)?;
            match range.length {
                None => Some(IpNet::from(address)),
                Some(length) => IpNet::new(address, u8::try_from(length).ok()?).ok(),
            }
        })
        .collect();
    if !own.is_empty() {
        return own;
    }
    let workloads = reader.workloads_of(name);
    let mut found: Vec<IpNet> = workloads
        .iter()
        .flat_map(|workload| workload.addresses.iter().filter_map(|address| to_address(address)))
        .map(IpNet::from)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
