//! Which Gateways are waypoints of ours, and whom they take.

use std::sync::Arc;

use culvert_objects::{Gateway, GatewayClass, Namespace, ObjectName};
use serde_json::Value;

use super::reader::Reader;

/// The classes of Gateways that are waypoints of ours, whether there is an object of the name or not.
const CLASSES: [&str; 2] = ["culvert-waypoint", "culvert-envoy"];
/// What another class names whose Gateways are ours, too.
const CONTROLLER: &str = "culvert.dev/controller";

/// The Gateway of a waypoint of ours; none where there is no such, or it is of a class of others.
pub(super) fn gateway<'a>(reader: &Reader<'a>, name: &ObjectName) -> Option<&'a Arc<Gateway>> {
    let gateway = reader.get::<Gateway>(name)?;
    let class = gateway.spec["gatewayClassName"].as_str()?;
    if CLASSES.contains(&class) {
        return Some(gateway);
    }
    let class = reader.get::<GatewayClass>(&ObjectName::cluster(class))?;
    (class.spec["controllerName"] == CONTROLLER).then_some(gateway)
}

/// Whether there is such a waypoint of ours, and it takes Services of a namespace.
pub(super) fn takes(reader: &Reader<'_>, name: &ObjectName, namespace: &str) -> bool {
    gateway(reader, name).is_some_and(|gateway| admits(reader, name, gateway, namespace))
}

/// Whether a Gateway takes routes and Services of a namespace: one of its listeners must, and without a word they take those of the
/// Gateway's own.
pub(super) fn admits(reader: &Reader<'_>, name: &ObjectName, gateway: &Gateway, namespace: &str) -> bool {
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
