//! One kind of objects, followed: listed, then watched, and listed again where the watch was lost for good.
//!
//! A list comes page by page, each with a deadline of its own, so that it may be of any length. Every object is read by
//! itself: one that cannot be read is a finding that names it, and nothing to the others.
//!
//! A kind that a cluster need not have is followed while the cluster offers it, in a version that it offers: see `offer`.
//!
//! kube's own `watcher` says neither when a broken watch is whole again, nor lets a list be compared with what is held
//! while it arrives: here the answer to "is what we hold still the truth?" is needed at any time.

use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{Descriptor, ObjectName, Presence};
use futures_util::{Stream, TryStreamExt as _};
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::health::Health;
use super::offer::Offer;
use super::store::{Change, Item, Part};

/// Objects in one answer of a list. Bounds the memory of the first list, beside what is kept of it.
const PAGE: u32 = 500;
/// How long one watch lasts; the next goes on where it ended.
const WATCH_SECONDS: u32 = crate::cluster::client::WATCH_SECONDS;
/// How long one page may take.
const PAGE_DEADLINE: Duration = Duration::from_secs(15);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Short, so that an API server that comes back is noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked for what the cluster does not have.
pub(super) const ABSENT: Duration = Duration::from_secs(10);

/// So often in a row a kind that was there must not be found before its objects count as gone.
const ABSENCES: u32 = 2;

/// The watch is over, and why.
enum Ended {
    /// As every watch after a while: the next goes on from there.
    Normally,
    /// What happened in between is no longer known to the API server: list again.
    Expired,
    Broken(String),
    /// The receiver is gone.
    Unwanted,
}

/// How a list ended.
enum Listed {
    /// It is complete, as of this version.
    At(String),
    /// The cluster does not have the kind.
    Absent,
    Broken(String),
    Unwanted,
}

/// One page of a list.
#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    /// Null where only metadata is asked for and there are no objects (seen on Kubernetes 1.34).
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    token: String,
}

/// One kind being followed.
pub(crate) struct Follower {
    pub(crate) part: Part,
    pub(crate) descriptor: &'static Descriptor,
    pub(crate) client: Client,
    pub(crate) changes: mpsc::Sender<Change>,
    pub(crate) health: Health,
    /// Which kinds the cluster has.
    pub(crate) offer: watch::Receiver<Offer>,
    /// How often a kind is looked for that is offered and not there, or may not be read.
    pub(crate) absent: Duration,
}

