//! Which Gateways are waypoints of ours, and whom they take.

use std::sync::Arc;

use culvert_objects::{Gateway, GatewayClass, KindSpec as _, Namespace, ObjectName, WAYPOINT_FOR};
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

/// What goes through a waypoint of what asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What is for Services.
    Services,
    /// What is for pods by their own addresses.
    Workloads,
    /// Both.
    All,
    /// Nothing.
    Nothing,
    /// A word that nobody knows: whatever asks for the waypoint is refused, as if it were not there.
    Unknown,
}

impl Purpose {
    fn of(word: &str) -> Self {
        match word {
            "service" => Self::Services,
            "workload" => Self::Workloads,
            "all" => Self::All,
            "none" => Self::Nothing,
            _ => Self::Unknown,
        }
    }

    /// Whether Services that ask for the waypoint are reached through it.
    pub(super) fn has_services(self) -> bool {
        matches!(self, Self::Services | Self::All)
    }

    /// Whether pods are that ask for it.
    pub(super) fn has_workloads(self) -> bool {
        matches!(self, Self::Workloads | Self::All)
    }
}

/// What the waypoint of a name is for, whosever it is: by its Gateway, else by the class of that, else Services. None where there is no
/// such Gateway.
pub(super) fn purpose(reader: &Reader<'_>, name: &ObjectName) -> Option<Purpose> {
    let gateway = reader.get::<Gateway>(name)?;
    Some(word(reader, gateway).map_or(Purpose::Services, Purpose::of))
}

/// What a Gateway, or else its class, says that it is for.
pub(super) fn word<'a>(reader: &Reader<'a>, gateway: &'a Gateway) -> Option<&'a str> {
    let of_class = || {
        let class = gateway.spec["gatewayClassName"].as_str()?;
        reader
            .get::<GatewayClass>(&ObjectName::cluster(class))?
            .label(WAYPOINT_FOR)
    };
    gateway.label(WAYPOINT_FOR).or_else(of_class)
}

/// Whether there is such a waypoint of ours, and it takes Services of a namespace.
pub(super) fn takes(reader: &Reader<'_>, name: &ObjectName, namespace: &str) -> bool {
    purpose(reader, name).is_some_and(Purpose::has_services)
        && gateway(reader, name).is_some_and(|gateway| admits(reader, name, gateway, namespace))
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
