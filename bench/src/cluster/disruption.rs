//! Restarts and kills of what the mesh is made of, under load.

use super::{
    arrivals,
    bench::Bench,
    judge,
    table::{KILL_AGENT, KILL_CONTROLLER, KILL_PROXY, KILL_WORKER, Outcome, RESTART_CONTROLLER, ROLLING},
};
use culvert_cluster::{Node, Process};
use culvert_cluster_tests::{Load, PodSpec, Report, Space};
use std::fs;

/// Pods that start while an agent or a controller is away.
const NEW_PODS: usize = 5;

pub(super) fn measure(bench: &mut Bench) {
    bench.lines([&ROLLING], |bench| [rolling_restart(bench)]);
    bench.lines([&RESTART_CONTROLLER], |bench| {
        [with_new_pods(bench, "restart", || {
            let world = &bench.world;
            world.kubectl(&[
                "-n",
                "culvert-system",
                "rollout",
                "restart",
                "deployment/culvert-controller",
            ]);
        })]
    });
    bench.lines([&KILL_CONTROLLER], |bench| {
        [with_new_pods(bench, "controllers", || {
            for node in bench.world.cluster().nodes() {
                kill(&processes(node, "culvert-controller"));
            }
        })]
    });
    bench.lines([&KILL_AGENT], |bench| {
        [with_new_pods(bench, "agent", || {
            for node in bench.world.cluster().nodes() {
                kill(&processes(node, "culvert-agent"));
            }
        })]
    });
    bench.lines([&KILL_WORKER], |bench| {
        [killed_proxy(bench, "worker", |node| {
            let workers = processes(node, "culvert-ztunnel").into_iter().filter(is_worker);
            kill(&workers.collect::<Vec<_>>());
        })]
    });
    bench.lines([&KILL_PROXY], |bench| {
        [killed_proxy(bench, "proxy", |node| {
            // Monitors first: one that lives would start another worker.
            let (workers, monitors): (Vec<_>, Vec<_>) =
                processes(node, "culvert-ztunnel").into_iter().partition(is_worker);
            kill(&monitors);
            kill(&workers);
        })]
    });
}

/// A namespace in the mesh with a server on each node, and a load from node1 to node2.
fn stage<'a>(bench: &'a Bench, name: &str) -> (Space<'a>, Load) {
    let space = bench.world.space(name);
    space.enrol();
    space.start(&[
        PodSpec::server("server").on("node2"),
        PodSpec::idle("asks-later").on("node1"),
    ]);
    let load = Load::start(&space, "across", "node1", space.address("server"));
    (space, load)
}

fn rolling_restart(bench: &Bench) -> Outcome {
    let (_space, load) = stage(bench, "rolling");
    let world = &bench.world;
    world.kubectl(&["-n", "culvert-system", "rollout", "restart", "daemonset/culvert-node"]);
    world.wait_ready();
    more(&load, bench.requests(5000));
    judge::unharmed(&load.stop())
}

/// A load, something that is done to the agents or controllers, and pods that start right after.
fn with_new_pods(bench: &Bench, name: &str, what: impl FnOnce()) -> Outcome {
    let (space, load) = stage(bench, name);
    let to = space.address("server");
    what();
    let pods: Vec<_> = (0..NEW_PODS)
        .map(|number| arrivals::asking(&format!("new-{number}"), &to))
        .collect();
    space.create_pods(&pods);
    more(&load, bench.requests(2000));
    let reports = arrivals::reports(&space, NEW_PODS);
    bench.world.wait_ready();
    let well = reports.iter().filter(|report| report["ok"] == true).count();
    judge::unharmed_with_pods(&load.stop(), well, NEW_PODS)
}

/// Two loads, one of which does not pass node1, whose proxy is killed.
fn killed_proxy(bench: &Bench, name: &str, kill: impl FnOnce(&Node)) -> Outcome {
    let (space, passing) = stage(bench, name);
    let elsewhere = Load::start(&space, "elsewhere", "node2", space.address("server"));
    let node = bench.world.node("node1");
    kill(node);
    more(&passing, bench.requests(2000));
    bench.world.wait_ready();
    let reports: [Report; 2] = [passing.stop(), elsewhere.stop()];
    let [passing, elsewhere] = &reports;
    judge::killed(passing, elsewhere)
}

/// Waits for more requests than fit into the patience of one wait.
fn more(load: &Load, count: u64) {
    for _ in 0..count / 500 {
        load.wait_more(500);
    }
}

fn processes(node: &Node, program: &str) -> Vec<Process> {
    let found = node.pids_of(program).unwrap_or_default();
    assert!(
        !found.is_empty() || program == "culvert-controller",
        "{program} does not run on {}",
        node.name()
    );
    found
}

fn is_worker(process: &Process) -> bool {
    let arguments = fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|one| one == b"--worker")
}

fn kill(processes: &[Process]) {
    for process in processes {
        if let Err(error) = process.kill() {
            panic!("{error}");
        }
    }
}
