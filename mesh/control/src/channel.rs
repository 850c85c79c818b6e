//! The way to the controller: TLS checked by the controller's roots, and the caller's token on every call.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Mutex, watch};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Uri},
};

use crate::{Secrets, Settings};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Within this, its name must have been resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A controller whose machine is gone is noticed by the kernel within seconds: it asks after three of silence, and gives
/// up when three answers are missing.
const TCP_KEEPALIVE: Duration = Duration::from_secs(3);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const TCP_KEEPALIVE_RETRIES: u32 = 3;

/// One that hangs is noticed by pings. Istio's control plane ends connections that ping more often than every 15 s.
const PING: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections. Clones share them, the secrets, and what the controller told.
#[derive(Clone)]
pub(super) struct ControllerClient {
    settings: Arc<Settings>,
    secrets: watch::Receiver<Secrets>,
    /// PEM roots that the controller told; empty before.
    told: Arc<watch::Sender<Vec<u8>>>,
    /// The newest connection, unless it is known to be broken.
    shared: Arc<Mutex<Option<Channel>>>,
    /// What the controller's name led to when it could be resolved last.
    remembered: Arc<Mutex<Vec<SocketAddr>>>,
    /// Counts the configuration streams that came about.
    streams: Arc<watch::Sender<u64>>,
}

/// Why the controller cannot be called.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    #[error("`{0}` is no address of a controller")]
    Address(String),
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        source: tonic::transport::Error,
    },
    #[error("{0} did not answer within {1:?}")]
    Timeout(String, Duration),
    #[error("the name {0} cannot be resolved, and no address of the controller is known beside it")]
    Unresolved(String),
    #[error("the token has characters that no HTTP header may have")]
    Token,
}

impl ControllerClient {
    pub(super) fn new(settings: Settings, secrets: watch::Receiver<Secrets>) -> Self {
        Self {
            settings: Arc::new(settings),
            secrets,
            told: Arc::default(),
            shared: Arc::default(),
            remembered: Arc::default(),
            streams: Arc::default(),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// PEM roots for the mesh's certificates: those in the file, and those that the controller told.
    pub(super) fn roots(&self) -> Vec<u8> {
        let mut roots = self.secrets.borrow().roots.clone();
        roots.push(b'\n');
        roots.extend_from_slice(&self.told.borrow());
        roots
    }

    /// The controller told which roots are to be trusted.
    pub(super) fn tell_roots(&self, pem: &str) {
        self.told.send_if_modified(|told| {
            let changed = told.as_slice() != pem.as_bytes();
            if changed {
                *told = pem.as_bytes().to_vec();
            }
            changed
        });
    }

    /// Changes when [`Self::roots`] may have.
    pub(super) fn roots_changes(&self) -> (watch::Receiver<Secrets>, watch::Receiver<Vec<u8>>) {
        (self.secrets.clone(), self.told.subscribe())
    }

    /// Changes whenever the controller is there again.
    pub(super) fn streams(&self) -> watch::Receiver<u64> {
        self.streams.subscribe()
    }

    /// A configuration stream is open.
    pub(super) fn note_stream(&self) {
        self.streams.send_modify(|streams| *streams += 1);
    }

    /// The connection that is there, or a new one.
    pub(super) async fn shared(&self) -> Result<Channel, ChannelError> {
        let mut shared = self.shared.lock().await;
        if let Some(channel) = &*shared {
            return Ok(channel.clone());
        }
        let channel = self.connect_now().await?;
        *shared = Some(channel.clone());
        Ok(channel)
    }

    /// The connection is broken: the next that is asked for is another.
    pub(super) async fn forget(&self) {
        *self.shared.lock().await = None;
    }

    /// Connects anew, for all.
    pub(super) async fn connect(&self) -> Result<Channel, ChannelError> {
        let channel = self.connect_now().await?;
        *self.shared.lock().await = Some(channel.clone());
        Ok(channel)
    }

    async fn connect_now(&self) -> Result<Channel, ChannelError> {
        let address = &self.settings.controller;
        let uri: Uri = address.parse().map_err(|_| ChannelError::Address(address.clone()))?;
        let host = uri.host().ok_or_else(|| ChannelError::Address(address.clone()))?;
        let name = self.settings.controller_name.as_deref().unwrap_or(host);
        let port = uri.port_u16().unwrap_or(443);
        let places = self.places(host, port).await;
        let time = CONNECT_TIMEOUT / u32::try_from(places.len()).unwrap_or(1).max(1);
        let mut last = ChannelError::Unresolved(host.to_owned());
        for place in places {
            match tokio::time::timeout(time, self.connect_to(place, &uri, name)).await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error)) => last = error,
                Err(_) => last = ChannelError::Timeout(format!("{address} at {place}"), time),
            }
        }
        Err(last)
    }

    /// Where the controller may be. Its name may depend on a cluster DNS that waits for the mesh, which waits for the
    /// controller: so what the name led to before is remembered, and the service's address is known beside the name.
    async fn places(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse::<IpAddr>() {
            return vec![SocketAddr::new(address, port)];
        }
        let why = match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port))).await {
            Ok(Ok(found)) => {
                let found: Vec<SocketAddr> = found.collect();
                self.remembered.lock().await.clone_from(&found);
                return found;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {RESOLVE_TIMEOUT:?}"),
        };
        let mut places = self.remembered.lock().await.clone();
        let by_environment = self.settings.controller_host.map(|host| SocketAddr::new(host, port));
        places.extend(by_environment.filter(|place| !places.contains(place)));
        tracing::warn!(
            host,
            why,
            ?places,
            "the controller's name cannot be resolved; trying what is known beside it"
        );
        places
    }

    async fn connect_to(&self, place: SocketAddr, uri: &Uri, name: &str) -> Result<Channel, ChannelError> {
        let connect = |source| ChannelError::Connect {
            address: format!("{uri} at {place}"),
            source,
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.roots()))
            .domain_name(name);
        let scheme = uri.scheme_str().unwrap_or("https");
        let endpoint =
            Channel::from_shared(format!("{scheme}://{place}")).map_err(|_| ChannelError::Address(uri.to_string()))?;
        let endpoint = endpoint
            .origin(uri.clone())
            .tls_config(tls)
            .map_err(connect)?
            .tcp_keepalive(Some(TCP_KEEPALIVE))
            .tcp_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL))
            .tcp_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        endpoint.connect().await.map_err(connect)
    }

    /// Puts the caller's token on a call.
    pub(super) fn authorize<T>(&self, request: &mut Request<T>) -> Result<(), ChannelError> {
        let token = format!("Bearer {}", self.secrets.borrow().token);
        let mut token = MetadataValue::<Ascii>::try_from(token).map_err(|_| ChannelError::Token)?;
        token.set_sensitive(true);
        request.metadata_mut().insert("authorization", token);
        Ok(())
    }
}

/// A gRPC status as people read it: code, message and causes.
pub(super) fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// An error with its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
