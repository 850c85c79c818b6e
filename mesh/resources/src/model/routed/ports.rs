//! The ports of Services of the first round.

use culvert_objects::{BALANCER_ANNOTATION, ObjectName, PEAK_EWMA};
use culvert_proto::workload::Service;
use k8s_openapi::api::core::v1::ServicePort;

use super::super::reader::Reader;
use super::super::wire;
use crate::routing::protocol::{self, Protocol};

/// The number of a port as messages have it.
pub(super) fn number(port: u32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// The ports of a Service of the first round.
pub(super) fn of_service(service: &Service) -> impl Iterator<Item = u16> {
    service.ports.iter().filter_map(|port| number(port.service_port))
}

/// The Service object that a Service was made of, and its ports; none where it was made of something else.
pub(super) fn of_object(reader: &Reader<'_>, service: &Service) -> Option<(ObjectName, Vec<ServicePort>)> {
    let name = wire::object_of_host(reader.settings(), &service.hostname)?;
    if *name.namespace != *service.namespace {
        return None;
    }
    let object = reader.get::<culvert_objects::Service>(&name)?;
    let ports = object.spec.as_ref().and_then(|spec| spec.ports.clone());
    Some((name, ports.unwrap_or_default()))
}

/// Whether a Service asks for endpoints to be chosen by how long they take, too.
pub(super) fn asks_for_peak_ewma(reader: &Reader<'_>, service: &Service) -> bool {
    let object = wire::object_of_host(reader.settings(), &service.hostname);
    let object = object.filter(|name| *name.namespace == *service.namespace);
    let object = object.and_then(|name| reader.get::<culvert_objects::Service>(&name));
    let annotations = object.and_then(|object| object.metadata.annotations.as_ref());
    annotations
        .and_then(|all| all.get(BALANCER_ANNOTATION))
        .is_some_and(|asked| asked == PEAK_EWMA)
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
