//! A client's HTTP connection, as its requests see it.

use std::{net::SocketAddr, sync::Arc};

use http::HeaderValue;

use super::{direct::Direct, worker::Worker};
use crate::{config::http_chain::HttpChain, headers, telemetry::Client};

/// A client's connection.
pub(super) struct Connection {
    pub(super) worker: Worker,
    pub(super) chain: Arc<HttpChain>,
    pub(super) client: Arc<Client>,
    /// Its address, as requests are told it.
    pub(super) client_address: HeaderValue,
    /// The address and port that were asked for.
    pub(super) destination: SocketAddr,
    /// Where that is an endpoint's, rather than its service's.
    pub(super) direct: Option<Direct>,
}

impl Connection {
    pub(super) fn new(
        worker: Worker,
        chain: Arc<HttpChain>,
        client: Arc<Client>,
        destination: SocketAddr,
        direct: Option<Direct>,
    ) -> Arc<Self> {
        Arc::new(Self {
            worker,
            chain,
            client_address: headers::address(client.address),
            client,
            destination,
            direct,
        })
    }
}
