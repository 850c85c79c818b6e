//! Pods that ask for a waypoint by themselves, at their own addresses: at each port of such a pod a chain whose requests and connections go to
//! that pod alone, under the policies of the waypoint and its class. Both kinds of waypoint are told the same.
//!
//! The ports are those that the pod's containers name or number, and those at which it serves Services. At a port of a Service that is
//! behind a waypoint the Service's policies have to decide: where that is the same waypoint, it finds the pod among the Service's endpoints,
//! and at another's nobody is led on.

use std::collections::BTreeMap;
use std::sync::Arc;

use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, ROUTE_TYPE};
use culvert_objects::{Gateway, ObjectName, Pod};
use culvert_proto::workload::{Port as WorkloadPort, PortList, Service, Workload};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ServicePort;
use prost::Message as _;

use super::super::reader::Reader;
use super::super::{gateways, wire};
use super::{access, backend, ports, scope, telemetry};
use crate::routing::discovery::Discovery;
use crate::routing::envoy::cluster;
use crate::routing::envoy::endpoints::{self, Endpoint};
use crate::routing::envoy::port::Port;
use crate::routing::envoy::routes::{self, Told};
use crate::routing::locality::{Place, Preference};
use crate::routing::model::Backend;
use crate::routing::order;
use crate::routing::protocol::{self, Protocol};
use crate::routing::traffic::Traffic;
use crate::snapshot::{Resource, asking_for, to_address};

/// What a waypoint is told of the pods.
#[derive(Default)]
pub(super) struct Pods {
    pub(super) ports: Vec<Port>,
    /// Where each port leads to.
    pub(super) resources: Vec<Resource>,
}

/// The pods that ask for the waypoint of a Gateway.
pub(super) fn of(reader: &Reader<'_>, name: &ObjectName, gateway: &Gateway) -> Pods {
    let mut made = Pods::default();
    if !gateways::purpose(reader, name).is_some_and(gateways::Purpose::has_workloads) {
        return made;
    }
    let scope = scope::of_gateway(name);
    let mut workloads = reader.workloads_of(&asking_for(&wire::hostname(reader.settings(), name)));
    workloads.sort_by(|a, b| a.uid.cmp(&b.uid));
    // What holds for all pods of a namespace is found once.
    let mut held = BTreeMap::new();
    for workload in workloads {
        if !gateways::admits(reader, name, gateway, &workload.namespace) {
            continue;
        }
        let (access, telemetry) = held.entry(workload.namespace.clone()).or_insert_with(|| {
            let nobody = Service {
                namespace: workload.namespace.clone(),
                ..Service::default()
            };
            let access = Arc::new(access::of_service(reader, name, &nobody));
            (access, Arc::new(telemetry::of_service(reader, name, &nobody)))
        });
        let resource: Arc<str> = format!("{0}/{1}.{0}.pod", workload.namespace, workload.name).into();
        let addresses: Vec<IpNet> = workload
            .addresses
            .iter()
            .filter_map(|address| to_address(address))
            .map(IpNet::from)
            .collect();
        for (port, protocol) in ports_of(reader, &workload) {
            let made_here = leading(reader, &scope, &resource, &workload, port, protocol);
            made.resources.extend(made_here);
            made.ports.push(Port {
                service: Arc::clone(&resource),
                addresses: addresses.clone(),
                port,
                protocol,
                split: None,
                named: Vec::new(),
                lasting: Vec::new(),
                access: Arc::clone(access),
                policies: Vec::new(),
                telemetry: Arc::clone(telemetry),
            });
        }
    }
    made
}

/// The ports at which a waypoint leads to a Workload, and what they speak: what a Service says comes before what a container does.
fn ports_of(reader: &Reader<'_>, workload: &Workload) -> BTreeMap<u16, Protocol> {
    let mut found = BTreeMap::new();
    let name = ObjectName::new(workload.namespace.as_str(), workload.name.as_str());
    let is_pod = workload.uid == wire::pod_uid(reader.settings(), &name);
    let pod = is_pod.then(|| reader.get::<Pod>(&name)).flatten();
    for port in pod.into_iter().flat_map(|pod| pod.ports.iter()) {
        let written = ServicePort {
            name: Some(port.name.to_string()),
            port: port.number.into(),
            ..ServicePort::default()
        };
        found.entry(port.number).or_insert_with(|| protocol::of_port(&written));
    }
    let mut of_services: Vec<_> = workload.services.iter().collect();
    of_services.sort_by_key(|(name, _)| *name);
    let mut behind = Vec::new();
    for (resource, list) in of_services {
        let service = reader.derived_service(resource);
        let object = service.as_ref().and_then(|service| ports::of_object(reader, service));
        for port in &list.ports {
            let (Some(number), Some(service)) = (ports::number(port.target_port), &service) else {
                continue;
            };
            if service.waypoint.is_some() {
                behind.push(number);
            } else if let Some(own) = ports::number(port.service_port) {
                found.insert(number, ports::protocol(service, object.as_ref(), own));
            }
        }
    }
    found.retain(|port, _| !behind.contains(port));
    found
}

/// What leads from a port to the Workload.
fn leading(
    reader: &Reader<'_>,
    scope: &Arc<str>,
    resource: &Arc<str>,
    workload: &Workload,
    port: u16,
    protocol: Protocol,
) -> Vec<Resource> {
    let as_backend = cluster::Backend {
        service: resource,
        port,
        subset: None,
        protocol,
        policy: &Traffic::default(),
        discovery: &Discovery::Told,
    };
    let cluster = cluster::cluster(scope, &as_backend);
    let cluster_body = cluster.encode_to_vec();
    let at_port = WorkloadPort {
        service_port: port.into(),
        target_port: port.into(),
        ..WorkloadPort::default()
    };
    let alone = Workload {
        services: [(resource.to_string(), PortList { ports: vec![at_port] })].into(),
        ..workload.clone()
    };
    // Who dials a pod means that one, ready or not.
    let endpoints: Vec<Endpoint> = backend::of_workload(reader, &alone, resource, port, true);
    let assignment = endpoints::assignment(scope, &cluster.name, &endpoints, &Preference::None, &Place::default());
    let contents = endpoints::contents(&assignment);
    let body = assignment.encode_to_vec();
    let mut made = vec![
        Resource::scoped_by(ENDPOINT_TYPE, scope, &cluster.name, body, &[&contents, &cluster_body]),
        Resource::scoped(CLUSTER_TYPE, scope, &cluster.name, cluster_body, &[]),
    ];
    if protocol.is_http() {
        let own = Backend {
            service: Arc::clone(resource),
            port,
            subset: None,
        };
        let rules = order::merge(Vec::new(), None, own);
        let routes = routes::configuration(scope, resource, port, &rules, &Told::default());
        made.push(Resource::scoped(
            ROUTE_TYPE,
            scope,
            &routes.name,
            routes.encode_to_vec(),
            &[],
        ));
    }
    made
}
