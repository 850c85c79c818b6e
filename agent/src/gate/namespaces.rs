//! Which namespaces of the cluster are enrolled.
//!
//! The plug-in must know of a namespace before its first pod comes to this node, so the whole cluster is followed; the API
//! server picks the enrolled ones out by their labels, and only these are sent, without anything but metadata. A selector cannot
//! say "this label or that one", so there is one watch for each of the two labels. As everywhere, `culvert.dev/mesh`
//! wins where a namespace has both.

use std::{collections::BTreeSet, future::ready};

use culvert_cni::config::SYSTEM_NAMESPACE;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;

/// The namespaces that are enrolled by either label.
const SELECTORS: [&str; 2] = [
    "culvert.dev/mesh=ambient",
    "istio.io/dataplane-mode=ambient,!culvert.dev/mesh",
];

/// Follows them until it is dropped. Nothing is published before both labels' namespaces are known once, so that what an
/// earlier agent knew is not forgotten while the API server is away.
pub async fn follow(client: Client, enrolled: watch::Sender<BTreeSet<String>>) {
    let events = SELECTORS.iter().enumerate().map(|(label, selector)| {
        let metadata: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        watcher(metadata, watcher::Config::default().labels(selector))
            .default_backoff()
            .filter_map(|event| ready(heard(event)))
            .map(move |event| (label, event))
            .boxed()
    });
    let mut events = futures_util::stream::select_all(events);
    let mut known = Known::default();
    let mut is_first = true;
    while let Some((label, event)) = events.next().await {
        known.labels[label].take(event);
        if let Some(namespaces) = known.all() {
            enrolled.send_if_modified(|present| {
                // The first is told in any case: what an earlier agent left may be damaged.
                let changed = is_first || *present != namespaces;
                *present = namespaces;
                changed
            });
            is_first = false;
        }
    }
}

fn heard(
    event: Result<Event<PartialObjectMeta<Namespace>>, watcher::Error>,
) -> Option<Event<PartialObjectMeta<Namespace>>> {
    event
        .inspect_err(|error| tracing::warn!(%error, "enrolled namespaces cannot be followed; trying again"))
        .ok()
}

/// What both watches have told.
#[derive(Debug, Default)]
struct Known {
    labels: [Labelled; 2],
}

/// What one watch has told.
#[derive(Debug, Default)]
struct Labelled {
    /// As of the last complete list, with the changes since.
    present: Option<BTreeSet<String>>,
    /// The list that is being received.
    listing: BTreeSet<String>,
}

impl Known {
    fn all(&self) -> Option<BTreeSet<String>> {
        let [a, b] = &self.labels;
        let (a, b) = (a.present.as_ref()?, b.present.as_ref()?);
        Some(a.union(b).filter(|name| *name != SYSTEM_NAMESPACE).cloned().collect())
    }
}

impl Labelled {
    fn take(&mut self, event: Event<PartialObjectMeta<Namespace>>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(namespace) => drop(self.listing.insert(namespace.name_any())),
            Event::InitDone => self.present = Some(std::mem::take(&mut self.listing)),
            Event::Apply(namespace) => {
                if let Some(present) = &mut self.present {
                    present.insert(namespace.name_any());
                }
            }
            Event::Delete(namespace) => {
                if let Some(present) = &mut self.present {
                    present.remove(&namespace.name_any());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> PartialObjectMeta<Namespace> {
        let mut namespace = PartialObjectMeta::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace
    }

    #[test]
    fn nothing_is_known_before_both_labels_have_been_listed() {
        let mut known = Known::default();
        known.labels[0].take(Event::Init);
        known.labels[0].take(Event::InitApply(namespace("shop")));
        known.labels[0].take(Event::InitDone);
        assert_eq!(known.all(), None);
        known.labels[1].take(Event::Init);
        known.labels[1].take(Event::InitApply(namespace("bank")));
        known.labels[1].take(Event::InitApply(namespace(SYSTEM_NAMESPACE)));
        known.labels[1].take(Event::InitDone);
        let expected: BTreeSet<String> = ["bank", "shop"].map(str::to_owned).into();
        assert_eq!(known.all(), Some(expected.clone()));

        known.labels[1].take(Event::Init);
        assert_eq!(
            known.all(),
            Some(expected),
            "a new list replaces the old one when it is complete"
        );
        known.labels[1].take(Event::InitDone);
        known.labels[0].take(Event::Apply(namespace("new")));
        known.labels[0].take(Event::Delete(namespace("shop")));
        assert_eq!(known.all(), Some(["new".to_owned()].into()));
    }
}
