//! HTTP, and HTTPS by the system's roots or named ones.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// What sends requests.
pub(crate) type Client = Legacy<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The roots cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the roots of token issuers in {path}: {why}")]
pub(crate) struct BadRoots {
    path: String,
    why: String,
}

/// A client that trusts the roots in a file, or else the system's, or Mozilla's where the system has none.
///
/// # Errors
/// Where the file cannot be read, or has no certificate.
pub(crate) fn client(roots: Option<&Path>) -> Result<Client, BadRoots> {
    let store = match roots {
        Some(path) => named(path)?,
        None => public(rustls_native_certs::load_native_certs().certs),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BadRoots {
            path: String::new(),
            why: error.to_string(),
        })?
        .with_root_certificates(store)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Legacy::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector))
}

/// The system's roots, or where it has none, as in the controller's image, those that Mozilla trusted when this was built.
fn public(system: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(system);
    if store.is_empty() {
        store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    store
}

fn named(path: &Path) -> Result<RootCertStore, BadRoots> {
    let bad = |why: String| BadRoots {
        path: path.display().to_string(),
        why,
    };
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        store.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::public;

    #[test]
    fn public_issuers_are_trusted_in_an_image_without_roots() {
        assert!(public(Vec::new()).len() > 50);
    }
}
