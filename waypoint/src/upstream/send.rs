//! Sending a request over a connection that is there, or a new one.

use std::{
    future::Future as _,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use culvert_tunnel::io::{Dialer, Origin, Tunnels};
use http::{Request, Response, Version};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout_at;

use super::{
    failure::{SendFailure, Stage},
    io::{ConnectError, Io, Use, connect},
    pool::{Key, Lease, Opened, Own, Pool, STREAMS, Terms, streams},
    proxy_protocol::Ends,
    tls_failures::TlsFailures,
};
use crate::{
    body::Body, cluster::Cluster, config::cluster::ClusterConfig, counted::Counted, endpoint::Endpoint,
    endpoint_tls::Purpose,
};

/// Longest head of an answer: as Envoy's. Of lines, hyper takes 100, as Envoy does.
const MAX_HEAD: usize = 60 << 10;

/// What one stream of HTTP/2 may have under way.
const STREAM_WINDOW: u32 = 256 << 10;

/// Silence after which a connection with open streams is asked for a sign of life, and how long that may take.
const PING: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What sends requests on one thread: its tunnels and connections.
#[derive(Clone)]
pub struct Upstream {
    /// Tunnels to endpoints.
    pub(crate) tunnels: Tunnels<Dialer>,
    /// On whose behalf.
    pub(crate) origin: Origin,
    /// `baggage` of the waypoint itself.
    pub(crate) baggage: Arc<str>,
    pool: Arc<Pool>,
    tls_failures: TlsFailures,
}

impl Upstream {
    /// Nothing is connected yet.
    pub fn new(tunnels: Tunnels<Dialer>, origin: Origin, baggage: Arc<str>) -> Self {
        Self {
            tunnels,
            origin,
            baggage,
            pool: Arc::default(),
            tls_failures: TlsFailures::default(),
        }
    }

    /// The same, which counts where TLS of endpoints' own does not come about.
    #[must_use]
    pub fn counting(self, tls_failures: TlsFailures) -> Self {
        Self { tls_failures, ..self }
    }

    /// A connection of its own. `headers` go with a `CONNECT`.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        headers: &[(&str, &str)],
        cluster: &ClusterConfig,
        use_: Use,
    ) -> Result<Io, ConnectError> {
        let connected = connect(&self.tunnels, &self.origin, endpoint, headers, cluster, use_).await;
        if let Err(ConnectError::Tls(failure)) = &connected {
            self.tls_failures.count(failure.reason);
        }
        connected
    }

    /// Sends a request of the waypoint itself, over a connection that is there or a new one. The answer's body goes on until it is dropped;
    /// the lease lasts as long.
    ///
    /// # Errors
    /// When no head of an answer came.
    pub async fn send(
        &self,
        cluster: &Cluster,
        endpoint: &Endpoint,
        is_http2: bool,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Lease), SendFailure> {
        self.send_between(None, cluster, endpoint, is_http2, request).await
    }

    /// The same for a client's request, which came over a connection between `ends`.
    ///
    /// # Errors
    /// When no head of an answer came.
    pub async fn send_between(
        &self,
        ends: Option<Ends>,
        cluster: &Cluster,
        endpoint: &Endpoint,
        is_http2: bool,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, Lease), SendFailure> {
        // Others share connections, whichever client they come from.
        let ends = ends.filter(|_| cluster.config.proxy_protocol.is_some());
        let host = At {
            cluster,
            endpoint,
            ends,
        };
        *request.version_mut() = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        // A connection that was kept may have ended without our having heard of it: then nothing was sent, and another is taken.
        loop {
            let sent = match is_http2 {
                true => self.send_http2(host, request).await,
                false => self.send_http1(host, request).await,
            };
            match sent {
                Ok(answer) => return Ok(answer),
                Err((_, Some(again))) => request = *again,
                Err((failure, None)) => return Err(failure),
            }
        }
    }

    /// Drops connections to endpoints that are gone, and those that were idle for too long.
    pub fn sweep(&self) {
        self.pool.sweep(Instant::now());
    }

    async fn send_http1(
        &self,
        host: At<'_>,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Lease), (SendFailure, Option<Box<Request<Body>>>)> {
        let At { cluster, endpoint, .. } = host;
        let found = self.wait(host, || self.pool.take(host.key(), &cluster.config)).await;
        let found = found.map_err(|failure| (failure, None))?;
        let was_kept = matches!(found, Found::Kept(_));
        let mut own = match found {
            Found::Kept(own) => own,
            Found::New(opened, _pending) => {
                let connected = self.connect_http1(host, opened).await;
                connected.map_err(|failure| (failure, None))?
            }
        };
        let response = match own.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let again = error.take_message().filter(|_| was_kept).map(Box::new);
                return Err((SendFailure::http(&error.into_error()), again));
            }
        };
        own.used += 1;
        if cluster
            .config
            .requests_per_connection
            .is_none_or(|most| own.used < most)
        {
            let (pool, key) = (Arc::clone(&self.pool), host.key());
            let load = Arc::downgrade(&endpoint.load);
            tokio::spawn(async move {
                // Once the answer was read to its end.
                if own.sender.ready().await.is_ok() {
                    pool.keep(key, load, own);
                }
            });
        }
        Ok((response, Lease::alone()))
    }

    async fn connect_http1(&self, host: At<'_>, opened: Opened) -> Result<Own, SendFailure> {
        let At { cluster, endpoint, .. } = host;
        let within = cluster.config.connect_timeout;
        let deadline = tokio::time::Instant::now() + within;
        let headers = [("baggage", &*self.baggage)];
        let use_ = host.used_for(Purpose::Http1);
        let io = self.connect(endpoint, &headers, &cluster.config, use_).await;
        let io = io.map_err(|failure| SendFailure::connect(&failure))?;
        let handshake = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(io));
        let shaken = timeout_at(deadline, handshake)
            .await
            .map_err(|_| SendFailure::late(within))?;
        let (sender, connection) = shaken.map_err(|error| SendFailure::http(&error))?;
        tokio::spawn(async move {
            let _opened = opened;
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = crate::causes(&error), "a connection to an endpoint ended");
            }
        });
        Ok(Own {
            sender,
            used: 0,
            terms: Terms::of(&cluster.config),
        })
    }

    async fn send_http2(
        &self,
        host: At<'_>,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Lease), (SendFailure, Option<Box<Request<Body>>>)> {
        let share = || self.pool.share(host.key(), &host.cluster.config);
        let found = self.wait(host, share).await;
        let found = found.map_err(|failure| (failure, None))?;
        let was_kept = matches!(found, Found::Kept(_));
        let (mut sender, lease) = match found {
            Found::Kept(kept) => kept,
            Found::New(opened, _pending) => {
                let connected = self.connect_http2(host, opened).await;
                connected.map_err(|failure| (failure, None))?
            }
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, lease)),
            Err(mut error) => {
                let again = error.take_message().filter(|_| was_kept).map(Box::new);
                let failure = SendFailure::http(&error.into_error());
                if failure.stage == Stage::Reset && sender.is_closed() {
                    self.pool.forget_closed(host.key());
                }
                Err((failure, again))
            }
        }
    }

    async fn connect_http2(
        &self,
        host: At<'_>,
        opened: Opened,
    ) -> Result<(http2::SendRequest<Body>, Lease), SendFailure> {
        let At { cluster, endpoint, .. } = host;
        let within = cluster.config.connect_timeout;
        let deadline = tokio::time::Instant::now() + within;
        let headers = [("baggage", &*self.baggage)];
        let use_ = host.used_for(Purpose::Http2);
        let io = self.connect(endpoint, &headers, &cluster.config, use_).await;
        let io = io.map_err(|failure| SendFailure::connect(&failure))?;
        let pings = cluster.config.pings;
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(connection_window(&cluster.config))
            .max_header_list_size(MAX_HEAD as u32)
            .keep_alive_interval(pings.map_or(PING, |pings| pings.interval))
            .keep_alive_timeout(pings.map_or(PING_TIMEOUT, |pings| pings.timeout))
            .keep_alive_while_idle(pings.is_some())
            .handshake(TokioIo::new(io));
        let shaken = timeout_at(deadline, handshake)
            .await
            .map_err(|_| SendFailure::late(within))?;
        let (sender, mut connection) = shaken.map_err(|error| SendFailure::http(&error))?;
        let (pool, key) = (Arc::downgrade(&self.pool), host.key());
        let allowed = Arc::new(AtomicUsize::new(STREAMS));
        let allows = Arc::clone(&allowed);
        tokio::spawn(async move {
            let driven = std::future::poll_fn(|context| {
                let polled = Pin::new(&mut connection).poll(context);
                allows.store(connection.current_max_send_streams(), Ordering::Relaxed);
                polled
            });
            if let Err(error) = driven.await {
                tracing::debug!(error = crate::causes(&error), "a connection to an endpoint ended");
            }
            if let Some(pool) = pool.upgrade() {
                pool.forget_closed(key);
            }
            // Last, since it wakes those who wait.
            drop(opened);
        });
        let terms = Terms::of(&cluster.config);
        let lease = self.pool.add(key, endpoint, sender.clone(), allowed, terms);
        Ok((sender, lease))
    }

    /// A connection that `kept` has, or the leave to make another one: at once, or as soon as one ends or is free. A request without a
    /// connection counts as waiting until it has one, as with Envoy.
    async fn wait<K>(&self, host: At<'_>, kept: impl Fn() -> Option<K>) -> Result<Found<K>, SendFailure> {
        let At { cluster, endpoint, .. } = host;
        if let Some(kept) = kept() {
            return Ok(Found::Kept(kept));
        }
        let pending = cluster.pending().ok_or_else(SendFailure::overflow)?;
        let freed = self.pool.freed(host.key(), endpoint);
        loop {
            // Before it is looked: what happens in between wakes, too.
            let (mut of_endpoint, mut of_cluster) = (pin!(freed.notified()), pin!(cluster.load.room().notified()));
            of_endpoint.as_mut().enable();
            of_cluster.as_mut().enable();
            if let Some(kept) = kept() {
                return Ok(Found::Kept(kept));
            }
            if let Some(opened) = self.pool.open(host.key(), cluster, endpoint) {
                return Ok(Found::New(opened, pending));
            }
            tokio::select! {
                () = of_endpoint => {}
                () = of_cluster => {}
            }
        }
    }
}

/// Where a request goes.
#[derive(Clone, Copy)]
struct At<'a> {
    cluster: &'a Cluster,
    endpoint: &'a Endpoint,
    /// Between whom connections are that may carry it, where the endpoint is told.
    ends: Option<Ends>,
}

impl At<'_> {
    fn key(&self) -> Key {
        Key {
            endpoint: self.endpoint.id,
            ends: self.ends,
        }
    }

    fn used_for(&self, purpose: Purpose) -> Use {
        Use {
            purpose,
            ends: self.ends,
        }
    }
}

/// What a connection of HTTP/2 may have under way: as much as all its streams, so that answers that nobody reads hold up no others.
fn connection_window(config: &ClusterConfig) -> u32 {
    const MOST: u32 = (1 << 31) - 1;
    let streams = u32::try_from(streams(config)).unwrap_or(MOST);
    streams.saturating_mul(STREAM_WINDOW).min(MOST)
}

/// What a request is sent over.
enum Found<K> {
    Kept(K),
    /// A connection that is still to be made, and that the request waits for it.
    New(Opened, Counted),
}
