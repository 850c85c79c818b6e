//! The certificate authority: who may ask, for what, and who signs.
//!
//! ```text
//! node proxy ──CSR, token──> [service] ── who? [authenticate] ── may it? [issuance_policy] ── [sign] ──chain──> node proxy
//!                                            files: [tokens]                                   │
//!                                            cluster: [token_review] ──> [kubernetes] review   │
//!            files: [root], signing_file ┬── a checked [signer] ──> [bundle]: who signs when ──┤
//!            cluster: [kubernetes] secret┘                                                     └──> roots to be trusted
//! ```
//!
//! The CSR proves possession of a key and nothing else: the identity in the certificate is the one that was authorised,
//! whatever the CSR asks for. A node gets only the identities of pods that run on it, any other workload its own. Every
//! refusal is logged with [caller] and identity, and counted. `serving` keeps the controller's own certificate young, and
//! `revocation_file` holds what is revoked.

mod anchor;
mod authenticate;
mod bundle;
mod caller;
mod claims;
mod connection;
mod error;
mod issuance_policy;
mod kubernetes;
mod leaf;
mod rate_limit;
mod revocation_file;
mod root;
mod service;
mod serving;
mod setup;
mod sign;
mod signer;
mod signing_file;
mod token_cache;
mod token_review;
mod tokens;

#[cfg(test)]
mod tests;

pub(crate) use anchor::Anchor;
pub(crate) use authenticate::{Authenticator, Unauthenticated, authenticate};
pub(crate) use caller::{Authenticated, Caller, Source};
pub(crate) use connection::{Connection, Strangers};
pub(crate) use error::AuthorityError;
pub(crate) use issuance_policy::{IssuancePolicy, Refusal};
pub(crate) use root::{RootFolder, make};
pub(crate) use service::{CertificateService, SigningMetrics};
pub use setup::AuthorityFlags;
pub(crate) use setup::Setup;
pub(crate) use sign::{Authority, KeyedCertificate, SigningState};
pub(crate) use signer::{Material, Signer};
pub use token_review::Account;
pub(crate) use token_review::{Answer, BoundPod, NodeOfPod, Review, TokenReviewer};
pub(crate) use tokens::{TokenOwner, Tokens};
