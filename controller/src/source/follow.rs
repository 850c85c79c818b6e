//! One kind of objects, followed: listed page by page, then watched, and listed again where the watch was lost for good.
//!
//! kube's own `watcher` does the same, but says neither when a broken watch is whole again, nor lets a list be compared
//! with what is held while it arrives: here the answer to "is what we hold still the truth?" is needed at any time.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, PartialObjectMeta, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::health::Health;
use super::store::{Change, Kind};

/// Objects in one answer of a list. Bounds the memory of the first list, beside what is kept of it.
const PAGE: u32 = 250;
/// How long one watch lasts; the next goes on where it ended.
const WATCH_SECONDS: u32 = crate::cluster::client::WATCH_SECONDS;
/// How long a list may take, page by page.
const LIST: Duration = Duration::from_secs(60);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Short, so that an API server that comes back is noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The watch is over, and why.
enum Ended {
    /// As every watch after a while: the next goes on from there.
    Normally,
    /// What happened in between can no longer be told: list again.
    Expired,
    Broken(String),
    /// Nobody wants to know any more.
    Unwanted,
}

/// How objects of a kind are asked for: whole, or their metadata alone.
pub(crate) trait Fetch<K>: Send + Sync {
    /// What the API server answers with.
    type Item: Clone + Debug + DeserializeOwned + Send + 'static;
    /// One page.
    fn list(
        &self,
        params: &ListParams,
    ) -> impl Future<Output = kube::Result<kube::core::ObjectList<Self::Item>>> + Send;
    /// The events after `version`.
    fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> impl Future<
        Output = kube::Result<impl futures_util::Stream<Item = kube::Result<WatchEvent<Self::Item>>> + Send + Unpin>,
    > + Send;
    /// The object.
    fn object(item: Self::Item) -> K;
}

/// Whole objects.
pub(crate) struct Whole<K>(pub(crate) Api<K>);
/// Objects with nothing but metadata.
pub(crate) struct MetadataOnly<K>(pub(crate) Api<K>);

impl<K> Fetch<K> for Whole<K>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    type Item = K;

    async fn list(&self, params: &ListParams) -> kube::Result<kube::core::ObjectList<K>> {
        self.0.list(params).await
    }

    async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<impl futures_util::Stream<Item = kube::Result<WatchEvent<K>>> + Send + Unpin> {
        Ok(Box::pin(self.0.watch(params, version).await?))
    }

    fn object(item: K) -> K {
        item
    }
}

impl<K> Fetch<K> for MetadataOnly<K>
where
    K: kube::Resource + Metadata<Ty = ObjectMeta> + Default + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    type Item = PartialObjectMeta<K>;

    async fn list(&self, params: &ListParams) -> kube::Result<kube::core::ObjectList<Self::Item>> {
        self.0.list_metadata(params).await
    }

    async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<impl futures_util::Stream<Item = kube::Result<WatchEvent<Self::Item>>> + Send + Unpin> {
        Ok(Box::pin(self.0.watch_metadata(params, version).await?))
    }

    fn object(item: Self::Item) -> K {
        let mut object = K::default();
        *object.metadata_mut() = item.metadata;
        object
    }
}

/// One kind being followed.
pub(crate) struct Follower<F> {
    pub(crate) kind: Kind,
    pub(crate) fetch: F,
    pub(crate) changes: mpsc::Sender<Change>,
    pub(crate) health: Health,
}

impl<F> Follower<F> {
    /// Follows until nobody listens.
    pub(crate) async fn run<K>(self)
    where
        F: Fetch<K>,
        K: super::store::Kept,
    {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let version = match tokio::time::timeout(LIST, self.list()).await {
                Ok(Ok(Some(version))) => version,
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    self.wait(&mut pause, describe(&error)).await;
                    continue;
                }
                Err(_) => {
                    self.wait(&mut pause, "the list took too long".to_owned()).await;
                    continue;
                }
            };
            self.health.current(self.kind);
            pause = SHORTEST_PAUSE;
            if !self.watch(version, &mut pause).await {
                return;
            }
            tracing::info!(kind = %self.kind, "the watch cannot go on where it was; listing again");
            self.health.relisted(self.kind);
        }
    }

    async fn wait(&self, pause: &mut Duration, why: String) {
        self.health.failed(self.kind, why);
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }

    /// Lists all and returns the version that the list is of; none when nobody listens.
    async fn list<K>(&self) -> kube::Result<Option<String>>
    where
        F: Fetch<K>,
        K: super::store::Kept,
    {
        if self.changes.send(Change::Begin(self.kind)).await.is_err() {
            return Ok(None);
        }
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = self.fetch.list(&params).await?;
            for item in page.items {
                let object = F::object(item).strip().into_object();
                if self.changes.send(Change::Listed(object)).await.is_err() {
                    return Ok(None);
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    let sent = self.changes.send(Change::Complete(self.kind)).await;
                    return Ok(sent.is_ok().then(|| page.metadata.resource_version.unwrap_or_default()));
                }
            }
        }
    }

    /// Watches until a new list is needed (true) or nobody listens (false).
    async fn watch<K>(&self, mut version: String, pause: &mut Duration) -> bool
    where
        F: Fetch<K>,
        K: super::store::Kept,
    {
        loop {
            match self.watch_once(&mut version, pause).await {
                Ended::Normally => {}
                Ended::Expired => return true,
                Ended::Broken(why) => self.wait(pause, why).await,
                Ended::Unwanted => return false,
            }
        }
    }

    async fn watch_once<K>(&self, version: &mut String, pause: &mut Duration) -> Ended
    where
        F: Fetch<K>,
        K: super::store::Kept,
    {
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        let from = version.clone();
        let mut events = match self.fetch.watch(&params, &from).await {
            Ok(events) => events,
            Err(error) => return failed(&error),
        };
        self.health.current(self.kind);
        loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ended::Normally,
                Err(error) => return failed(&error),
            };
            *pause = SHORTEST_PAUSE;
            let change = match event {
                WatchEvent::Added(item) | WatchEvent::Modified(item) => {
                    self.took(F::object(item), version, Change::Applied)
                }
                WatchEvent::Deleted(item) => self.took(F::object(item), version, Change::Deleted),
                WatchEvent::Bookmark(bookmark) => {
                    *version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) if status.code == 410 => return Ended::Expired,
                WatchEvent::Error(status) => return Ended::Broken(status.message.clone()),
            };
            if self.changes.send(change).await.is_err() {
                return Ended::Unwanted;
            }
        }
    }

    fn took<K: super::store::Kept>(
        &self,
        object: K,
        version: &mut String,
        change: fn(culvert_objects::Object) -> Change,
    ) -> Change {
        if let Some(new) = object.metadata().resource_version.clone() {
            *version = new;
        }
        self.health.event(self.kind);
        change(object.strip().into_object())
    }
}

fn failed(error: &kube::Error) -> Ended {
    match error {
        kube::Error::Api(status) if status.code == 410 => Ended::Expired,
        other => Ended::Broken(describe(other)),
    }
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
