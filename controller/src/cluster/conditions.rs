//! A condition in the status of each of Istio's objects: whether all that it says is in force, and if not, what holds instead.
//!
//! | `type` | `status` | `reason` | `message` |
//! |---|---|---|---|
//! | `culvert.dev/InForce` | `True` | `AsWritten` | empty |
//! | | `False` | `NotAsWritten` | each field, and what holds instead of what it says |
//!
//! A ServiceEntry's status also has the addresses that were chosen for its hosts, in Istio's form: `addresses`, a list of `host`
//! and `value`. There all replicas find them again, and those that come after.
//!
//! The leader writes it, after looking whether it is there: a new leader and a change that changes nothing write nothing. Other
//! conditions, Istio's own for instance, stay. Kinds of the Gateway API have no place for it: their status belongs to the
//! controller that an object names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{Finding, Findings, Kind, ObjectName, Objects};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::manager::MANAGER;
use crate::model::Allocations;
use crate::state::State;

/// The condition's type.
const TYPE: &str = "culvert.dev/InForce";
/// How long objects are left alone after a change: those that belong together arrive one after the other.
const SETTLE: Duration = Duration::from_secs(2);
/// Between two objects: a new leader looks at each once, and an API server has other work.
const PAUSE: Duration = Duration::from_millis(20);
/// Before an object is tried again that could not be written.
const RETRY: Duration = Duration::from_secs(30);
/// The longest message that Kubernetes' own conditions may have, bytes.
const LONGEST: usize = 32_768;

/// Writes conditions while this replica leads.
pub(super) struct Conditions {
    pub(super) client: Client,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) leader: watch::Receiver<bool>,
    pub(super) stop: watch::Receiver<bool>,
}

type Reference = (Kind, ObjectName);

