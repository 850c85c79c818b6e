//! What there is of waypoints in the cluster: the objects that carry our label, as the API server tells of them.

use std::collections::{BTreeMap, BTreeSet};

use culvert_deploy::waypoint::MANAGED_BY;
use futures_util::TryStreamExt as _;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cluster::{client::WATCH_SECONDS, manager::MANAGER};

/// A kind that waypoints consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Account,
    Deployment,
    Service,
    Budget,
    Autoscaler,
}

/// One object.
pub(super) type Name = (Part, String, String);

/// What was heard.
pub(super) type Heard = (Part, watcher::Event<DynamicObject>);

impl Part {
    pub(super) const ALL: [Self; 5] = [
        Self::Account,
        Self::Deployment,
        Self::Service,
        Self::Budget,
        Self::Autoscaler,
    ];

    /// The part of a kind, as manifests name it.
    pub(super) fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.resource().kind == kind)
    }

    /// How the API server knows it.
    pub(super) fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::Account => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Budget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::Autoscaler => (
                "autoscaling",
                "v2",
                "HorizontalPodAutoscaler",
                "horizontalpodautoscalers",
            ),
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }
}

/// Objects that are there.
#[derive(Debug, Default)]
pub(super) struct Present {
    objects: BTreeMap<Name, DynamicObject>,
    known: BTreeSet<Part>,
    /// Those of a list that has not ended.
    listed: BTreeMap<Part, BTreeSet<Name>>,
}

impl Present {
    /// Takes an event in.
    pub(super) fn take(&mut self, (part, event): Heard) {
        match event {
            watcher::Event::Init => drop(self.listed.insert(part, BTreeSet::new())),
            watcher::Event::InitApply(object) => {
                let name = name_of(part, &object);
                self.listed.entry(part).or_default().insert(name.clone());
                self.objects.insert(name, object);
            }
            watcher::Event::InitDone => {
                let listed = self.listed.remove(&part).unwrap_or_default();
                self.objects.retain(|name, _| name.0 != part || listed.contains(name));
                self.known.insert(part);
            }
            watcher::Event::Apply(object) => self.put(part, object),
            watcher::Event::Delete(object) => drop(self.objects.remove(&name_of(part, &object))),
        }
    }

    /// Takes in what the API server answered to a write.
    pub(super) fn put(&mut self, part: Part, object: DynamicObject) {
        self.objects.insert(name_of(part, &object), object);
    }

    /// Whether all that there is is known.
    pub(super) fn is_complete(&self) -> bool {
        self.known.len() == Part::ALL.len()
    }

    /// Takes in that one was deleted.
    pub(super) fn remove(&mut self, name: &Name) {
        self.objects.remove(name);
    }

    pub(super) fn get(&self, name: &Name) -> Option<&DynamicObject> {
        self.objects.get(name)
    }
}

fn name_of(part: Part, object: &DynamicObject) -> Name {
    let metadata = &object.metadata;
    (
        part,
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// Hears of every part with our label, each in a task of its own.
pub(super) fn follow(client: &Client, sender: &mpsc::Sender<Heard>) -> Vec<JoinHandle<()>> {
    let follow_one = |part: Part| tokio::spawn(follow_part(client.clone(), part, sender.clone()));
    Part::ALL.into_iter().map(follow_one).collect()
}

async fn follow_part(client: Client, part: Part, sender: mpsc::Sender<Heard>) {
    let config = watcher::Config::default()
        .labels(&format!("{MANAGED_BY}={MANAGER}"))
        .timeout(WATCH_SECONDS);
    let api: Api<DynamicObject> = Api::all_with(client, &part.resource());
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(event)) => {
                if sender.send((part, event)).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, ?part, "parts of waypoints"),
        }
    }
}
