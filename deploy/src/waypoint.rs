//! What the controller makes for a waypoint: the objects of `waypoint/waypoint.yaml`, filled in.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Document, Error, files};

mod envoy;
mod overlay;

use overlay::AUTOSCALER;
pub use overlay::Overlays;

/// The label by which all that belongs to a Gateway is known, as the Gateway API has it.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Beside it: the Gateway's class.
pub const GATEWAY_CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";
/// Says who keeps an object as it is.
pub const MANAGED_BY: &str = "culvert.dev/managed-by";

/// The program that a waypoint runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Our own.
    Culvert,
    /// Envoy, with the same configuration.
    Envoy,
}

/// A waypoint to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waypoint {
    /// The Gateway's namespace, and that of all that is made for it.
    pub namespace: String,
    /// The Gateway's name, and that of all that is made for it.
    pub name: String,
    /// The Gateway's class.
    pub class: String,
    /// The Gateway's uid: what is made for it goes with it.
    pub uid: String,
    /// Who makes it: the value of the label [`MANAGED_BY`].
    pub manager: String,
    /// Labels for all objects and for the pods, as the Gateway's `spec.infrastructure` asks for. Those that the waypoint lives by win.
    pub labels: BTreeMap<String, String>,
    /// The same of annotations.
    pub annotations: BTreeMap<String, String>,
    /// The program.
    pub proxy: Proxy,
    /// The image of the program.
    pub image: String,
    /// When it is pulled: `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// What the program is told beside what is the same for all waypoints: environment variables.
    pub environment: BTreeMap<String, String>,
    /// What the Gateway's parameters change.
    pub overlays: Overlays,
}

impl Waypoint {
    /// The objects to apply, in an order in which each finds what it needs.
    ///
    /// # Errors
    /// When the file is no manifest, or lacks a place that is to be filled in: a mistake in it that tests find. When parameters cannot
    /// be obeyed.
    pub fn documents(&self) -> Result<Vec<Document>, Error> {
        let templates = files::WAYPOINT.documents()?.into_iter();
        let wanted = templates.filter(|template| template.id().kind != AUTOSCALER || self.overlays.has_autoscaler());
        wanted.map(|template| self.filled_in(template)).collect()
    }

    fn filled_in(&self, template: Document) -> Result<Document, Error> {
        let id = template.id().clone();
        let mut value = template.into_value();
        value["metadata"] = json!({
            "name": self.name,
            "namespace": self.namespace,
            "labels": self.all_labels(),
            "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": self.name, "uid": self.uid,
            }],
        });
        if !self.annotations.is_empty() {
            value["metadata"]["annotations"] = json!(self.annotations);
        }
        let selector = json!({ GATEWAY_NAME: self.name });
        let places: &[&str] = match id.kind.as_str() {
            "Deployment" => {
                self.fill_in_pods(&mut value, &id)?;
                &[
                    "/spec/selector/matchLabels",
                    "/spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels",
                    "/spec/template/spec/topologySpreadConstraints/1/labelSelector/matchLabels",
                ]
            }
            "Service" => &["/spec/selector"],
            "PodDisruptionBudget" => &["/spec/selector/matchLabels"],
            AUTOSCALER => {
                value["spec"]["scaleTargetRef"]["name"] = json!(self.name);
                &[]
            }
            _ => &[],
        };
        for place in places {
            let missing = || Error::Place {
                id: id.clone(),
                path: place,
            };
            *value.pointer_mut(place).ok_or_else(missing)? = selector.clone();
        }
        self.overlays.lay_over(&id.kind, &mut value)?;
        Document::new(value).map_err(|reason| files::WAYPOINT.error(reason))
    }

    /// Writes into the pods of a Deployment what is this waypoint's.
    fn fill_in_pods(&self, deployment: &mut Value, id: &crate::Id) -> Result<(), Error> {
        let mut at = |path: &'static str| {
            let found = deployment.pointer_mut(path).map(std::mem::take);
            found.ok_or(Error::Place { id: id.clone(), path })
        };
        let mut metadata = at("/spec/template/metadata")?;
        let mut container = at("/spec/template/spec/containers/0")?;
        let _ = at("/spec/template/spec/serviceAccountName")?;
        merge_over(&mut metadata["annotations"], &self.annotations);
        merge_over(&mut metadata["labels"], &self.all_labels());
        container["image"] = json!(self.image);
        container["imagePullPolicy"] = json!(self.pull_policy);
        if let Some(environment) = container["env"].as_array_mut() {
            environment.push(json!({ "name": "CULVERT_GATEWAY", "value": self.name }));
            let more = self.environment.iter();
            environment.extend(more.map(|(name, value)| json!({ "name": name, "value": value })));
        }
        if self.proxy == Proxy::Envoy {
            let mut variables = container["env"].as_array().into_iter().flatten();
            // The last one of a name counts.
            let controller = variables.rfind(|variable| variable["name"] == "CULVERT_CONTROLLER");
            let controller = controller.and_then(|variable| variable["value"].as_str());
            let missing = || Error::Place {
                id: id.clone(),
                path: "/spec/template/spec/containers/0/env",
            };
            container["args"] = envoy::arguments(controller.ok_or_else(missing)?, &self.name);
        }
        deployment["spec"]["template"]["metadata"] = metadata;
        deployment["spec"]["template"]["spec"]["containers"][0] = container;
        deployment["spec"]["template"]["spec"]["serviceAccountName"] = json!(self.name);
        Ok(())
    }

    /// What is asked for, under what the waypoint is known by.
    fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(GATEWAY_NAME.to_owned(), self.name.clone());
        labels.insert(GATEWAY_CLASS_NAME.to_owned(), self.class.clone());
        labels.insert(MANAGED_BY.to_owned(), self.manager.clone());
        labels
    }
}

/// Adds what is not there yet.
fn merge_over(target: &mut Value, more: &BTreeMap<String, String>) {
    for (key, value) in more {
        if target.get(key).is_none() {
            target[key] = json!(value);
        }
    }
}

#[cfg(test)]
mod tests;