/// Why an object has no condition yet.
enum Failure {
    /// It is gone, or its kind is: nothing is to be written.
    Gone,
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
                let addresses = seen.addresses(&reference);
                if let Err(Failure::Later(error)) = self.write(&reference, &seen.message(&reference), &addresses).await
                {
                    let (kind, name) = &reference;
                    tracing::debug!(%error, object = %format!("{kind} {name}"), "a condition could not be written");
                    again.insert(reference);
                }
                tokio::time::sleep(PAUSE).await;
            }
            retry = !again.is_empty();
            due = again;
        }
    }

    /// Writes the condition of an object and the addresses of its hosts, unless they are there already.
    async fn write(&self, (kind, name): &Reference, message: &str, addresses: &[Value]) -> Result<(), Failure> {
        let api = self.api(*kind, name);
        let object = api.get(&name.name).await.map_err(Failure::of)?;
        let status = object.data.get("status").unwrap_or(&Value::Null);
        let Some(due) = due(status, message, addresses, Timestamp::now()) else {
            return Ok(());
        };
        let patch = json!({
            // Whoever else writes conditions in between is not overwritten: the API server refuses this then.
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

    fn api(&self, kind: Kind, name: &ObjectName) -> Api<DynamicObject> {
        let descriptor = kind.descriptor();
        let resource = ApiResource {
            group: descriptor.group.to_owned(),
            version: descriptor.version().to_owned(),
            api_version: descriptor.api_version(),
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
            _ => Self::Later(Box::new(error)),
        }
    }
}

/// The objects that have a condition, and what is to be said of them.
#[derive(Debug, Default)]
struct Seen {
    objects: Objects,
    findings: Findings,
    allocations: Allocations,
    /// By the object's title.
    messages: BTreeMap<String, BTreeSet<Arc<Finding>>>,
}

impl Seen {
    /// Takes a new state in, and returns the objects that are others or of which something else is to be said.
    fn update(&mut self, state: &State) -> BTreeSet<Reference> {
        let objects = std::mem::replace(&mut self.objects, state.loaded.objects.clone());
        let findings = std::mem::replace(&mut self.findings, state.loaded.findings.clone());
        let allocations = std::mem::replace(&mut self.allocations, state.allocations.clone());
        let mut changed = BTreeSet::new();
        for kind in kinds() {
            changed.extend(
                objects
                    .changed(kind, &self.objects)
                    .into_iter()
                    .map(|name| (kind, name)),
            );
        }
        let allocated = allocations.changed(&self.allocations).into_iter();
        changed.extend(allocated.map(|name| (Kind::ServiceEntry, name)));
        let same = |(): &(), (): &()| true;
        let messages = &mut self.messages;
        findings.diff(&self.findings, same, |finding: &Arc<Finding>, _, is: Option<&()>| {
            let Some(title) = &finding.object else { return };
            let of_object = messages.entry(title.clone()).or_default();
            match is {
                Some(()) => drop(of_object.insert(Arc::clone(finding))),
                None => drop(of_object.remove(finding)),
            }
            if of_object.is_empty() {
                messages.remove(title);
            }
            changed.extend(reference(title));
        });
        changed.retain(|(kind, name)| self.objects.get(*kind, name).is_some());
        changed
    }

    fn all(&self) -> BTreeSet<Reference> {
        let of_kind = |kind: Kind| self.objects.names(kind).map(move |name| (kind, name.clone()));
        kinds().flat_map(of_kind).collect()
    }

    /// The addresses that were chosen for an object's hosts, as its status has them.
    fn addresses(&self, (kind, name): &Reference) -> Vec<Value> {
        let of_entry = (*kind == Kind::ServiceEntry).then(|| self.allocations.of(name));
        let items = of_entry.into_iter().flatten();
        items
            .map(|(host, address)| json!({ "host": host, "value": address }))
            .collect()
    }

    /// What is said of an object: empty where all of it is in force.
    fn message(&self, (kind, name): &Reference) -> String {
        let findings = self.messages.get(&format!("{kind} {name}")).into_iter().flatten();
        let said = findings.map(|finding| match &finding.field {
            Some(field) => format!("{field}: {}", finding.message),
            None => finding.message.clone(),
        });
        let mut message = said.collect::<Vec<_>>().join("; ");
        if message.len() > LONGEST {
            message.truncate(message.floor_char_boundary(LONGEST));
        }
        message
    }
}

/// Istio's kinds, whose objects are all in namespaces.
fn kinds() -> impl Iterator<Item = Kind> {
    let is_istios = |kind: &Kind| kind.descriptor().group.ends_with(".istio.io") && kind.descriptor().namespaced;
    Kind::followed().filter(is_istios)
}

fn reference(title: &str) -> Option<Reference> {
    let (kind, name) = title.split_once(' ')?;
    let (namespace, name) = name.split_once('/')?;
    let kind = kinds().find(|known| known.name() == kind)?;
    Some((kind, ObjectName::new(namespace, name)))
}

/// What is to be written into a status; none if all of it is there. Addresses that nobody asks for any more stay: they are not read.
fn due(status: &Value, message: &str, addresses: &[Value], now: Timestamp) -> Option<Value> {
    let mut due = serde_json::Map::new();
    if let Some(conditions) = with_condition(status, message, now) {
        due.insert("conditions".to_owned(), conditions.into());
    }
    let has = status["addresses"].as_array().is_some_and(|before| before == addresses);
    if !addresses.is_empty() && !has {
        due.insert("addresses".to_owned(), addresses.into());
    }
    (!due.is_empty()).then(|| due.into())
}

/// The conditions of a status with ours as it must be; none if it is so already.
fn with_condition(status: &Value, message: &str, now: Timestamp) -> Option<Vec<Value>> {
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let (holds, reason) = match message.is_empty() {
        true => ("True", "AsWritten"),
        false => ("False", "NotAsWritten"),
    };
    let at = conditions.iter().position(|condition| condition["type"] == TYPE);
    let before = at.map(|at| conditions.remove(at)).unwrap_or_default();
    if before["status"] == holds && before["message"] == message {
        return None;
    }
    let now = Value::from(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let is_same = before["status"] == holds && before["lastTransitionTime"].is_string();
    conditions.push(json!({
        "type": TYPE,
        "status": holds,
        "reason": reason,
        "message": message,
        "lastTransitionTime": if is_same { before["lastTransitionTime"].clone() } else { now },
    }));
    Some(conditions)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use culvert_objects::{Assembly, Loaded};

    use super::*;
    use crate::model::Model;

    fn state(yaml: &str, findings: &[Finding]) -> State {
        let mut assembly = Assembly::default();
        for document in culvert_objects::parse(yaml, false).documents {
            assembly.apply(document.object);
        }
        State {
            loaded: Arc::new(Loaded {
                objects: assembly.settle().0.clone(),
                findings: findings.iter().map(|finding| (Arc::new(finding.clone()), ())).collect(),
                generation: 1,
            }),
            ..State::default()
        }
    }

    const POLICY: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
        apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\n";

    #[test]
    fn each_object_of_istios_is_looked_at_again_when_what_is_said_of_it_changes() {
        let name = ObjectName::new("shop", "a");
        let reference = (Kind::AuthorizationPolicy, name.clone());
        let mut seen = Seen::default();
        let fine = state(POLICY, &[]);
        assert_eq!(seen.update(&fine), BTreeSet::from([reference.clone()]));
        assert_eq!(seen.message(&reference), "");
        assert_eq!(seen.update(&fine), BTreeSet::new());
        let finding = Finding::of_object(Kind::AuthorizationPolicy, &name, "spec.rules[0]", "denied".to_owned());
        let other = Finding::of_object(Kind::Pod, &name, "", "not its condition".to_owned());
        let found = State {
            loaded: Arc::new(Loaded {
                objects: fine.loaded.objects.clone(),
                findings: [finding, other]
                    .into_iter()
                    .map(|finding| (Arc::new(finding), ()))
                    .collect(),
                generation: 2,
            }),
            ..State::default()
        };
        assert_eq!(seen.update(&found), BTreeSet::from([reference.clone()]));
        assert_eq!(seen.message(&reference), "spec.rules[0]: denied");
        assert_eq!(seen.update(&fine), BTreeSet::from([reference.clone()]));
        assert_eq!((seen.message(&reference).as_str(), seen.all().len()), ("", 1));
        let gone = state("", &[]);
        assert_eq!(seen.update(&gone), BTreeSet::new(), "what is gone has no status");
    }

    #[test]
    fn a_condition_is_written_once_and_others_stay() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let status = json!({ "conditions": [{ "type": "ZtunnelAccepted", "status": "True" }] });
        let first = with_condition(&status, "", at(10)).unwrap();
        assert_eq!(first[0], status["conditions"][0]);
        assert_eq!(
            (&first[1]["status"], &first[1]["reason"]),
            (&"True".into(), &"AsWritten".into())
        );
        assert_eq!(first[1]["lastTransitionTime"], "1970-01-01T00:00:10Z");
        let status = json!({ "conditions": first });
        assert_eq!(with_condition(&status, "", at(20)), None);
        let second = with_condition(&status, "spec: x", at(20)).unwrap();
        assert_eq!(second[1]["lastTransitionTime"], "1970-01-01T00:00:20Z");
        let third = with_condition(&json!({ "conditions": second }), "spec: y", at(30)).unwrap();
        assert_eq!(
            (&third[1]["message"], &third[1]["lastTransitionTime"]),
            (&"spec: y".into(), &"1970-01-01T00:00:20Z".into()),
            "only another status is a transition"
        );
        assert_eq!(third.len(), 2);
    }

    #[test]
    fn addresses_that_were_chosen_for_hosts_are_written_as_istio_does_and_once() {
        const ENTRY: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
            apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: shop}\n\
            spec: {hosts: [a.example.com, '*.example.org'], resolution: DNS}\n";
        let mut model = Model::default();
        let before = state(ENTRY, &[]);
        model.update(&before.loaded.objects, Instant::now());
        let mut seen = Seen::default();
        let reference = (Kind::ServiceEntry, ObjectName::new("shop", "a"));
        assert_eq!(seen.update(&before), BTreeSet::from([reference.clone()]));
        assert_eq!(seen.addresses(&reference), Vec::<Value>::new());
        let chosen = State {
            loaded: Arc::clone(&before.loaded),
            allocations: model.allocations().clone(),
            ..State::default()
        };
        assert_eq!(
            seen.update(&chosen),
            BTreeSet::from([reference.clone()]),
            "something was chosen"
        );
        let addresses = seen.addresses(&reference);
        assert_eq!(addresses.len(), 2, "a wildcard has none");
        assert!(addresses.iter().all(|item| item["host"] == "a.example.com"));
        assert!(addresses[0]["value"].as_str().unwrap().starts_with("240.240."));

        let now = Timestamp::from_second(10).unwrap();
        let first = due(&Value::Null, "", &addresses, now).unwrap();
        assert_eq!(first["addresses"], Value::from(addresses.clone()));
        assert_eq!(due(&first, "", &addresses, now), None);
        let again = due(&json!({ "conditions": first["conditions"] }), "", &addresses, now).unwrap();
        assert_eq!(again, json!({ "addresses": addresses }), "lost by itself");
        assert_eq!(due(&first, "", &[], now), None, "what nobody asks for any more stays");
    }
}
