//! The way to endpoints: connections, kept and shared by requests of one thread, whichever client they come from.
//!
//! `io` is a connection, through the tunnel or in clear; `send` sends a request over one that speaks HTTP, and `pool` keeps these; `failure` says what becomes of a request
//! that got no answer.

mod failure;
mod io;
mod pool;
mod send;

pub use failure::{SendFailure, Stage};
pub(crate) use io::connect;
pub use pool::{Lease, Pool};
pub use send::Upstream;
