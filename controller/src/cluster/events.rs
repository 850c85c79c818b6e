//! Events: what the mesh did with a namespace, and what is wrong with an object, where `kubectl describe` shows it.
//!
//! The leader tells, and only what changes while it leads: a new leader does not tell everything again. About pods only
//! what a node's agent cannot know; it tells the rest itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{Finding, Findings, Kind, Namespace, Object, ObjectName, Objects, PersistentMap, USE_WAYPOINT};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::watch;
use tokio::time::Instant;

use super::enrolled::Enrolled;
use super::manager::MANAGER;
use crate::state::State;

/// How long something must have been so before it is told: objects that belong together arrive one after the other.
const SETTLE: Duration = Duration::from_secs(2);
/// How many may be told at once, and then how many a second: a mistake in a template must not flood the cluster.
const BURST: f64 = 50.0;
const RATE: f64 = 2.0;

/// Something to be told about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Note {
    kind: Kind,
    object: ObjectName,
    warning: bool,
    reason: &'static str,
    text: String,
}

/// Tells while this replica leads.
pub(super) struct Events {
    pub(super) client: Client,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) leader: watch::Receiver<bool>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Events {
    /// Until `stop` turns true.
    pub(super) async fn run(mut self) {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: None,
        };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let mut bucket = Bucket::new(Instant::now());
        let mut enrolled = Enrolled::default();
        let mut before: Option<Seen> = None;
        loop {
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { return },
                changed = self.leader.changed() => if changed.is_err() { return },
                _ = self.stop.wait_for(|stop| *stop) => return,
            }
            tokio::time::sleep(SETTLE).await;
            let state = Arc::clone(&self.state.borrow_and_update());
            if state.loaded.generation == 0 {
                continue;
            }
            enrolled.update(&state.loaded.objects);
            let now = Seen::of(&enrolled, &state);
            let leads = *self.leader.borrow_and_update();
            if let Some(before) = before.as_ref().filter(|_| leads) {
                for note in notes(before, &now) {
                    if !bucket.take(Instant::now()) {
                        tracing::warn!(?note, "too many events at a time: this one is not told");
                        continue;
                    }
                    tell(&recorder, &state.loaded.objects, note).await;
                }
            }
            before = Some(now);
        }
    }
}

async fn tell(recorder: &Recorder, objects: &Objects, note: Note) {
    let about = reference(objects, &note);
    let event = Event {
        type_: if note.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: note.reason.to_owned(),
        note: Some(note.text),
        action: "Mesh".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &about).await {
        tracing::debug!(%error, object = %note.object, "an event could not be written");
    }
}

