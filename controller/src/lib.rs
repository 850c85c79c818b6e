//! The controller: what the mesh is, told to every node.
//!
//! A reader who follows a change enters the rooms in this order:
//!
//! ```text
//! culvert_objects::Directory ──> model ──> snapshot ──> serve::discovery ──> node proxies
//!      (YAML, findings)       (Workload,  (names,       (delta ADS)
//!                              Service)    aliases)
//!                                  │
//!                                  └──> authority <── serve::certificates <── node proxies
//!                                       (who may ask for which identity)
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`model`] | Kubernetes objects become the L4 proxy's resources, and only those that a change touches are made anew |
//! | [`snapshot`] | all resources at one moment, with their aliases |
//! | [`authority`] | the root key, node tokens, and the rules by which certificates are signed |
//! | [`serve`] | gRPC over TLS: discovery and certificates |
//! | [`monitor`] | metrics, status and findings over HTTP |
//! | [`run`] | puts them together |
//! | [`clock`] | the time of day, which a test may own |

#![forbid(unsafe_code)]

pub mod authority;
pub mod clock;
pub mod cluster;
pub mod flags;
mod follow;
pub mod model;
pub mod monitor;
pub mod run;
pub mod serve;
pub mod snapshot;
pub mod source;
pub mod state;
