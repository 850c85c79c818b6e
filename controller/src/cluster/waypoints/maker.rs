//! Making a waypoint, repairing it, and saying in the Gateway's status how far it is.

use std::collections::BTreeMap;

use culvert_deploy::Document;
use culvert_deploy::waypoint::{GATEWAY_NAME, Overlays, Waypoint};
use culvert_objects::Kind;
use k8s_openapi::jiff::Timestamp;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, ValidationDirective,
};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::apply;
use super::classes::{CONTROLLER, Class};
use super::gateway::Asked;
use super::parameters;
use super::present::{Name, Part, Present};
use super::refusal::{Refusal, refusal};
use super::settings::Settings;
use super::status::{self, Progress};
use crate::cluster::manager::MANAGER;

/// Writes to the API server.
pub(super) struct Maker {
    client: Client,
    settings: Settings,
    /// What was applied, and which version of the object came of it: an object that is not as applied even so is another's doing,
    /// which is not undone again and again.
    applied: BTreeMap<Name, (Value, Option<String>)>,
}

impl Maker {
    pub(super) fn new(client: Client, settings: Settings) -> Self {
        Self {
            client,
            settings,
            applied: BTreeMap::new(),
        }
    }

    /// Makes whatever of a waypoint is not there or not as it should be; nothing at all where something of another's is in its place.
    ///
    /// # Errors
    /// What the Gateway is to say about it.
    pub(super) async fn make(&mut self, asked: &Asked, present: &mut Present) -> Result<(), Refusal> {
        let overlays = parameters::read(&self.client, asked).await?;
        let documents = self.documents(asked, overlays)?;
        let is_scaled = documents
            .iter()
            .any(|document| document.id().kind == "HorizontalPodAutoscaler");
        let mut due = Vec::new();
        for document in documents {
            let kind = &document.id().kind;
            let no_part = || refusal("Invalid", format!("{kind} is no part of a waypoint"));
            let part = Part::of_kind(kind).ok_or_else(no_part)?;
            let name = (part, asked.name.namespace.to_string(), document.id().name.clone());
            if self.is_made(asked, &name, &document, present)? {
                continue;
            }
            if present.get(&name).is_none() {
                self.check_free(asked, &name).await?;
            }
            due.push((name, document));
        }
        for (name, document) in due {
            let applied = self.apply(asked, &name, &document).await?;
            tracing::info!(gateway = %asked.name, object = %document.id(), "made for a waypoint");
            let version = applied.metadata.resource_version.clone();
            present.put(name.0, applied);
            self.applied.insert(name, (document.into_value(), version));
        }
        if is_scaled {
            return Ok(());
        }
        self.unscale(asked, present).await
    }

