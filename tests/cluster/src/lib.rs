//! What the tests on a real Kubernetes cluster share. `cargo xtask test --cluster` runs them.
//!
//! A test has a cluster of two nodes on which Culvert is installed ([`World`]) for itself; after it another one has it. It makes
//! namespaces of its own ([`Space`]), starts pods in them ([`PodSpec`]), and leaves Culvert working: whoever takes something
//! away puts it back.
//!
//! - [`Load`]: new and open connections from a pod, and what became of them. It needs nobody: neither the API server nor this
//!   program.
//! - [`Meshed`]: loads between two nodes in the mesh, while a test does something to what carries them.
//! - [`Wire`]: what somebody sees who taps the link between the nodes.
//! - [`attached_programs`]: kernel programs on a node's control groups.
//! - [`GatewayApi`]: the kinds of the Gateway API, while a test needs them.
//! - [`Rules`]: netfilter and routing rules, which Culvert never adds to.
//!
//! Every wait is for a condition, with a deadline ([`PATIENCE`]).
//!
//! ```no_run
//! use culvert_cluster_tests::{Load, PodSpec, World};
//! let world = World::installed();
//! let space = world.space("label");
//! space.start(&[PodSpec::server("server").on("node2"), PodSpec::idle("client").on("node1")]);
//! let load = Load::start(&space, "load", "node1", space.address("server"));
//! space.enrol();
//! space.wait_captured(&["server", "load"]);
//! load.stop().assert_unharmed("labelling the namespace");
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

mod agent_page;
mod culvert;
mod gateway_api;
mod kernel;
mod load;
mod meshed;
mod pod;
mod rules;
mod share;
mod space;
mod wire;
mod world;

pub use gateway_api::GatewayApi;
pub use kernel::attached_programs;
pub use load::{Load, Report};
pub use meshed::Meshed;
pub use pod::{GREET, GRPC, HTTP, PodSpec};
pub use rules::Rules;
pub use space::Space;
pub use wire::{Traffic, Wire};
pub use world::{World, built};

use std::time::{Duration, Instant};

/// The longest wait for what takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `probe` is true.
pub fn until(what: &str, mut probe: impl FnMut() -> bool) {
    eventually(what, || probe().then_some(()));
}

/// Waits until `probe` answers.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// As [`eventually`], for what takes longer or less long.
pub(crate) fn within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let deadline = started + patience;
    loop {
        if let Some(answer) = probe() {
            tell_wait(what, started);
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", patience.as_secs());
        pause();
    }
}

/// Says what was waited for, if that took long: the reports of a whole run then show what its time goes to.
fn tell_wait(what: &str, since: Instant) {
    let took = since.elapsed();
    if took >= Duration::from_secs(1) {
        eprintln!("waited {:.1} s for {what}", took.as_secs_f32());
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pause between two looks, each of which may be a `kubectl`: without it they would keep a processor busy"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(200));
}

/// Milliseconds since 1970, as the probe's reports have them.
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| time.as_millis() as u64)
}
