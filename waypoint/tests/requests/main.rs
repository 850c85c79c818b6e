//! Requests through a waypoint: clients and endpoints are real, in tunnels over loopback; what the controller would say is said by the
//! test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod carry;
mod decide;
mod early;
#[allow(dead_code, reason = "each test program uses a part")]
mod envoy;
mod idle;
mod limits;
#[allow(dead_code, reason = "each test program uses a part")]
mod mesh;
mod open;
mod warming;
mod wire;
