//! The program itself: configured and certified by a controller, asked by clients, ended by signals.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../requests/envoy.rs"]
#[allow(dead_code, reason = "each test program uses a part")]
mod envoy;
#[path = "../requests/mesh.rs"]
#[allow(dead_code, reason = "each test program uses a part")]
mod mesh;

mod controller;
mod life;
mod process;
