//! The Kubernetes source and the events against a real API server, kubelet and containerd.
//!
//! These tests bring a cluster up (root, about twenty seconds), so that they run only when asked for: `cargo test -p
//! culvert-agent --test cluster -- --ignored`. `CULVERT_TEST_CLUSTER` names one that is up already.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop where it stands"
)]

mod events;
mod source;
mod support;
