//! Pods whose first act is a request.

use super::{
    bench::Bench,
    judge,
    table::{ARRIVALS, Outcome},
};
use culvert_cluster_tests::{PodSpec, Space, Wire};
use culvert_lab::wait_until;
use serde_json::Value;
use std::{net::IpAddr, time::Duration};

/// The label of these pods.
const FIRST: &str = "first-act";
/// The longest wait for all of them. A slow machine takes seconds for each, with or without a mesh.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn measure(bench: &mut Bench) {
    bench.lines([&ARRIVALS], |bench| [arrivals(bench)]);
}

fn arrivals(bench: &Bench) -> Outcome {
    let count = if bench.quick { 20 } else { 40 };
    let direct = {
        let space = bench.world.space("direct");
        first_requests(&space, count).0
    };
    let space = bench.world.space("arrivals");
    space.enrol();
    let (times, failures, clear_bytes) = first_requests(&space, count);
    judge::arrivals(&times, failures, clear_bytes, &direct)
}

/// Starts the pods on node1, all at once, and asks a server on node2: microseconds of those that had an answer, how many
/// had none, and bytes in clear.
fn first_requests(space: &Space<'_>, count: usize) -> (Vec<u64>, usize, u64) {
    space.start(&[PodSpec::server("server").on("node2")]);
    let to = space.address("server");
    let wire = Wire::tap(space.world(), "node1");
    let pods: Vec<_> = (0..count)
        .map(|number| asking(&format!("first-{number}"), &to))
        .collect();
    space.create_pods(&pods);
    let reports = reports(space, count);
    let found = space.get(&["pods", &format!("--selector={FIRST}=request")]);
    let found = found["items"].as_array().cloned().unwrap_or_default();
    let address = |pod: &Value| pod["status"]["podIP"].as_str()?.parse().ok();
    let addresses: Vec<IpAddr> = found.iter().filter_map(address).collect();
    assert_eq!(addresses.len(), count, "a pod has no address");
    let clear_bytes = Wire::between_pods(&wire.take(), &addresses).clear_bytes();
    let well = reports.iter().filter(|report| report["ok"] == true);
    let times: Vec<u64> = well.filter_map(|report| report["microseconds"].as_u64()).collect();
    let failures = count - times.len();
    for report in reports.iter().filter(|report| report["ok"] != true).take(3) {
        eprintln!("    FAILED: {report}");
    }
    (times, failures, clear_bytes)
}

/// A pod on node1 that asks once and ends.
pub(super) fn asking(name: &str, to: &str) -> PodSpec {
    PodSpec::new(name, &["ask", "--to", to])
        .on("node1")
        .label(FIRST, "request")
}

/// What the pods that ask had to say, when as many have ended.
pub(super) fn reports(space: &Space<'_>, count: usize) -> Vec<Value> {
    let selector = format!("--selector={FIRST}=request");
    let asked = wait_until("pods to have asked", PATIENCE, || {
        let pods = space.get(&["pods", &selector]);
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let ended = |pod: &&Value| pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed";
        pods.iter().filter(ended).count() >= count
    });
    if let Err(error) = asked {
        panic!("{error:#}");
    }
    let logs = space.kubectl(&["logs", &selector, "--tail=-1", "--max-log-requests=50"]);
    let parsed = logs
        .lines()
        .filter_map(|line| serde_json::from_str::<Vec<Value>>(line).ok());
    parsed.flatten().collect()
}
