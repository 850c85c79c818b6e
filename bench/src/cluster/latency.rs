//! Requests at a fixed rate on open connections: how long does half of them take?

use super::{
    bench::{Bench, missing},
    judge,
    table::{LATENCY, Outcome},
};
use culvert_cluster_tests::{Load, PodSpec, Report, Space, until};

pub(super) fn measure(bench: &mut Bench) {
    bench.lines([&LATENCY], |bench| [latency(bench)]);
}

fn latency(bench: &Bench) -> Outcome {
    let requests = if bench.quick { 5_000 } else { 20_000 };
    let space = bench.world.space("latency");
    space.start(&[PodSpec::server("server").on("node2")]);
    let direct = thousand_a_second(&space, "direct", requests);
    space.enrol();
    space.wait_captured(&["server"]);
    let mesh = thousand_a_second(&space, "mesh", requests);
    judge::latency(&mesh, &direct).map_or_else(
        || missing("the load told no percentiles"),
        |outcome| outcome.comparable(bench),
    )
}

/// 20 connections from node1 to node2 on which a request follows 20 ms after the last answer. One new connection a second
/// shows that the load is under way.
fn thousand_a_second(space: &Space<'_>, name: &str, requests: u64) -> Report {
    let to = space.address("server");
    let arguments = ["load", "--to", &to, "--rate", "1", "--open", "20", "--ping", "20"];
    let load = Load::start_with(space, PodSpec::new(name, &arguments).on("node1"));
    until("enough requests", || {
        load.now().is_some_and(|now| now.pings >= requests)
    });
    load.stop()
}
