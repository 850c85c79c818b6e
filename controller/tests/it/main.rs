//! The controller as its users meet it: a process, a directory, gRPC over TLS, and HTTP. And the model by itself,
//! beside the recordings of Istio's control plane.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test says where")]

mod authority;
mod cases;
mod certificates;
mod client;
mod cluster;
mod decisions;
mod discovery;
mod given;
mod golden;
mod hour;
mod kinds;
mod life;
mod process;
mod refusals;
mod statuses;
mod streams;
mod waypoints;
