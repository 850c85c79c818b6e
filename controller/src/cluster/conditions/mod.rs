//! What is said in the status of objects.
//!
//! | module | of which objects | what |
//! |---|---|---|
//! | `in_force` | Istio's | whether all that it says is in force, and the addresses that were chosen for its hosts |
//! | `parents` | routes of the Gateway API, and policies that are attached to objects | what they come to at each Service that they are for |
//! | `parents` | ListenerSets, which are not served | the same, as conditions of the object |
//! | `seen` | all | whose status may be another since the state before |
//!
//! The leader writes it, after looking whether it is there: a new leader and a change that changes nothing write nothing. What
//! others say there stays. Who writes in between is not overwritten: then the object is read again.

mod in_force;
mod parents;
mod seen;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{Kind, ObjectName};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::manager::MANAGER;
use crate::state::State;
pub(super) use in_force::shortened;
use seen::{Reference, Said, Seen};

/// How long objects are left alone after a change: those that belong together arrive one after the other.
const SETTLE: Duration = Duration::from_secs(2);
/// Between two objects: a new leader looks at each once, and an API server has other work.
const PAUSE: Duration = Duration::from_millis(20);
/// Before an object is tried again that could not be written.
const RETRY: Duration = Duration::from_secs(30);
/// How often an object is read again at once that somebody else has written in between.
const CONFLICTS: usize = 3;

/// Writes the status of objects while this replica leads.
pub(super) struct Conditions {
    pub(super) client: Client,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) leader: watch::Receiver<bool>,
    pub(super) stop: watch::Receiver<bool>,
}

/// Why the status of an object is not written yet.
enum Failure {
    /// It is gone, or its kind is: nothing is to be written.
    Gone,
    /// Somebody else has written it since it was read.
    Conflict,
    /// It may work later.
    Later(Box<Error>),
}

impl Conditions {
    /// Until `stop` turns true.
    pub(super) async fn run(mut self) {
        let mut seen = Seen::default();
        let mut due: BTreeSet<Reference> = BTreeSet::new();
        let (mut led, mut retry) = (false, false);
        loop {
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { return },
                changed = self.leader.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if retry => {}
                _ = self.stop.wait_for(|stop| *stop) => return,
            }
            tokio::time::sleep(SETTLE).await;
            let state = Arc::clone(&self.state.borrow_and_update());
            let changed = seen.update(&state);
            let leads = *self.leader.borrow_and_update();
            match (leads, led) {
                (true, true) => due.extend(changed),
                (true, false) => due = seen.all(),
                (false, _) => due.clear(),
            }
            led = leads;
            let mut again = BTreeSet::new();
            while let Some(reference) = due.pop_first() {
                if *self.stop.borrow() {
                    return;
                }
                if !self.written(&reference, &seen.said(&reference)).await {
                    again.insert(reference);
                }
                tokio::time::sleep(PAUSE).await;
            }
            retry = !again.is_empty();
            due = again;
        }
    }

    /// Whether the status of an object is as it is to be, or can never be: it is not to be tried again.
    async fn written(&self, reference: &Reference, said: &Said) -> bool {
        let (kind, name) = reference;
        for _ in 0..=CONFLICTS {
            match self.write(reference, said).await {
                Ok(()) | Err(Failure::Gone) => return true,
                Err(Failure::Conflict) => {}
                Err(Failure::Later(error)) => {
                    tracing::debug!(%error, object = %format!("{kind} {name}"), "its status could not be written");
                    return false;
                }
            }
        }
        false
    }

    /// Writes what is said of an object into its status, unless it is there already.
    async fn write(&self, (kind, name): &Reference, said: &Said) -> Result<(), Failure> {
        let (api, object) = self.read(*kind, name).await?;
        let status = object.data.get("status").unwrap_or(&Value::Null);
        let Some(due) = said.due(status, Timestamp::now()) else {
            return Ok(());
        };
        let patch = json!({
            // Whoever else writes in between is not overwritten: the API server refuses this then.
            "metadata": { "resourceVersion": object.metadata.resource_version },
            "status": due,
        });
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let written = api.patch_status(&name.name, &params, &Patch::Merge(&patch)).await;
        written.map(drop).map_err(Failure::of)
    }

    /// The object, and by which version of its kind it can be written: a cluster need not have the one that is asked for first.
    async fn read(&self, kind: Kind, name: &ObjectName) -> Result<(Api<DynamicObject>, DynamicObject), Failure> {
        for version in kind.descriptor().versions {
            let api = self.api(kind, version, name);
            match api.get(&name.name).await.map_err(Failure::of) {
                Ok(object) => return Ok((api, object)),
                Err(Failure::Gone) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Gone)
    }

    fn api(&self, kind: Kind, version: &str, name: &ObjectName) -> Api<DynamicObject> {
        let descriptor = kind.descriptor();
        let resource = ApiResource {
            group: descriptor.group.to_owned(),
            version: version.to_owned(),
            api_version: format!("{}/{version}", descriptor.group),
            kind: descriptor.name.to_owned(),
            plural: descriptor.plural.to_owned(),
        };
        Api::namespaced_with(self.client.clone(), &name.namespace, &resource)
    }
}

impl Failure {
    fn of(error: Error) -> Self {
        match &error {
            Error::Api(status) if status.code == 404 => Self::Gone,
            Error::Api(status) if status.code == 409 => Self::Conflict,
            _ => Self::Later(Box::new(error)),
        }
    }
}
