//! Which waypoint a Service is behind.

use std::sync::Arc;

use culvert_objects::{Gateway, GatewayClass, KindSpec as _, Namespace, ObjectName, ServiceEntry, Target};
use culvert_proto::workload::Service;
use serde_json::Value;

use super::super::reader::Reader;
use super::super::{waypoint, wire};
use super::behind;

/// The classes of Gateways that are waypoints of ours, whether there is an object of the name or not.
const CLASSES: [&str; 2] = ["culvert-waypoint", ENVOY];
const ENVOY: &str = "culvert-envoy";
/// What another class names whose Gateways are ours, too.
const CONTROLLER: &str = "culvert.dev/controller";

/// The Gateway of a waypoint of ours; none where there is no such, or it is of a class of others.
pub(in crate::model) fn gateway<'a>(reader: &Reader<'a>, name: &ObjectName) -> Option<&'a Arc<Gateway>> {
    let gateway = reader.get::<Gateway>(name)?;
    let class = gateway.spec["gatewayClassName"].as_str()?;
    if CLASSES.contains(&class) {
        return Some(gateway);
    }
    let class = reader.get::<GatewayClass>(&ObjectName::cluster(class))?;
    (class.spec["controllerName"] == CONTROLLER).then_some(gateway)
}

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

/// The scope of the waypoint that a Service is behind, if there is such a waypoint and it takes Services of that namespace.
pub(super) fn of_service(reader: &Reader<'_>, service: &Service) -> Option<Arc<str>> {
    let host = behind::waypoint_host(service)?;
    let name = wire::object_of_host(reader.settings(), &host)?;
    let gateway = gateway(reader, &name)?;
    admits(reader, &name, gateway, &service.namespace).then(|| of_gateway(&name))
}

/// Whether a policy of this name decides about a target at a waypoint of ours: a Service or ServiceEntry of its own namespace that is
/// behind one. Units of both rounds may ask.
pub(in crate::model) fn of_target(reader: &Reader<'_>, policy: &ObjectName, target: &Target) -> bool {
    let object = target.object(policy);
    if object.namespace != policy.namespace || !is_target_group(target) {
        return false;
    }
    let asked = match &*target.kind {
        "Service" => reader
            .get::<culvert_objects::Service>(&object)
            .and_then(|service| waypoint::named(reader, &object, |key| service.label(key))),
        "ServiceEntry" => reader
            .get::<ServiceEntry>(&object)
            .and_then(|entry| waypoint::named(reader, &object, |key| entry.labels.get(key))),
        _ => None,
    };
    asked.is_some_and(|asked| {
        gateway(reader, &asked).is_some_and(|gateway| admits(reader, &asked, gateway, &object.namespace))
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

/// Whether a Gateway takes routes and Services of a namespace: one of its listeners must, and without a word they take those of the
/// Gateway's own.
pub(in crate::model) fn admits(reader: &Reader<'_>, name: &ObjectName, gateway: &Gateway, namespace: &str) -> bool {
    let listeners = gateway.spec["listeners"].as_array().into_iter().flatten();
    let mut from = listeners.map(|listener| &listener["allowedRoutes"]["namespaces"]);
    from.any(|namespaces| match namespaces["from"].as_str().unwrap_or("Same") {
        "Same" => *name.namespace == *namespace,
        "All" => true,
        "Selector" => {
            let found = reader.get::<Namespace>(&ObjectName::cluster(namespace));
            found.is_some_and(|found| {
                selects(&namespaces["selector"], |key| {
                    found.metadata.labels.as_ref()?.get(key).map(String::as_str)
                })
            })
        }
        _ => false,
    })
}

/// Whether a label selector selects; one that cannot be read selects nothing.
fn selects<'a>(selector: &Value, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    let has_labels = match &selector["matchLabels"] {
        Value::Null => true,
        Value::Object(labels) => labels
            .iter()
            .all(|(key, value)| value.as_str().is_some_and(|value| label(key) == Some(value))),
        _ => false,
    };
    let expressions = match &selector["matchExpressions"] {
        Value::Null => &[],
        Value::Array(expressions) => expressions.as_slice(),
        _ => return false,
    };
    has_labels && expressions.iter().all(|expression| holds(expression, &label))
}

fn holds<'a>(expression: &Value, label: &impl Fn(&str) -> Option<&'a str>) -> bool {
    let Some(key) = expression["key"].as_str() else {
        return false;
    };
    let is_listed = |value: &str| {
        let mut values = expression["values"].as_array().into_iter().flatten();
        values.any(|listed| *listed == *value)
    };
    match (expression["operator"].as_str(), label(key)) {
        (Some("In"), value) => value.is_some_and(is_listed),
        (Some("NotIn"), value) => !value.is_some_and(is_listed),
        (Some("Exists"), value) => value.is_some(),
        (Some("DoesNotExist"), value) => value.is_none(),
        _ => false,
    }
}
