//! Layer 7 without I/O: values in, decisions out. `culvert-waypoint` is the program around it.
//!
//! # Where to start
//! [`RouteTable::compile`] reads a `RouteConfiguration`, [`RouteTable::find`] gives the [`Route`] of a request, whose [`Action`] says
//! what becomes of it.
//!
//! Everything that is set in a configuration is served or is an error ([`CompileError`]) that names where it is. What is served does
//! what Envoy 1.40 does.

#![forbid(unsafe_code)]

pub mod access_log;
pub mod balance;
mod error;
pub mod filters;
mod headers;
mod local_reply;
mod matching;
pub mod re2;
mod request;
pub mod retry;
pub mod route;
mod table;
mod testing;
pub mod trace;
mod value;

pub use error::{CompileError, Problem};
pub use local_reply::{grpc_reply, grpc_status, local_reply};
pub use request::{Peer, host, is_grpc, path_and_query, scheme};
pub use route::{Action, Route};
pub use table::{Found, RouteTable};
pub use value::{Fraction, LONGEST_SECONDS};