/// The object, as others find it.
fn reference(objects: &Objects, note: &Note) -> ObjectReference {
    let (object, descriptor) = (objects.get(note.kind, &note.object), note.kind.descriptor());
    let uid = object.as_ref().and_then(Object::uid).filter(|uid| !uid.is_empty());
    let namespace = note.object.namespace.to_string();
    ObjectReference {
        api_version: Some(descriptor.api_version()),
        kind: Some(descriptor.name.to_owned()),
        name: Some(note.object.name.to_string()),
        namespace: (!namespace.is_empty()).then_some(namespace),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

/// What events are about, at one moment.
#[derive(Debug, Default)]
struct Seen {
    /// Namespaces whose own label enrols, and how many of their pods are in.
    enrolled: BTreeMap<ObjectName, usize>,
    namespaces: PersistentMap<ObjectName, Arc<Namespace>>,
    findings: Findings,
}

impl Seen {
    fn of(enrolled: &Enrolled, state: &State) -> Self {
        let labelled = enrolled.namespaces().filter(|(_, membership)| membership.labelled);
        let labelled = labelled.map(|(name, membership)| (ObjectName::cluster(Arc::clone(name)), membership.running));
        Self {
            enrolled: labelled.collect(),
            namespaces: state.loaded.objects.namespaces.clone(),
            findings: state.loaded.findings.clone(),
        }
    }
}

/// What is new, to be told.
fn notes(before: &Seen, now: &Seen) -> Vec<Note> {
    let namespace = |name: &ObjectName, reason, text| Note {
        kind: Kind::Namespace,
        object: name.clone(),
        warning: false,
        reason,
        text,
    };
    let new = now
        .enrolled
        .iter()
        .filter(|(name, _)| !before.enrolled.contains_key(*name));
    let joined = new.map(|(name, pods)| {
        let text = format!("the namespace joins the mesh with {pods} pods");
        namespace(name, "MeshEnabled", text)
    });
    let left = before.enrolled.keys().filter(|name| !now.enrolled.contains_key(*name));
    let left = left.filter(|name| now.namespaces.contains_key(*name)).map(|name| {
        let text = "the namespace leaves the mesh; open connections live on to their end".to_owned();
        namespace(name, "MeshDisabled", text)
    });
    let mut notes: Vec<Note> = joined.chain(left).collect();
    let same = |(): &(), (): &()| true;
    before.findings.diff(&now.findings, same, |finding, was, _| {
        notes.extend(was.is_none().then(|| of_finding(finding)).flatten());
    });
    notes
}

fn of_finding(finding: &Finding) -> Option<Note> {
    let (kind, name) = finding.object.as_deref()?.split_once(' ')?;
    let kind = Kind::named(kind)?;
    let field = finding.field.as_deref().unwrap_or_default();
    let is_waypoint = USE_WAYPOINT.iter().any(|label| field.contains(label));
    let label = field.starts_with("metadata.labels[") && !is_waypoint;
    // The agent of the pod's node says that of a pod.
    if kind == Kind::Pod && label {
        return None;
    }
    Some(Note {
        kind,
        object: match name.split_once('/') {
            Some((namespace, name)) => ObjectName::new(namespace, name),
            None => ObjectName::cluster(name),
        },
        warning: finding.severity.departs(),
        reason: if label { "UnknownLabelValue" } else { "MeshFinding" },
        text: match &finding.field {
            Some(field) => format!("{field}: {}", finding.message),
            None => finding.message.clone(),
        },
    })
}

/// Lets so many through, and then so many a second.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let more = now.duration_since(self.at).as_secs_f64() * RATE;
        (self.left, self.at) = ((self.left + more).min(BURST), now);
        let any = self.left >= 1.0;
        if any {
            self.left -= 1.0;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(yaml: &str) -> Seen {
        let dir = std::env::temp_dir().join(format!("culvert-events-{}-{}", std::process::id(), yaml.len()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.yaml"), yaml).unwrap();
        let loaded = culvert_objects::Directory::open(&dir).unwrap().loaded();
        std::fs::remove_dir_all(&dir).unwrap();
        let mut enrolled = Enrolled::default();
        enrolled.update(&loaded.objects);
        let state = State {
            loaded,
            ..State::default()
        };
        Seen::of(&enrolled, &state)
    }

    fn shop(label: &str) -> Seen {
        seen(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{culvert.dev/mesh: {label}}}}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: shop}}\n"
        ))
    }

    #[test]
    fn joining_leaving_and_mistyping_are_told_once() {
        let reasons = |before: &Seen, now: &Seen| notes(before, now).iter().map(|n| n.reason).collect::<Vec<_>>();
        let (out, on, wrong) = (shop("none"), shop("ambient"), shop("maybe"));
        let told = notes(&out, &on);
        assert_eq!((told[0].reason, told[0].text.contains("1 pods")), ("MeshEnabled", true));
        assert_eq!(reasons(&on, &out), ["MeshDisabled"]);
        assert_eq!(reasons(&on, &wrong), ["MeshDisabled", "UnknownLabelValue"]);
        assert!(reasons(&on, &on).is_empty() && reasons(&wrong, &wrong).is_empty());
        assert!(
            reasons(&on, &Seen::default()).is_empty(),
            "a namespace that is gone is told nothing"
        );
    }

    /// Whoever asks for the events of an object asks by its own version, kind and uid.
    #[test]
    fn an_event_names_the_object_by_its_own_version_and_not_by_that_of_another_kind() {
        let gateway = |group: &str| {
            let metadata = "{name: web, namespace: default, uid: u-1}";
            // Something that is not served in either.
            let spec = "{addresses: [{value: 198.18.0.1}]}";
            format!("---\napiVersion: {group}/v1\nkind: Gateway\nmetadata: {metadata}\nspec: {spec}\n")
        };
        let dir = tempfile::TempDir::new().unwrap();
        let both = gateway("networking.istio.io") + &gateway("gateway.networking.k8s.io");
        std::fs::write(dir.path().join("a.yaml"), both).unwrap();
        let loaded = culvert_objects::Directory::open(dir.path()).unwrap().loaded();
        let told: Vec<Note> = loaded
            .findings
            .keys()
            .filter_map(|finding| of_finding(finding))
            .collect();
        let references = told.iter().map(|note| reference(&loaded.objects, note));
        let mut versions: Vec<String> = references
            .map(|about| {
                assert_eq!(
                    (about.kind.as_deref(), about.uid.as_deref()),
                    (Some("Gateway"), Some("u-1"))
                );
                about.api_version.unwrap()
            })
            .collect();
        versions.sort();
        versions.dedup();
        assert_eq!(versions, ["gateway.networking.k8s.io/v1", "networking.istio.io/v1"]);
    }

    #[test]
    fn a_flood_is_cut_short() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!((0..200).filter(|_| bucket.take(start)).count(), 50);
        assert!(bucket.take(start + Duration::from_secs(1)));
    }
}
