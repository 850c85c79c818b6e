//! An endpoint that requests go to, with what is known of it at this moment.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use culvert_http::balance::outlier::Record;
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
#[derive(Debug, Default)]
pub struct EndpointLoad {
    /// Requests that are under way.
    pub active: Arc<AtomicU32>,
    /// How its last requests went.
    pub outlier: Mutex<Record>,
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

    /// Whether it is reached through the tunnel.
    pub fn is_in_tunnel(&self) -> bool {
        matches!(self.config.way, Way::Tunnel { .. })
    }
}
