//! The way out of a node: when Culvert is being uninstalled, every pod leaves the mesh before the programs do.
//!
//! Capture outlives the agent on purpose, so somebody must end it. These say that it is time:
//!
//! | sign | who gives it |
//! |---|---|
//! | the annotation `culvert.dev/uninstalling: "true"` on the system namespace | `culvert uninstall`, which then waits for each node's `/pods` to say `left`; people |
//! | the same on the agent's own DaemonSet | the Helm chart's hook before a release is deleted ([`announce`]) |
//! | the system namespace is being deleted | `kubectl delete -k`, first of all |
//! | the DaemonSet is being deleted or gone, and the agent is asked to end | `helm uninstall` without hooks, GitOps, `kubectl delete daemonset` |
//!
//! All but the last may be taken back, which brings the pods back. The DaemonSet is watched, not asked for at the end: what deletes it
//! deletes the agent's rights in the same second, but a watch that is open still tells. An upgrade changes none of these.
//!
//! Where the agent has heard of nothing, is asked to end, and has lost all its rights, it cannot know: the rights may be gone because
//! Culvert is ([`Removal::RightsGone`]), or its pod may have been deleted by force, which ends its token. See [`ask`] for what is done then.

pub mod announce;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;

use crate::source::{Outside, PodSource, Snapshot};

/// The annotation on the system namespace.
pub const ANNOTATION: &str = "culvert.dev/uninstalling";

/// The DaemonSet as far as known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnSet {
    /// Not heard of yet.
    #[default]
    Unknown,
    /// There.
    Present,
    /// Being deleted, or gone.
    Gone,
}

/// What the API server says when the agent is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Culvert is being removed.
    Removed,
    /// It is not, or nothing can be told: pods stay captured.
    Stays,
    /// The agent may ask neither for its DaemonSet nor for its namespace any more.
    RightsGone,
}

/// How long the API server may take to say whether the DaemonSet is still wanted. The kubelet waits for the answer.
const ASK: Duration = Duration::from_secs(3);

/// How far the node has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departure {
    /// Pods leave, or have left.
    pub leaving: bool,
    /// No pod is captured any more, and nothing brings another in.
    pub left: bool,
}

/// A source whose pods all leave once the receiver says so.
pub struct Leaving<S> {
    source: S,
    leave: watch::Receiver<bool>,
    last: Option<Arc<Snapshot>>,
}

impl<S: PodSource> Leaving<S> {
    /// Puts a source behind the switch.
    pub fn new(source: S, leave: watch::Receiver<bool>) -> Self {
        Self {
            source,
            leave,
            last: None,
        }
    }
}

impl<S: PodSource + Send> PodSource for Leaving<S> {
    async fn next(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            tokio::select! {
                next = self.source.next() => self.last = Some(next?),
                Ok(()) = self.leave.changed() => {}
            }
            let is_leaving = *self.leave.borrow_and_update();
            match &self.last {
                Some(last) if is_leaving => return Some(Arc::new(without_pods(last))),
                Some(last) => return Some(Arc::clone(last)),
                // Even pods that are not known yet are to leave: what an earlier agent enrolled is thrown away.
                None if is_leaving => return Some(Arc::new(without_pods(&Snapshot::default()))),
                None => {}
            }
        }
    }
}

fn without_pods(last: &Snapshot) -> Snapshot {
    let leaving = last.wanted.iter().map(|spec| Outside {
        uid: Arc::clone(&spec.uid),
        name: spec.name.clone(),
        addresses: spec.addresses.clone(),
        problem: None,
    });
    Snapshot {
        wanted: Vec::new(),
        outside: leaving.chain(last.outside.iter().cloned()).collect(),
        complete: true,
        ..Snapshot::default()
    }
}

/// What has been heard of the namespace and of the DaemonSet.
#[derive(Debug, Default)]
struct Heard {
    namespace_leaves: bool,
    set_leaves: bool,
}

