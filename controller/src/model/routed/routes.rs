//! A Service's rules for requests, port by port, for the waypoint that it is behind.

use std::sync::Arc;

use culvert_envoy::ROUTE_TYPE;
use culvert_objects::ObjectName;
use culvert_proto::workload::Service;
use k8s_openapi::api::core::v1::ServicePort;
use prost::Message as _;

use super::super::reader::Reader;
use super::super::unit::Derived;
use super::super::wire;
use super::attached::{self, Frontend};
use super::scope;
use crate::routing::envoy::routes;
use crate::routing::model::Backend;
use crate::routing::order;
use crate::routing::protocol::{self, Protocol};
use crate::snapshot::Resource;

/// The route configurations of a Service.
pub(in crate::model) fn derive(reader: &Reader<'_>, name: &Arc<str>) -> Derived {
    let Some(service) = reader.own_service(name) else {
        return Derived::default();
    };
    let Some(scope) = scope::of_service(reader, &service) else {
        return Derived::default();
    };
    let object = ports_of_object(reader, &service);
    let read = object
        .as_ref()
        .map(|(object, _)| attached::requests(reader, object))
        .unwrap_or_default();
    let mut resources = Vec::new();
    for port in attached::ports(&service) {
        if !protocol(&service, object.as_ref(), port).is_http() {
            continue;
        }
        let attached = object.as_ref().map(|(object, ports)| {
            let frontend = Frontend {
                object,
                service: &service,
                ports,
            };
            attached::of_port(&read, &frontend, port)
        });
        let own = Backend {
            service: Arc::clone(name),
            port,
        };
        let merged = order::merge(attached.unwrap_or_default(), own);
        let made = routes::configuration(&scope, name, port, &merged);
        resources.push(Resource::scoped(
            ROUTE_TYPE,
            &scope,
            &made.name,
            made.encode_to_vec(),
            &[],
        ));
    }
    Derived {
        resources,
        ..Derived::default()
    }
}

/// The Service object that a Service was made of, and its ports; none where it was made of something else.
pub(super) fn ports_of_object(reader: &Reader<'_>, service: &Service) -> Option<(ObjectName, Vec<ServicePort>)> {
    let name = wire::object_of_host(reader.settings(), &service.hostname)?;
    if *name.namespace != *service.namespace {
        return None;
    }
    let object = reader.get::<culvert_objects::Service>(&name)?;
    let ports = object.spec.as_ref().and_then(|spec| spec.ports.clone());
    Some((name, ports.unwrap_or_default()))
}

/// What a port speaks.
pub(super) fn protocol(service: &Service, object: Option<&(ObjectName, Vec<ServicePort>)>, port: u16) -> Protocol {
    let written = object.and_then(|(_, ports)| {
        let tcp = |known: &&ServicePort| known.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        ports.iter().filter(tcp).find(|known| known.port == i32::from(port))
    });
    let derived = || service.ports.iter().find(|known| known.service_port == u32::from(port));
    match written {
        Some(written) => protocol::of_port(written),
        None => derived().map_or(Protocol::Tcp, |known| protocol::of_resource(known.app_protocol())),
    }
}
