//! What TrafficPolicies ask of waypoints, of each kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod compression;
mod health;
mod limits;
mod scene;
mod times;
