//! The certificate authority: who may ask, for what, and who signs.
//!
//! ```text
//! node proxy ──CSR, token──> [service] ── which node? [Authenticator] ── may it? Placement ── [sign] ──chain──> node proxy
//!                                            files: [tokens]                                   │
//!                                            cluster: [reviewed] ──> [kubernetes] review       │
//!            files: [root] ────────────┬── a checked [signer] ──> [bundle]: who signs when ────┤
//!            cluster: [kubernetes] secret┘                                                     └──> roots to be trusted
//! ```
//!
//! The CSR proves possession of a key and nothing else: the identity in the certificate is the one that was authorised,
//! whatever the CSR asks for. A node gets only the identities of pods that run on it. Every refusal is logged
//! with node and identity, and counted. `serving` keeps the controller's own certificate young.

mod authenticate;
mod bundle;
mod claims;
mod error;
mod kubernetes;
mod reviewed;
mod root;
mod service;
mod serving;
mod setup;
mod sign;
mod signer;
mod tokens;
mod verdicts;

#[cfg(test)]
mod tests;

pub(crate) use authenticate::{Authenticator, Unauthenticated, caller};
pub(crate) use bundle::Anchor;
pub(crate) use error::AuthorityError;
pub use reviewed::Account;
pub(crate) use reviewed::{Answer, BoundPod, NodeOfPod, Review, Reviewed};
pub(crate) use root::{RootFolder, make};
pub(crate) use service::{CertificateService, Placement, Refusal, SigningMetrics};
pub use setup::AuthorityFlags;
pub(crate) use setup::Setup;
pub(crate) use sign::{Authority, ServerCertificate};
pub(crate) use signer::{Material, Signer};
pub(crate) use tokens::Tokens;
