//! Which waypoints a Service is behind.

use std::sync::Arc;

use culvert_objects::{ObjectName, ServiceEntry, Target};
use culvert_proto::workload::Service;

pub(in crate::model) use super::super::gateways::{admits, gateway};
use super::super::reader::Reader;
use super::super::{gateways, waypoint, wire};
use super::behind;

const ENVOY: &str = "culvert-envoy";

/// Whether the waypoint of a scope is Envoy.
pub(super) fn is_envoy(reader: &Reader<'_>, scope: &str) -> bool {
    let gateway = scope
        .split_once('/')
        .and_then(|(namespace, name)| gateway(reader, &ObjectName::new(namespace, name)));
    gateway.is_some_and(|gateway| gateway.spec["gatewayClassName"] == ENVOY)
}

/// The scope of a waypoint: its Gateway.
pub(super) fn of_gateway(name: &ObjectName) -> Arc<str> {
    name.to_string().into()
}

/// The scopes of the waypoints that a Service is behind, as far as there are such waypoints and they take Services of that namespace.
pub(super) fn of_service(reader: &Reader<'_>, service: &Service) -> Vec<Arc<str>> {
    let hosts = behind::waypoint_hosts(service).into_iter();
    let names = hosts.filter_map(|host| wire::object_of_host(reader.settings(), &host));
    names
        .filter(|name| gateways::takes(reader, name, &service.namespace))
        .map(|name| of_gateway(&name))
        .collect()
}

/// Whether a policy of this name decides about a target at a waypoint of ours: a Service or ServiceEntry of its own namespace that is
/// behind such alone. Units of both rounds may ask.
pub(in crate::model) fn of_target(reader: &Reader<'_>, policy: &ObjectName, target: &Target) -> bool {
    let object = target.object(policy);
    if object.namespace != policy.namespace || !is_target_group(target) {
        return false;
    }
    let asked = match &*target.kind {
        "Service" => reader
            .get::<culvert_objects::Service>(&object)
            .and_then(|service| waypoint::named(reader, &object, &**service)),
        "ServiceEntry" => reader
            .get::<ServiceEntry>(&object)
            .and_then(|entry| waypoint::named(reader, &object, &**entry)),
        _ => None,
    };
    asked.is_some_and(|asked| {
        asked
            .names()
            .all(|name| gateways::takes(reader, name, &object.namespace))
    })
}

/// Whether the group of a target is that of its kind, and waypoints are for that.
pub(in crate::model) fn is_target_group(target: &Target) -> bool {
    match &*target.kind {
        "Service" => target.group.is_empty() || &*target.group == "core",
        "ServiceEntry" => ["networking.istio.io", ""].contains(&&*target.group),
        "Gateway" | "GatewayClass" => &*target.group == "gateway.networking.k8s.io",
        _ => false,
    }
}
