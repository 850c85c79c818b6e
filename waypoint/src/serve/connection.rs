//! A client's HTTP connection, as its requests see it.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use http::HeaderValue;

use super::{
    direct::{self, Direct},
    worker::Worker,
};
use crate::{
    busy::{Busy, Underway},
    config::http_chain::HttpChain,
    headers,
    state::Snapshot,
    telemetry::Client,
};

/// A client's connection.
pub(super) struct Connection {
    pub(super) worker: Worker,
    /// As of the last request.
    chain: ArcSwap<HttpChain>,
    /// No chain is for it any more.
    is_ending: AtomicBool,
    pub(super) client: Arc<Client>,
    /// Its address, as requests are told it.
    pub(super) client_address: HeaderValue,
    /// The address and port that were asked for.
    pub(super) destination: SocketAddr,
    /// Where that is an endpoint's, rather than its service's.
    pub(super) direct: Option<Direct>,
    /// Whether it has requests.
    busy: Arc<Busy>,
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
            chain: ArcSwap::new(chain),
            is_ending: AtomicBool::new(false),
            client_address: headers::address(client.address),
            client,
            destination,
            direct,
            busy: Arc::new(Busy::new()),
        })
    }

    /// The chain that is in force for the connection; where none is any more, that which was last.
    pub(super) fn chain(&self) -> Arc<HttpChain> {
        let chain = self.chain.load_full();
        if !chain.retirement.is_retired() {
            return chain;
        }
        match self.successor() {
            Some(next) => {
                self.chain.store(Arc::clone(&next));
                next
            }
            None => {
                self.is_ending.store(true, Ordering::Relaxed);
                chain
            }
        }
    }

    /// The chain that a request is served by, and what it is decided by: as they were together. Between two looks the chain may go, and
    /// what it led to after it.
    pub(super) fn in_force(&self) -> (Arc<HttpChain>, Arc<Snapshot>) {
        loop {
            let chain = self.chain();
            let snapshot = self.worker.0.state.load_full();
            // What lacks something that a chain led to is published after the chain is retired.
            if !chain.retirement.is_retired() {
                return (chain, snapshot);
            }
            if self.is_ending() {
                let snapshot = snapshot.before_end_of(&chain).map_or(snapshot, Arc::new);
                return (chain, snapshot);
            }
        }
    }

    /// Whether no chain is for the connection any more, so that it should end.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Ends when no chain is for the connection any more.
    pub(super) async fn ending(&self) {
        while !self.is_ending() {
            self.chain().retirement.retired().await;
        }
    }

    /// A request begins, and lasts as long as what is returned.
    pub(super) fn begin(&self) -> Underway {
        self.busy.begin()
    }

    /// Ends when there has been no request for as long as the chain in force says.
    pub(super) async fn idle(&self) {
        loop {
            let chain = self.chain();
            let idle = async {
                match chain.idle_timeout {
                    Some(timeout) => self.busy.idle(timeout).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = idle => return,
                () = chain.retirement.retired(), if !self.is_ending() => {}
            }
        }
    }

    /// The chain that such a connection would get if it were new.
    fn successor(&self) -> Option<Arc<HttpChain>> {
        let snapshot = self.worker.0.state.load();
        match &self.direct {
            None => snapshot.chains.as_ref()?.find(self.destination)?.http.clone(),
            Some(_) => direct::find(&snapshot, self.destination)?.0.http,
        }
    }
}
