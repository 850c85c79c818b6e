//! The way to endpoints: connections, kept and shared by requests of one thread, whichever client they come from.
//!
//! `io` is a connection, through the tunnel or in clear, with a head of the PROXY protocol (`proxy_protocol`) and TLS of the endpoint's own where it wants that; `send` sends a request over one that speaks HTTP, and `pool` keeps these; `failure` says what becomes of a request
//! that got no answer, and `tls_failures` counts where that TLS did not come about.

mod failure;
mod io;
mod pool;
mod proxy_protocol;
mod send;
mod tls_failures;

pub use failure::{SendFailure, Stage};
pub(crate) use io::Use;
pub use pool::{Lease, Pool};
pub use proxy_protocol::Ends;
pub use send::Upstream;
pub use tls_failures::TlsFailures;
