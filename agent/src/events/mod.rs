//! Tells people what the mesh did to their pods, where they look: events on pods, as `kubectl describe pod` shows them.
//!
//! | reason | when |
//! |---|---|
//! | `Enrolled` | the pod is captured |
//! | `Left` | it was, and is not any more, though it still runs |
//! | `EnrolmentFailed` | capture failed, and is tried again |
//! | `Unguarded` | the pod is captured, and its link is not guarded |
//! | `Refused` | it is labelled, but stays outside: the labels mean nothing, or it claims what is another's |
//!
//! `journal` decides what to tell; this is the task that sends it. Nothing waits for it: it follows the state that enrolment
//! publishes, and an API server that is away costs events, nothing else.

mod journal;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use tokio::{
    sync::watch,
    time::{sleep, sleep_until, timeout},
};

use self::journal::{Journal, Notice};
use crate::enrolment::status::Status;

/// Who tells.
const CONTROLLER: &str = "culvert.dev/agent";

/// How long the API server may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How long to wait after it did not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// Limits of the API: bytes of a note, of an instance's name, of an object's name.
const NOTE: usize = 1024;
const INSTANCE: usize = 128;
const NAME: usize = 253;

/// Writes events about the pods of `node` until enrolment ends.
pub async fn run(client: Client, node: String, mut status: watch::Receiver<Arc<Status>>) {
    let mut journal = Journal::new(&node, Instant::now());
    let writer = Writer {
        client,
        instance: cut(&node, INSTANCE).to_owned(),
        started: Timestamp::now().as_nanosecond(),
    };
    status.mark_changed();
    loop {
        let due = journal.next().map(tokio::time::Instant::from_std);
        tokio::select! {
            changed = status.changed() => match changed {
                Ok(()) => {
                    let status = Arc::clone(&status.borrow_and_update());
                    journal.observe(&status, Instant::now());
                }
                Err(_) => return,
            },
            () = sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                let Some(notice) = journal.due(Instant::now()) else { continue };
                if let Err(error) = writer.write(&notice).await {
                    tracing::debug!(pod = %notice.pod, error, "no event could be written; it is tried again");
                    journal.failed(&notice);
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

struct Writer {
    client: Client,
    instance: String,
    /// Makes the names of events of this process its own.
    started: i128,
}

impl Writer {
    /// The error is one that may pass.
    async fn write(&self, notice: &Notice) -> Result<(), String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &notice.pod.namespace);
        let event = self.event(notice);
        let name = event.metadata.name.clone().unwrap_or_default();
        let write = async {
            if event.series.is_some() {
                let series = serde_json::json!({ "series": event.series });
                match api.patch(&name, &PatchParams::default(), &Patch::Merge(series)).await {
                    // It has expired.
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    other => return other.map(drop),
                }
            }
            let first = Event { series: None, ..event };
            api.create(&PostParams::default(), &first).await.map(drop)
        };
        match timeout(ANSWER, write).await {
            Ok(Ok(())) => Ok(()),
            // The namespace is being deleted, or we have no right to: no sense in trying again.
            Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
                tracing::warn!(pod = %notice.pod, reason = notice.text.reason.as_str(), error = status.message, "event refused");
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the API server does not answer".into()),
        }
    }

    fn event(&self, notice: &Notice) -> Event {
        let now = MicroTime(Timestamp::now());
        let reason = notice.text.reason;
        let mut hasher = DefaultHasher::new();
        (&notice.uid, &notice.text, self.started).hash(&mut hasher);
        let suffix = format!(".{:016x}", hasher.finish());
        let stem = cut(&notice.pod.name, NAME - suffix.len()).trim_end_matches(['.', '-']);
        Event {
            metadata: ObjectMeta {
                namespace: Some(notice.pod.namespace.clone()),
                name: Some(format!("{stem}{suffix}")),
                ..ObjectMeta::default()
            },
            action: Some("Enrol".into()),
            event_time: Some(now.clone()),
            note: Some(cut(&notice.text.note, NOTE).to_owned()),
            reason: Some(reason.as_str().into()),
            regarding: Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                namespace: Some(notice.pod.namespace.clone()),
                name: Some(notice.pod.name.clone()),
                uid: Some(notice.uid.to_string()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.into()),
            reporting_instance: Some(self.instance.clone()),
            series: (notice.count > 1).then_some(EventSeries {
                count: notice.count,
                last_observed_time: now,
            }),
            type_: Some(if reason.is_warning() { "Warning" } else { "Normal" }.into()),
            ..Event::default()
        }
    }
}

/// As much of the text as fits.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
