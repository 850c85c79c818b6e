//! An endpoint that requests go to, with what is known of it at this moment.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use culvert_http::balance::{PeakEwma, outlier::Record};
use parking_lot::Mutex;

use crate::config::endpoints::{EndpointConfig, Way};

/// An endpoint of one cluster. Stays the same over changes of its weight or health, and so do its connections.
#[derive(Debug)]
pub struct Endpoint {
    /// As configured.
    pub config: EndpointConfig,
    /// By which pools know it: never given to another.
    pub id: u64,
    /// What is counted of it.
    pub load: Arc<EndpointLoad>,
}

/// What is counted of an endpoint.
#[derive(Debug)]
pub struct EndpointLoad {
    /// Requests that are under way.
    pub active: Arc<AtomicU32>,
    /// How its last requests went.
    pub outlier: Mutex<Record>,
    /// Whether `outlier` has counted a failure since the last success: without one, a success changes nothing, and takes no lock.
    pub has_failed: AtomicBool,
    /// Since when it is there.
    pub since: Instant,
    /// How long it takes to answer.
    pub latency: PeakEwma,
    /// Whether it passes its health checks; see [`Checked`].
    checked: AtomicU8,
    /// Until when it asks for less, in milliseconds of [`clock`].
    pub pushed_back: AtomicU64,
}

impl Default for EndpointLoad {
    fn default() -> Self {
        Self {
            active: Arc::default(),
            outlier: Mutex::default(),
            has_failed: AtomicBool::default(),
            since: Instant::now(),
            latency: PeakEwma::default(),
            checked: AtomicU8::new(Checked::NotYet as u8),
            pushed_back: AtomicU64::default(),
        }
    }
}

/// What health checks say of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Checked {
    /// Nothing so far.
    NotYet,
    /// It serves.
    Healthy,
    /// It does not.
    Unhealthy,
}

impl EndpointLoad {
    /// What its health checks say.
    pub fn checked(&self) -> Checked {
        match self.checked.load(Ordering::Relaxed) {
            known if known == Checked::Healthy as u8 => Checked::Healthy,
            known if known == Checked::Unhealthy as u8 => Checked::Unhealthy,
            _ => Checked::NotYet,
        }
    }

    /// Its health checks say something else.
    pub(crate) fn set_checked(&self, is_healthy: bool) {
        let checked = if is_healthy {
            Checked::Healthy
        } else {
            Checked::Unhealthy
        };
        self.checked.store(checked as u8, Ordering::Relaxed);
    }
}

/// Time since this process began to ask.
pub fn clock() -> Duration {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed()
}

impl Endpoint {
    /// A new one, or `before` with another configuration.
    pub fn new(config: EndpointConfig, before: Option<&Self>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match before {
            Some(before) => Self {
                config,
                id: before.id,
                load: Arc::clone(&before.load),
            },
            None => Self {
                config,
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                load: Arc::default(),
            },
        }
    }

    /// Whether connections to it are connections to what `config` describes.
    pub fn is(&self, config: &EndpointConfig) -> bool {
        let own = &self.config;
        own.address == config.address && own.way == config.way && own.about.uid == config.about.uid
    }

    /// Whether it asks for less at this time of [`clock`].
    pub fn is_pushed_back(&self, now: Duration) -> bool {
        u128::from(self.load.pushed_back.load(Ordering::Relaxed)) > now.as_millis()
    }

    /// Whether it is reached through the tunnel.
    pub fn is_in_tunnel(&self) -> bool {
        matches!(self.config.way, Way::Tunnel { .. })
    }
}
