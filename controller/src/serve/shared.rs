//! What all streams share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::callers::Callers;
use super::metrics::DiscoveryMetrics;
use super::secrets::SecretSource;
use super::streams::Streams;
use crate::clock::Clock;
use crate::refusals::Refusals;
use crate::state::State;

/// What all streams share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) state: watch::Receiver<Arc<State>>,
    pub(crate) roots: watch::Receiver<Arc<str>>,
    pub(crate) streams: Streams,
    pub(crate) callers: Callers,
    /// What clients refuse.
    pub(crate) refusals: Refusals,
    pub(crate) metrics: DiscoveryMetrics,
    pub(crate) stop: watch::Receiver<bool>,
    /// The longest that a stream lasts.
    pub(crate) longest: Duration,
    pub(crate) clock: Clock,
    /// Who makes certificates for those that ask for them as secrets.
    pub(crate) secrets: SecretSource,
    /// How many streams may look through everything that their clients hold at the same time.
    pub(crate) large: Arc<Semaphore>,
}