impl Follower {
    /// Follows until the receiver is gone.
    pub(crate) async fn run(mut self) {
        let kind = self.descriptor.kind;
        let mut pause = SHORTEST_PAUSE;
        // Whether there was the kind, and how often in a row it was not found since.
        let (mut was_there, mut misses) = (false, 0);
        loop {
            let offered = self.version().await;
            // What an API server that starts offers may not be complete yet. Who may restrict somebody is asked for all the same:
            // such a server answers that it is not ready.
            if offered.is_none() && !self.descriptor.is_relied_on() {
                if !self.has_none().await || self.offer.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let of_kind = offered.clone().unwrap_or_else(|| self.descriptor.version().into());
            let version = match self.list(&of_kind).await {
                Listed::At(version) => version,
                Listed::Absent => {
                    misses += 1;
                    let is_gone = !was_there || misses >= ABSENCES;
                    if is_gone && !self.has_none().await {
                        return;
                    }
                    was_there &= !is_gone;
                    if is_gone && offered.is_none() {
                        if self.offer.changed().await.is_err() {
                            return;
                        }
                    } else {
                        tokio::time::sleep(self.absent).await;
                    }
                    continue;
                }
                Listed::Broken(why) => {
                    self.wait(&mut pause, why).await;
                    continue;
                }
                Listed::Unwanted => return,
            };
            (was_there, misses) = (true, 0);
            self.health.current(kind);
            pause = SHORTEST_PAUSE;
            if !self.watch(&of_kind, version, &mut pause).await {
                return;
            }
            tracing::info!(%kind, "the watch cannot go on where it was; listing again");
            self.health.relisted(kind);
            tokio::time::sleep(SHORTEST_PAUSE).await;
        }
    }

    /// The version of the kind to ask for; none where the cluster does not have the kind.
    async fn version(&mut self) -> Option<Arc<str>> {
        let first = || Some(self.descriptor.version().into());
        if !self.may_be_absent() {
            return first();
        }
        match self.offer.wait_for(|offer| *offer != Offer::Unasked).await {
            Ok(offer) => match &*offer {
                Offer::Kinds(kinds) => kinds.version(self.descriptor),
                Offer::Unasked | Offer::Unknown => first(),
            },
            // Nobody looks any more: see for oneself.
            Err(_) => first(),
        }
    }

    /// Takes all objects of the kind for gone. False when the receiver is.
    async fn has_none(&self) -> bool {
        let kind = self.descriptor.kind;
        let told = self.send(Change::Begin(self.part)).await && self.send(Change::Complete(self.part)).await;
        self.health.absent(kind);
        told
    }

    async fn wait(&self, pause: &mut Duration, why: String) {
        self.health.failed(self.descriptor.kind, why);
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }

    async fn send(&self, change: Change) -> bool {
        self.changes.send(change).await.is_ok()
    }

    /// Lists all page by page.
    async fn list(&self, of_kind: &str) -> Listed {
        if !self.send(Change::Begin(self.part)).await {
            return Listed::Unwanted;
        }
        let mut params = ListParams {
            field_selector: self.selector(),
            ..ListParams::default().limit(PAGE)
        };
        loop {
            let page = match tokio::time::timeout(PAGE_DEADLINE, self.page(of_kind, &params)).await {
                Ok(Ok(page)) => page,
                // Who may not be asked may have something to say.
                Ok(Err(kube::Error::Api(status)))
                    if self.may_be_absent()
                        && (status.code == 404 || status.code == 403 && !self.descriptor.is_relied_on()) =>
                {
                    return Listed::Absent;
                }
                Ok(Err(error)) => return Listed::Broken(describe(&error)),
                Err(_) => return Listed::Broken("a page of the list took too long".to_owned()),
            };
            for value in page.items.into_iter().flatten() {
                if !self.send(Change::Listed(self.part, self.item(value))).await {
                    return Listed::Unwanted;
                }
            }
            if page.metadata.token.is_empty() {
                let sent = self.send(Change::Complete(self.part)).await;
                return if sent {
                    Listed::At(page.metadata.resource_version)
                } else {
                    Listed::Unwanted
                };
            }
            params.continue_token = Some(page.metadata.token);
        }
    }

    /// What the API server is to choose by: rights may be for these names alone.
    fn selector(&self) -> Option<String> {
        self.part.name.map(|name| format!("metadata.name={name}"))
    }

    fn may_be_absent(&self) -> bool {
        self.descriptor.presence == Presence::Optional
    }

    async fn page(&self, of_kind: &str, params: &ListParams) -> kube::Result<Page> {
        let request = if self.descriptor.metadata_only {
            self.request(of_kind).list_metadata(params)
        } else {
            self.request(of_kind).list(params)
        };
        self.client.request(request.map_err(kube::Error::BuildRequest)?).await
    }

    async fn events(
        &self,
        of_kind: &str,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<impl Stream<Item = kube::Result<WatchEvent<Value>>> + Send + Unpin + use<>> {
        let request = if self.descriptor.metadata_only {
            self.request(of_kind).watch_metadata(params, version)
        } else {
            self.request(of_kind).watch(params, version)
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(Box::pin(self.client.request_events(request).await?))
    }

    fn request(&self, version: &str) -> Request {
        let (group, plural) = (self.descriptor.group, self.descriptor.plural);
        Request::new(if group.is_empty() {
            format!("/api/{version}/{plural}")
        } else {
            format!("/apis/{group}/{version}/{plural}")
        })
    }

    /// Watches until a new list is needed (true) or the receiver is gone (false).
    async fn watch(&self, of_kind: &str, mut version: String, pause: &mut Duration) -> bool {
        loop {
            match self.watch_once(of_kind, &mut version, pause).await {
                Ended::Normally => {}
                Ended::Expired => return true,
                Ended::Broken(why) => self.wait(pause, why).await,
                Ended::Unwanted => return false,
            }
        }
    }

    async fn watch_once(&self, of_kind: &str, version: &mut String, pause: &mut Duration) -> Ended {
        let params = WatchParams {
            field_selector: self.selector(),
            ..WatchParams::default().timeout(WATCH_SECONDS)
        };
        let mut events = match self.events(of_kind, &params, version).await {
            Ok(events) => events,
            Err(error) => return self.failed(&error),
        };
        self.health.current(self.descriptor.kind);
        loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ended::Normally,
                Err(error) => return self.failed(&error),
            };
            *pause = SHORTEST_PAUSE;
            let (value, gone) = match event {
                WatchEvent::Added(value) | WatchEvent::Modified(value) => (value, false),
                WatchEvent::Deleted(value) => (value, true),
                WatchEvent::Bookmark(bookmark) => {
                    *version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) if status.code == 410 => return Ended::Expired,
                WatchEvent::Error(status) => return Ended::Broken(status.message.clone()),
            };
            if let Some(new) = value["metadata"]["resourceVersion"].as_str() {
                new.clone_into(version);
            }
            self.health.event(self.descriptor.kind);
            let change = if gone {
                Change::Deleted(self.descriptor.kind, self.name(&value))
            } else {
                Change::Applied(self.item(value))
            };
            if !self.send(change).await {
                return Ended::Unwanted;
            }
        }
    }

    fn failed(&self, error: &kube::Error) -> Ended {
        match error {
            kube::Error::Api(status) if status.code == 410 => Ended::Expired,
            // The kind is gone; a list shows that.
            kube::Error::Api(status) if status.code == 404 && self.may_be_absent() => Ended::Expired,
            _ if self.may_be_absent() && matches!(error, kube::Error::SerdeError(_)) => Ended::Expired,
            other => Ended::Broken(describe(other)),
        }
    }

    fn item(&self, value: Value) -> Item {
        item(self.descriptor, value)
    }

    fn name(&self, value: &Value) -> ObjectName {
        name(self.descriptor, value)
    }
}

/// An object of a list or an event.
pub(crate) fn item(descriptor: &'static Descriptor, mut value: Value) -> Item {
    let name = name(descriptor, &value);
    if let Some(object) = value.as_object_mut() {
        // Those of metadata alone say that they are something else.
        object.remove("apiVersion");
        object.remove("kind");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        // A good part of the text, and nothing that is read.
        metadata.remove("managedFields");
    }
    Item {
        kind: descriptor.kind,
        name,
        object: descriptor.read(value),
    }
}

fn name(descriptor: &Descriptor, value: &Value) -> ObjectName {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default();
    ObjectName::new(if descriptor.namespaced { text("namespace") } else { "" }, text("name"))
}

/// The whole chain in one line: kube's outer errors alone say little.
fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
