//! Incremental xDS (delta ADS) as state machines without I/O: they take messages and give messages.
//!
//! | module | who runs it |
//! |---|---|
//! | [`client`] | a proxy: what it wants, what it has, what it acknowledges |
//! | [`server`] | the controller: what each client was sent, and what it lacks |
//! | [`Change`] | what a change of the configuration concerns |
//! | [`Index`] | which streams a change concerns |
//!
//! The protocol is Envoy's ([xDS, incremental]), with the two ways of subscribing that Istio's node proxy uses: the
//! wildcard, and on demand, where the client names what its pods connect to by resource name or by the alias
//! `network/ip`. gRPC streams, timers and reconnecting belong to the programs.
//!
//! [xDS, incremental]: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds

#![forbid(unsafe_code)]

mod change;
pub mod client;
mod index;
mod resources;
mod response;
pub mod server;
mod subscription;

pub use change::Change;
pub use index::{Index, Interest, Key, StreamId};

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

/// The name that subscribes to everything.
pub const WILDCARD: &str = "*";
