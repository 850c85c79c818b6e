//! The way to endpoints: connections, kept and shared by requests of one thread, whichever client they come from.
//!
//! `io` is a connection, through the tunnel or in clear, with TLS of the endpoint's own where it speaks that; `send` sends a request over one that speaks HTTP, and `pool` keeps these; `failure` says what becomes of a request
//! that got no answer, and `tls_failures` counts where that TLS did not come about.

mod failure;
mod io;
mod pool;
mod send;
mod tls_failures;

pub use failure::{SendFailure, Stage};
pub use pool::{Lease, Pool};
pub use send::Upstream;
pub use tls_failures::TlsFailures;
