//! Who a workload is, and how it proves it.
//!
//! An identity is a [`SpiffeId`], `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`, carried as the one URI
//! in an X.509 certificate's subject alternative names ([SPIFFE X509-SVID]). A node proxy makes a key and a
//! [`CertificateRequest`] for each identity that runs on its node, sends it to the certificate authority, and turns the
//! answer into [`Credentials`], from which TLS configurations for both ends of a tunnel are made:
//!
//! ```text
//! CertificateRequest::new(id) ── csr_pem ──> authority ── chain ──> complete(chain, bundle) ──> Credentials
//!                                                              server_config() / client_config(expected) <──┘
//! ```
//!
//! The verifiers here accept a peer only when its chain ends in the [`TrustBundle`], its certificate is valid now, and
//! its identity parses and belongs to the trust domain; a client also demands one of the identities that it expects.
//! TLS 1.3 only, ALPN `h2`, no session tickets: a resumed session would outlive a revoked identity.
//!
//! Start reading at [`spiffe`](SpiffeId), then [`Credentials`].
//!
//! [SPIFFE X509-SVID]: https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md

#![forbid(unsafe_code)]

mod bundle;
mod certificate;
mod credentials;
mod error;
mod names;
mod request;
mod revocation;
mod spiffe;
mod verify;

#[cfg(test)]
mod tests;

pub use bundle::{TrustBundle, authorities};
pub use certificate::{peer_expiry, peer_identity};
pub use credentials::Credentials;
pub use error::IdentityError;
pub use names::{dns_name, trust_domain};
pub use request::CertificateRequest;
pub use revocation::Revocations;
pub use spiffe::{SpiffeError, SpiffeId};

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

/// The cryptography of every TLS connection in the mesh: aws-lc-rs, AES-GCM suites of TLS 1.3 alone.
///
/// AES-256 comes first: AES-128 was measured to be no faster. Keys are exchanged by X25519 and ML-KEM-768 together where the peer can, so
/// that what is recorded today cannot be read by a quantum computer of tomorrow.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_AES_128_GCM_SHA256,
            ],
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::SECP256R1, kx_group::X25519],
            ..aws_lc_rs::default_provider()
        })
    }))
}
