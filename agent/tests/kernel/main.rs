//! The kernel programs on the running kernel, loaded by the agent's own code, between real network namespaces.
//!
//! Each test is a process of its own (nextest) and plays all parts: agent, proxy and application differ by the cgroup
//! that the process is in at the moment. Needs root; fails without.
#![allow(
    clippy::expect_used,
    reason = "tests and what they stand on; clippy takes only functions marked #[test] for tests"
)]

mod dns;
mod guard;
mod hold;
mod inbound;
mod interfaces;
mod leg_transfers;
mod legs;
mod life;
mod outbound;
mod same_node;
mod support;
mod upgrades;