    /// Deletes the autoscaler of a waypoint whose parameters ask for none any more.
    async fn unscale(&mut self, asked: &Asked, present: &mut Present) -> Result<(), Refusal> {
        let home = asked.name.namespace.to_string();
        let name = (Part::Autoscaler, home, asked.name.name.to_string());
        if !present.get(&name).is_some_and(|there| is_owned(there, &asked.uid)) {
            return Ok(());
        }
        match self.api(&name).delete(&name.2, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                let message = format!(
                    "HorizontalPodAutoscaler {}/{} is no longer asked for and cannot be deleted: {}",
                    name.1,
                    name.2,
                    text(&error)
                );
                return Err(refusal("Pending", message));
            }
        }
        present.remove(&name);
        self.applied.remove(&name);
        Ok(())
    }

    fn documents(&self, asked: &Asked, overlays: Overlays) -> Result<Vec<Document>, Refusal> {
        let missing = "the controller is not told which image waypoints have (--waypoint-image)";
        let image = match asked.class {
            Class::Culvert => self.settings.image.clone().ok_or_else(|| refusal("Invalid", missing))?,
            Class::Envoy => self.settings.envoy_image.clone(),
        };
        let waypoint = Waypoint {
            namespace: asked.name.namespace.to_string(),
            name: asked.name.name.to_string(),
            class: asked.class.name().to_owned(),
            uid: asked.uid.clone(),
            manager: MANAGER.to_owned(),
            labels: asked.labels.clone(),
            annotations: asked.annotations.clone(),
            proxy: asked.class.proxy(),
            image,
            pull_policy: self.settings.pull_policy.clone(),
            environment: self.settings.environment.clone(),
            overlays,
        };
        waypoint.documents().map_err(|error| match &error {
            culvert_deploy::Error::Overlay(why) => {
                let name = asked.parameters.as_deref().unwrap_or_default();
                refusal(
                    parameters::INVALID,
                    format!("ConfigMap {}/{name}: {why}", asked.name.namespace),
                )
            }
            _ => refusal("Invalid", error.to_string()),
        })
    }

    /// Whether an object is as it should be, or as far as it can be brought.
    fn is_made(&self, asked: &Asked, name: &Name, document: &Document, present: &Present) -> Result<bool, Refusal> {
        let Some(there) = present.get(name) else {
            return Ok(false);
        };
        if !is_owned(there, &asked.uid) {
            // One of an earlier Gateway of the same name goes by itself, soon.
            return Err(not_ours(name));
        }
        // What is wanted no longer is taken away by applying what is. What was wanted before this process began is not known.
        let Some((wanted, version)) = self.applied.get(name) else {
            return Ok(false);
        };
        if wanted != document.value() {
            return Ok(false);
        }
        let value = serde_json::to_value(there).unwrap_or_default();
        Ok(*version == there.metadata.resource_version || apply::holds(document.value(), &value))
    }

    /// An error if there is an object of the name that does not carry our label: it is somebody else's.
    async fn check_free(&self, asked: &Asked, name: &Name) -> Result<(), Refusal> {
        match self.api(name).get_opt(&name.2).await {
            Ok(None) => Ok(()),
            Ok(Some(there)) if is_owned(&there, &asked.uid) => Ok(()),
            Ok(Some(_)) => Err(not_ours(name)),
            Err(error) => Err(failed(name, &error)),
        }
    }

    async fn apply(&self, asked: &Asked, name: &Name, document: &Document) -> Result<DynamicObject, Refusal> {
        let params = PatchParams {
            // A field that is misspelt in parameters is an error, not nothing.
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(MANAGER).force()
        };
        let patch = Patch::Apply(document.value());
        let applied = self.api(name).patch(&name.2, &params, &patch).await;
        applied.map_err(|error| match (&asked.parameters, &error) {
            // Without parameters, what is made is always valid.
            (Some(parameters), Error::Api(status)) if is_malformed(status.code, &status.message) => {
                let why = failed(name, &error).message;
                refusal(
                    parameters::INVALID,
                    format!("ConfigMap {}/{parameters}: {why}", asked.name.namespace),
                )
            }
            _ => failed(name, &error),
        })
    }

    fn api(&self, (part, namespace, _): &Name) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &part.resource())
    }

    /// Writes the status of a Gateway, unless it is there already.
    ///
    /// # Errors
    /// Why it could not be written. That the Gateway is gone is none.
    pub(super) async fn say(&self, asked: &Asked, progress: &Progress, domain: &str) -> Result<(), String> {
        let descriptor = Kind::Gateway.descriptor();
        let kind = GroupVersionKind::gvk(descriptor.group, descriptor.version(), descriptor.name);
        let resource = ApiResource::from_gvk_with_plural(&kind, descriptor.plural);
        let api = Api::namespaced_with(self.client.clone(), &asked.name.namespace, &resource);
        let of = |before: &Value| status::of_gateway(asked, progress, domain, before, Timestamp::now());
        write_status(&api, &asked.name.name, of).await.map(drop)
    }

    /// Makes a class where it is not there, and says in its status whether it is served; the version of it that this is about.
    /// Nothing in a cluster that does not have the kind.
    ///
    /// # Errors
    /// Why that could not be done, or whose the class is instead.
    pub(super) async fn class(&self, class: Class, there: Option<&Value>) -> Result<Option<i64>, String> {
        let controller = there
            .and_then(|spec| spec.get("controllerName"))
            .and_then(Value::as_str);
        if let Some(other) = controller.filter(|name| *name != CONTROLLER) {
            return Err(format!("it belongs to the controller {other}"));
        }
        let descriptor = Kind::GatewayClass.descriptor();
        let kind = GroupVersionKind::gvk(descriptor.group, descriptor.version(), descriptor.name);
        let api: Api<DynamicObject> = Api::all_with(
            self.client.clone(),
            &ApiResource::from_gvk_with_plural(&kind, descriptor.plural),
        );
        if controller.is_none() {
            let params = PatchParams::apply(MANAGER);
            match api.patch(class.name(), &params, &Patch::Apply(&class.object())).await {
                Ok(_) => {}
                Err(Error::Api(status)) if status.code == 404 => return Ok(None),
                Err(error) => return Err(text(&error)),
            }
        }
        let of = |generation, before: &Value| status::of_class(generation, before, Timestamp::now());
        let generation = api
            .get(class.name())
            .await
            .map_err(|error| text(&error))?
            .metadata
            .generation;
        let generation = generation.unwrap_or_default();
        write_status(&api, class.name(), |before| of(generation, before)).await?;
        Ok(Some(generation))
    }
}

