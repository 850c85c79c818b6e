//! The controller: what the mesh is, told to every node.
//!
//! A reader who follows a change enters the rooms in this order:
//!
//! ```text
//! source ────────> model ──────────> snapshot ──> serve::discovery ──> node proxies
//! (API server or   (units, derived    (resources,  (delta ADS)
//!  directory;       by what they       aliases)
//!  kinds, findings) read)                 │
//!                                         └──> state, read by
//!                                              authority, placement, events, pages
//! ```
//!
//! Each step costs what changed: a source hands on a state of all objects that shares with the one before whatever did not
//! change ([`culvert_objects::PersistentMap`]), the model finds the difference and derives again what depends on it, and
//! the changes of resources name everything by which a client may have asked for them.
//!
//! | module | what |
//! |---|---|
//! | [`source`] | objects from a cluster's API server, or from a directory |
//! | [`model`] | objects become resources (`mesh/resources`) |
//! | [`snapshot`] | all resources at one moment, with their aliases |
//! | [`placement`] | which identities run on which node |
//! | [`state`] | all of that at one moment |
//! | `follow` | makes one from the other |
//! | `refusals` | what proxies refuse of what they are told |
//! | `keys` | the keys of token issuers, fetched |
//! | [`authority`] | the root key, node tokens, and the rules by which certificates are signed |
//! | [`serve`] | gRPC over TLS: discovery and certificates |
//! | [`cluster`] | what the controller does in a cluster beside reading it |
//! | [`monitor`] | metrics, status and findings over HTTP |
//! | `policy_test` | what policies would refuse that are not applied yet |
//! | `inquiry` | what holds at a Service, and what is wrong with all objects |
//! | [`run`] | puts them together |
//! | [`clock`] | the time of day, which a test may own |

#![forbid(unsafe_code)]

pub mod authority;
pub mod clock;
pub mod cluster;
mod duration;
pub mod flags;
mod follow;
mod inquiry;
mod keys;
pub mod monitor;
pub mod placement;
mod policy_test;
mod refusals;
pub mod run;
pub mod serve;
pub mod source;
pub mod state;

pub use culvert_resources::{model, snapshot};
