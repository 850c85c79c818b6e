//! Streams through tunnels, both ends ours, over memory. The clock stands still while there is work, so that no test waits.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod bytes;
mod ends;
mod hyper_inside;
mod refusals;
mod retries;