/// How many pods of a waypoint serve.
pub(super) fn available(asked: &Asked, present: &Present) -> i64 {
    let name = (
        Part::Deployment,
        asked.name.namespace.to_string(),
        asked.name.name.to_string(),
    );
    let deployment = present.get(&name).filter(|there| is_owned(there, &asked.uid));
    let available = deployment.and_then(|there| there.data.pointer("/status/availableReplicas"));
    available.and_then(Value::as_i64).unwrap_or_default()
}

/// Writes a status where it differs from what is there.
async fn write_status(api: &Api<DynamicObject>, name: &str, of: impl Fn(&Value) -> Value) -> Result<(), String> {
    let Some(object) = api.get_opt(name).await.map_err(|error| text(&error))? else {
        return Ok(());
    };
    let before = object.data.get("status").unwrap_or(&Value::Null);
    let due = of(before);
    if apply::holds(&due, before)
        && before["listeners"].as_array().map(Vec::len) == due["listeners"].as_array().map(Vec::len)
    {
        return Ok(());
    }
    let patch = json!({
        // Whoever else writes conditions in between is not overwritten: the API server refuses this then.
        "metadata": { "resourceVersion": object.metadata.resource_version },
        "status": due,
    });
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api.patch_status(name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(text(&error)),
    }
}

/// Whether it goes with the Gateway of this uid.
fn is_owned(object: &DynamicObject, uid: &str) -> bool {
    let owners = object.metadata.owner_references.iter().flatten();
    let labelled = object
        .metadata
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(GATEWAY_NAME));
    labelled && owners.into_iter().any(|owner| owner.uid == uid)
}

fn not_ours(name: &Name) -> Refusal {
    let kind = name.0.resource().kind;
    let message = format!(
        "{kind} {}/{} is there and is not this Gateway's: it is left alone, and no waypoint is made",
        name.1, name.2
    );
    refusal("Invalid", message)
}

fn failed(name: &Name, error: &Error) -> Refusal {
    let kind = name.0.resource().kind;
    refusal(
        "Pending",
        format!("{kind} {}/{} cannot be made: {}", name.1, name.2, text(error)),
    )
}

/// Whether the API server says that an object cannot be. Of a field that it does not know in an applied object it says so with 500.
fn is_malformed(code: u16, message: &str) -> bool {
    [400, 422].contains(&code) || message.contains("failed to create typed patch object")
}

fn text(error: &Error) -> String {
    match error {
        Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}
