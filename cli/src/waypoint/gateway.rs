//! A Gateway that is a waypoint: the object, and what its status says.

use super::flags::{Class, Serves};
use crate::cluster::Failure;
use culvert_objects::WAYPOINT_FOR;
use kube::{
    Error,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

/// A Gateway, as far as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) class: String,
    accepted: Condition,
    programmed: Condition,
    in_force: Condition,
    address: String,
}

/// A condition of it; unknown where the controller has not spoken yet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Condition {
    status: String,
    reason: String,
    message: String,
}

/// How the API server knows Gateways.
pub(super) fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
    ApiResource::from_gvk_with_plural(&kind, "gateways")
}

/// The object.
pub(super) fn object(name: &str, namespace: &str, class: Class, serves: Option<Serves>) -> Value {
    let mut object = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "gatewayClassName": class.name(),
            "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }],
        },
    });
    if let Some(serves) = serves {
        object["metadata"]["labels"] = json!({ WAYPOINT_FOR: serves.name() });
    }
    object
}

/// What an error means that came up with Gateways: most often that the cluster has no such kind.
pub(super) fn failure(doing: impl Into<String>, error: Error) -> Failure {
    match &error {
        Error::Api(status) if status.code == 404 => Failure::Other {
            doing: doing.into(),
            cause: "the cluster does not know Gateways\n  remedy: install the CRDs of the Gateway API, version 1.2 or later: \
                    https://gateway-api.sigs.k8s.io/guides/#installing-gateway-api"
                .to_owned(),
        },
        _ => Failure::of(doing, error),
    }
}

impl Gateway {
    /// Reads an object.
    pub(super) fn of(object: &DynamicObject) -> Self {
        let text = |pointer: &str| {
            object
                .data
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            class: text("/spec/gatewayClassName"),
            accepted: Condition::of(object, "Accepted"),
            programmed: Condition::of(object, "Programmed"),
            in_force: Condition::of(object, "culvert.dev/InForce"),
            address: text("/status/addresses/0/value"),
        }
    }

    /// Whether it is a waypoint of this mesh.
    pub(super) fn is_waypoint(&self) -> bool {
        [Class::Culvert, Class::Envoy]
            .iter()
            .any(|class| class.name() == self.class)
    }

    /// Whether it serves.
    pub(super) fn is_programmed(&self) -> bool {
        self.programmed.status == "True"
    }

    /// What its pods refuse of what the controller sends them, if they do.
    pub(super) fn refused(&self) -> Option<&str> {
        (self.in_force.status == "False").then_some(self.in_force.message.as_str())
    }

    /// Why it does not serve.
    pub(super) fn why_not(&self) -> String {
        let refused = [&self.accepted, &self.programmed];
        let Some(first) = refused.into_iter().find(|condition| condition.status == "False") else {
            return "the controller has said nothing of it yet\n  remedy: `culvert status` shows whether one runs"
                .to_owned();
        };
        format!("{} ({})", first.message, first.reason)
    }

    pub(super) fn row(&self) -> Vec<String> {
        let Self {
            namespace,
            name,
            class,
            accepted,
            programmed,
            address,
            in_force: _,
        } = self;
        let cells = [namespace, name, class, &accepted.shown(), &programmed.shown(), address];
        cells.map(ToString::to_string).to_vec()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "namespace": self.namespace,
            "name": self.name,
            "class": self.class,
            "accepted": self.accepted.json(),
            "programmed": self.programmed.json(),
            "refused": self.refused(),
            "address": self.address,
        })
    }
}

impl Condition {
    fn of(object: &DynamicObject, name: &str) -> Self {
        let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
        let mut found = conditions.into_iter().flatten().filter(|one| one["type"] == name);
        // What the API server fills in of itself says that no controller has spoken.
        let Some(one) = found.next().filter(|one| one["status"] != "Unknown") else {
            return Self::default();
        };
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
        Self {
            status: text("status"),
            reason: text("reason"),
            message: text("message"),
        }
    }

    fn shown(&self) -> String {
        match self.status.as_str() {
            "True" => "yes".to_owned(),
            "False" => format!("no: {}", self.reason),
            _ => "not yet".to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({ "status": self.status, "reason": self.reason, "message": self.message })
    }
}

#[cfg(test)]
mod tests {
    use super::{Gateway, object};
    use crate::waypoint::flags::{Class, Serves};
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    fn gateway(conditions: Value) -> Gateway {
        let mut value = object("wp", "shop", Class::Culvert, Some(Serves::All));
        assert_eq!(value["metadata"]["labels"]["istio.io/waypoint-for"], "all");
        value["status"] = json!({ "conditions": conditions, "addresses": [{ "value": "wp.shop.svc.cluster.local" }] });
        let object: DynamicObject = serde_json::from_value(value).unwrap();
        Gateway::of(&object)
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_word_of_a_controller() {
        let waits = json!([{ "type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller" }]);
        let waits = gateway(waits);
        assert!(waits.is_waypoint() && !waits.is_programmed());
        assert_eq!(waits.row()[3..5], ["not yet", "not yet"]);
        assert!(waits.why_not().contains("culvert status"), "{}", waits.why_not());
    }

    #[test]
    fn the_first_reason_is_the_one_that_is_told() {
        let refused = gateway(json!([
            { "type": "Programmed", "status": "False", "reason": "Invalid", "message": "see Accepted" },
            { "type": "Accepted", "status": "False", "reason": "UnsupportedAddress", "message": "spec.addresses: none" },
        ]));
        assert_eq!(refused.why_not(), "spec.addresses: none (UnsupportedAddress)");
        assert_eq!(refused.row()[3], "no: UnsupportedAddress");
        let serves = gateway(json!([{ "type": "Programmed", "status": "True" }]));
        assert!(serves.is_programmed());
        assert_eq!(serves.row()[4..], ["yes", "wp.shop.svc.cluster.local"]);
        assert_eq!(serves.refused(), None);
    }

    #[test]
    fn what_its_pods_refuse_is_shown_although_it_serves() {
        let refuses = gateway(json!([
            { "type": "Programmed", "status": "True" },
            { "type": "culvert.dev/InForce", "status": "False", "reason": "RefusedByProxy", "message": "a pod refuses it" },
        ]));
        assert!(refuses.is_programmed());
        assert_eq!(refuses.refused(), Some("a pod refuses it"));
        assert_eq!(refuses.json()["refused"], "a pod refuses it");
    }
}
