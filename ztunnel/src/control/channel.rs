//! The way to the controller: TLS checked by the controller's roots, and the node's token on every call.

use std::time::Duration;

use tokio::sync::watch;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig},
};

use crate::{cli::ControllerArgs, wire::Secrets};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes connections. Clones share the secrets.
#[derive(Clone)]
pub(super) struct Endpoint {
    args: ControllerArgs,
    secrets: watch::Receiver<Secrets>,
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
    #[error("{0} did not answer within {CONNECT_TIMEOUT:?}")]
    Timeout(String),
    #[error("the token has characters that no HTTP header may have")]
    Token,
}

impl Endpoint {
    pub(super) fn new(args: ControllerArgs, secrets: watch::Receiver<Secrets>) -> Self {
        Self { args, secrets }
    }

    pub(super) fn args(&self) -> &ControllerArgs {
        &self.args
    }

    /// PEM roots for the mesh's certificates.
    pub(super) fn roots(&self) -> Vec<u8> {
        self.secrets.borrow().controller_ca.clone()
    }

    /// Connects anew.
    pub(super) async fn connect(&self) -> Result<Channel, ChannelError> {
        let address = &self.args.controller;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.roots()));
        if let Some(name) = &self.args.controller_name {
            tls = tls.domain_name(name);
        }
        let connect = |source| ChannelError::Connect {
            address: address.clone(),
            source,
        };
        let endpoint = Channel::from_shared(address.clone()).map_err(|_| ChannelError::Address(address.clone()))?;
        let endpoint = endpoint
            .tls_config(tls)
            .map_err(connect)?
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_while_idle(true);
        // Around everything: the endpoint's own limit ends before TLS begins.
        match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
            Ok(channel) => channel.map_err(connect),
            Err(_) => Err(ChannelError::Timeout(address.clone())),
        }
    }

    /// Puts the node's token on a call.
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