/// Follows the namespace and the DaemonSet for as long as the process lives. While the API server is away, what was last known holds.
pub async fn follow(
    client: Client,
    namespace: &str,
    daemonset: &str,
    leave: &watch::Sender<bool>,
    own: &watch::Sender<OwnSet>,
) {
    let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let mut namespaces = watcher(namespaces, named(namespace)).default_backoff().boxed();
    let sets: Api<PartialObjectMeta<DaemonSet>> = Api::namespaced(client, namespace);
    let mut sets = watcher(sets, named(daemonset)).default_backoff().boxed();
    let mut heard = Heard::default();
    let mut is_listed = false;
    loop {
        tokio::select! {
            Some(event) = namespaces.next() => match event {
                Ok(Event::Apply(found) | Event::InitApply(found)) => {
                    heard.namespace_leaves = is_annotated(&found) || found.metadata.deletion_timestamp.is_some();
                }
                // It is gone, and with it all of ours.
                Ok(Event::Delete(_)) => heard.namespace_leaves = true,
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => tracing::warn!(
                    %error, namespace, "cannot follow Culvert's own namespace: a removal would not be noticed; trying again"
                ),
            },
            Some(event) = sets.next() => match event {
                Ok(Event::Apply(found) | Event::InitApply(found)) => {
                    is_listed = true;
                    heard.set_leaves = is_annotated(&found);
                    let is_going = found.metadata.deletion_timestamp.is_some();
                    own.send_replace(if is_going { OwnSet::Gone } else { OwnSet::Present });
                }
                Ok(Event::Delete(_)) => drop(own.send_replace(OwnSet::Gone)),
                Ok(Event::Init) => is_listed = false,
                Ok(Event::InitDone) if !is_listed => drop(own.send_replace(OwnSet::Gone)),
                Ok(Event::InitDone) => {}
                Err(error) => tracing::warn!(
                    %error, daemonset, "cannot follow the agent's own DaemonSet: a removal would be noticed late; trying again"
                ),
            },
            else => return,
        }
        let asked = heard.namespace_leaves || heard.set_leaves;
        let changed = leave.send_if_modified(|leaving| std::mem::replace(leaving, asked) != asked);
        match (changed, asked) {
            (true, true) => tracing::warn!("Culvert is being uninstalled: every pod of this node leaves the mesh"),
            (true, false) => tracing::info!("Culvert is no longer being uninstalled: pods come back"),
            (false, _) => {}
        }
    }
}

fn is_annotated(object: &impl ResourceExt) -> bool {
    object
        .annotations()
        .get(ANNOTATION)
        .is_some_and(|value| value == "true")
}

/// Asks, when the agent is to end, whether that is because Culvert is being removed. `own` is what was heard of the DaemonSet.
///
/// An API server that does not answer, or refuses one of the two questions alone, means no: pods stay captured, as the next agent must
/// find them. Both refused mean that the account has lost everything. That is what a removal looks like that nobody has heard of in
/// time; it is also what the agent of a pod looks like that was deleted by force, and then another one follows. So it is for the
/// caller to wait for that one, and only then to give up.
pub async fn ask(client: Client, namespace: &str, name: &str, own: OwnSet) -> Removal {
    if own == OwnSet::Gone {
        return Removal::Removed;
    }
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    match answer(sets.get_metadata_opt(name)).await {
        Answer::There(set) if set.metadata.deletion_timestamp.is_some() => Removal::Removed,
        Answer::There(_) => Removal::Stays,
        Answer::Gone => Removal::Removed,
        Answer::None => Removal::Stays,
        Answer::Refused => {
            let namespaces: Api<Namespace> = Api::all(client);
            match answer(namespaces.get_metadata_opt(namespace)).await {
                Answer::There(found) if found.metadata.deletion_timestamp.is_some() => Removal::Removed,
                Answer::There(_) | Answer::None => Removal::Stays,
                Answer::Gone => Removal::Removed,
                Answer::Refused => Removal::RightsGone,
            }
        }
    }
}

enum Answer<K> {
    There(K),
    Gone,
    /// 401 or 403.
    Refused,
    None,
}

async fn answer<K>(asked: impl Future<Output = Result<Option<K>, kube::Error>>) -> Answer<K> {
    match tokio::time::timeout(ASK, asked).await {
        Ok(Ok(Some(found))) => Answer::There(found),
        Ok(Ok(None)) => Answer::Gone,
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => Answer::Refused,
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot ask whether Culvert is being removed; pods stay captured");
            Answer::None
        }
        Err(_) => {
            tracing::warn!("the API server does not say whether Culvert is being removed; pods stay captured");
            Answer::None
        }
    }
}

#[cfg(test)]
mod tests;
