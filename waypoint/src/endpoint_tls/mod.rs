//! TLS that endpoints speak themselves, inside of the tunnel: our end of it.
//!
//! `verify` is what is demanded of a server's certificate, `roots` whom the system trusts, `failure` why there is no connection.

mod failure;
mod roots;
mod verify;

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use failure::{Failure, Reason};
pub use verify::Name;
use verify::Verifier;

/// What is demanded of servers.
#[derive(Debug)]
pub struct Demands {
    /// The name that they are asked for (SNI); none asks for none.
    pub server_name: Option<ServerName<'static>>,
    /// Who may have signed their certificates; none: nothing of them is looked at.
    pub trust: Option<Trust>,
    /// Their certificates must be for one of these, if there are any.
    pub names: Vec<Name>,
    /// The message that says all this: by it two are known to be the same.
    pub said: Box<[u8]>,
}

/// Who may have signed a certificate.
#[derive(Debug)]
pub enum Trust {
    /// One of these.
    Roots(Arc<RootCertStore>),
    /// Whom the system trusts.
    System,
}

/// What a connection is for: it is what is said to be spoken inside (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Requests of HTTP/1.1.
    Http1,
    /// Requests of HTTP/2.
    Http2,
    /// Whatever the client says.
    Bytes,
}

/// A client of such servers. Its sessions may be taken up again, since all of them were verified in the same way.
pub struct EndpointTls {
    server_name: ServerName<'static>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
    said: Box<[u8]>,
}

impl EndpointTls {
    /// Whether what one has verified the other would take, and what one says the other says: connections of one are as good as the other's.
    pub fn is_same(&self, other: &Self) -> bool {
        self.said == other.said
    }

    /// A client that demands this.
    ///
    /// # Errors
    /// When rustls cannot be configured so.
    pub fn new(demands: Demands) -> Result<Self, rustls::Error> {
        // Unlike that of the tunnel it is for servers of all kinds.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let trust = demands.trust.map(|trust| match trust {
            Trust::Roots(roots) => roots,
            Trust::System => roots::system(),
        });
        let verifier = Arc::new(Verifier::new(&provider, trust, demands.names));
        let mut base = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        base.enable_sni = demands.server_name.is_some();
        let speaking = |protocols: &[&[u8]]| {
            let mut config = base.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        let http1 = speaking(&[b"http/1.1"]);
        Ok(Self {
            http1,
            http2: speaking(&[b"h2"]),
            bytes: speaking(&[]),
            said: demands.said,
            // Sessions are kept by it, and nobody is asked for it where there is none.
            server_name: demands.server_name.unwrap_or(unnamed()),
        })
    }

    /// Speaks TLS over a connection.
    ///
    /// # Errors
    /// Where the server does not, or is not as demanded.
    pub(crate) async fn connect<S>(&self, stream: S, purpose: Purpose) -> Result<TlsStream<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = match purpose {
            Purpose::Http1 => &self.http1,
            Purpose::Http2 => &self.http2,
            Purpose::Bytes => &self.bytes,
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let connected = connector.connect(self.server_name.clone(), stream).await;
        connected.map_err(|error| Failure::of(&error))
    }
}

impl fmt::Debug for EndpointTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Reads the certificates of a PEM text as roots.
///
/// # Errors
/// Where there is none, or one that cannot be a root.
pub fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    if store.is_empty() {
        return Err("has no certificate".to_owned());
    }
    Ok(store)
}

fn unnamed() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

#[cfg(test)]
mod tests;
