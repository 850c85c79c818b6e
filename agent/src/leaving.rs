//! The way out of a node: when Culvert is being uninstalled, every pod leaves the mesh before the programs do.
//!
//! Capture outlives the agent on purpose, so somebody must end it. Three things say that it is time: the annotation
//! `culvert.dev/uninstalling: "true"` on the system namespace, which `culvert uninstall` sets and then waits for each node's
//! `/pods` to say `left`; that this namespace is being deleted, which is the first thing that `kubectl delete -k` does, and
//! which is heard although the right to ask is taken away next; and, when the agent is asked to end, that its own
//! DaemonSet is being deleted or gone. An upgrade changes none of them. Taking the annotation away brings the pods back.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Namespace};
use kube::{
    Api, Client, ResourceExt as _,
    api::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;

use crate::source::{Outside, PodSource, Snapshot};

/// The annotation on the system namespace.
pub const ANNOTATION: &str = "culvert.dev/uninstalling";

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

/// Follows the annotation for as long as the process lives. While the API server is away, what was last known holds.
pub async fn follow(client: Client, namespace: &str, leave: &watch::Sender<bool>) {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let only = watcher::Config::default().fields(&format!("metadata.name={namespace}"));
    let mut events = watcher(namespaces, only).default_backoff().applied_objects().boxed();
    while let Some(event) = events.next().await {
        let Ok(found) = event else { continue };
        let is_annotated = found.annotations().get(ANNOTATION).is_some_and(|value| value == "true");
        let asked = is_annotated || found.metadata.deletion_timestamp.is_some();
        let changed = leave.send_if_modified(|leaving| std::mem::replace(leaving, asked) != asked);
        match (changed, asked) {
            (true, true) => tracing::warn!("Culvert is being uninstalled: every pod of this node leaves the mesh"),
            (true, false) => tracing::info!("Culvert is no longer being uninstalled: pods come back"),
            (false, _) => {}
        }
    }
}

/// Whether the DaemonSet is gone or on its way. An API server that does not say so means no: pods stay captured.
pub async fn is_removed(client: Client, namespace: &str, name: &str) -> bool {
    let sets: Api<DaemonSet> = Api::namespaced(client, namespace);
    match tokio::time::timeout(ASK, sets.get_metadata_opt(name)).await {
        Ok(Ok(None)) => true,
        Ok(Ok(Some(set))) => set.metadata.deletion_timestamp.is_some(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot ask whether the DaemonSet is being removed; pods stay captured");
            false
        }
        Err(_) => {
            tracing::warn!("the API server does not say whether the DaemonSet is being removed; pods stay captured");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{PodName, PodSpec};

    struct Once(Option<Arc<Snapshot>>);

    impl PodSource for Once {
        async fn next(&mut self) -> Option<Arc<Snapshot>> {
            match self.0.take() {
                Some(snapshot) => Some(snapshot),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn pods_leave_when_told_to_and_come_back() {
        let spec = PodSpec {
            uid: "u".into(),
            name: PodName {
                namespace: "n".into(),
                name: "p".into(),
            },
            service_account: "default".into(),
            addresses: vec![[198, 18, 0, 1].into()],
            netns: "/run/netns/p".into(),
        };
        let snapshot = Snapshot {
            wanted: vec![spec],
            ..Snapshot::default()
        };
        let (leave, told) = watch::channel(false);
        let mut source = Leaving::new(Once(Some(Arc::new(snapshot))), told);
        assert_eq!(source.next().await.unwrap().wanted.len(), 1);
        leave.send_replace(true);
        let left = source.next().await.unwrap();
        assert!(left.wanted.is_empty() && left.complete);
        assert_eq!(left.outside.len(), 1, "the pod is still shown");
        leave.send_replace(false);
        assert_eq!(source.next().await.unwrap().wanted.len(), 1);
    }

    #[tokio::test]
    async fn an_agent_that_knows_no_pod_yet_still_throws_out_what_its_predecessor_enrolled() {
        let (leave, told) = watch::channel(false);
        let mut source = Leaving::new(Once(None), told);
        leave.send_replace(true);
        assert!(source.next().await.unwrap().complete);
    }
}
