//! What the end-to-end tests in `tests/` share.
//!
//! Each test makes a lab of its own (see `culvert-lab`), runs the real programs in it, and drives them with `probe`
//! (`bin/probe/`), an application that knows the many ways to connect and checks every byte. Where a test plays a node that
//! misbehaves, [`authority`] makes its certificates and [`tunnel`] is its end of the tunnel, [`raw_peer`] the same frame by frame, [`floods`] what it may send too much of, [`raw_http2`] one of applications. [`programs`] runs what others have
//! written: databases, brokers, mail servers; [`envoy`] makes Envoy one end of the tunnel, [`waypoint`] runs waypoints, [`played`] is one that a test plays,
//! [`app`] is the application behind it, [`websocket`] one with WebSocket over HTTP/2, [`pinged_app`] one that counts pings, [`h2_app`] one that notes schemes and resets, [`proxied_app`] some that want the PROXY protocol, [`tls_app`] and [`tls_server`] are some that speak TLS themselves, [`edge`] is where bad bytes are tried, [`strict_app`] its application, which finds what no proxy may let through; [`cases`] are requests and what becomes of them as data,
//! [`scene`] is where they are tried, [`suite`] tries them; [`strict_town`] is where faults are tried that nobody may learn anything by.
//!
//! These are tests' means, so they panic with a message where a test would fail anyway.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

mod accept;
pub mod app;
pub mod authority;
pub mod authorizer;
pub mod cases;
mod command;
pub mod counter;
pub mod dns;
pub mod echo;
pub mod edge;
pub mod envoy;
pub mod floods;
pub mod grpc;
pub mod h2_app;
pub mod health_app;
pub mod http;
pub mod issuer;
mod kernel;
pub mod memory;
pub mod pair;
mod patience;
pub mod pinged_app;
pub mod plain_front;
pub mod played;
pub mod probe;
pub mod programs;
pub mod proxied_app;
pub mod raw_http2;
pub mod raw_peer;
pub mod scene;
pub mod slow_app;
pub mod strict_app;
pub mod strict_town;
pub mod suite;
pub mod text_app;
pub mod tls_app;
pub mod tls_server;
pub mod town;
pub mod tunnel;
pub mod waypoint;
pub mod websocket;

pub use accept::accept;
pub use command::culvert;
pub use kernel::guard_hooks;
pub use patience::PATIENCE;
pub use town::{Town, lab};
