//! TLS of their own that endpoints speak, in our own words: what a client of them says and demands. It goes inside of the tunnel.

use std::net::IpAddr;
use std::sync::Arc;

use rustls_pki_types::ServerName;

/// TLS towards the endpoints of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendTls {
    /// The name that the server is asked for (SNI). None is the host that the endpoints are of.
    pub(crate) server_name: Option<String>,
    pub(crate) trust: Trust,
    /// The server's certificate must be for one of them. None are: for the server name.
    pub(crate) names: Vec<AltName>,
}

/// Who may have signed the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// One of these certificates, in PEM.
    Bundle(Arc<str>),
    /// Whomever the proxy's own system trusts.
    System,
    /// Anybody: nothing of the certificate is looked at, not even its names.
    Anybody,
}

/// A name that a certificate may be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AltName {
    /// A host name; what begins with `*.` in the certificate is for all names one label longer.
    Dns(String),
    /// A URI, letter by letter.
    Uri(String),
    /// An address.
    Address(IpAddr),
}

/// What is said of TLS towards endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing.
    #[default]
    Nothing,
    /// That there is none beside the tunnel's.
    None,
    /// This.
    Tls(BackendTls),
}

impl BackendTls {
    /// The same with the names that it has at a host. None where nobody could be asked for that: a host with a star, or what proxies take for no
    /// name of a server.
    pub(crate) fn at_host(mut self, host: &str) -> Option<Self> {
        let server_name = match self.server_name.take() {
            Some(name) => name,
            None if !is_server_name(host) => return None,
            None => host.to_owned(),
        };
        if self.names.is_empty() && self.trust != Trust::Anybody {
            self.names.push(AltName::of(&server_name));
        }
        self.server_name = Some(server_name);
        Some(self)
    }
}

impl AltName {
    /// A name as Istio writes it, which does not say of which kind it is.
    pub(crate) fn of(text: &str) -> Self {
        if let Ok(address) = text.parse() {
            return Self::Address(address);
        }
        if text.contains("://") {
            return Self::Uri(text.to_owned());
        }
        Self::Dns(text.to_ascii_lowercase())
    }
}

/// Whether proxies take a text for the name of a server: one that they did not would be refused by them, and what they had before would
/// hold.
pub(crate) fn is_server_name(text: &str) -> bool {
    ServerName::try_from(text).is_ok()
}
