//! Programs of the mesh are killed, hang, drain, are upgraded, or have nobody to learn from.

use super::versions;
use culvert_lab::MeshOptions;
use culvert_tests::{lab, strict_town::StrictTown};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn no_byte_is_in_clear_while_a_proxy_is_killed_replaced_or_hangs() {
    let lab = lab("sf_proxy");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    // Whose proxy it is: the client's, and the server's.
    for node in [1, 2] {
        strict.during(&format!("the worker of node {node} is killed"), |strict| {
            strict.town.mesh.kill_worker(node).unwrap();
            strict.everybody_tries();
        });
        strict.during(&format!("the proxy of node {node} is killed"), |strict| {
            strict.town.mesh.ztunnel(node).unwrap().kill().unwrap();
            strict.everybody_tries();
            start_ztunnel(strict, node);
        });
        strict.during(&format!("the proxy of node {node} hangs"), |strict| {
            let both = [
                strict.town.mesh.ztunnel(node).unwrap().pid(),
                strict.town.mesh.worker_pid(node).unwrap(),
            ];
            both.iter().for_each(|pid| signal(*pid, Signal::STOP));
            strict.everybody_tries();
            both.iter().rev().for_each(|pid| signal(*pid, Signal::CONT));
        });
        strict.during(
            &format!("the proxy of node {node} drains, and another begins"),
            |strict| {
                strict.town.mesh.ztunnel(node).unwrap().signal(libc::SIGTERM).unwrap();
                strict.everybody_tries();
                start_ztunnel(strict, node);
            },
        );
    }
}

#[test]
fn no_byte_is_in_clear_while_an_agent_is_killed_or_upgraded_with_or_without_its_proxy() {
    let lab = lab("sf_agent");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    for node in [1, 2] {
        strict.during(&format!("the agent of node {node} is killed"), |strict| {
            strict.town.mesh.agent(node).unwrap().kill().unwrap();
            strict.everybody_tries();
            start_agent(strict, node);
        });
        strict.during(&format!("agent and proxy of node {node} are killed"), |strict| {
            strict.town.mesh.agent(node).unwrap().kill().unwrap();
            strict.town.mesh.ztunnel(node).unwrap().kill().unwrap();
            strict.everybody_tries();
            start_agent(strict, node);
            strict.everybody_tries();
            start_ztunnel(strict, node);
        });
        // Another layout of the maps: programs of both versions are attached until each pod has changed over.
        strict.during(
            &format!("the agent of node {node} is upgraded while its proxy hangs"),
            |strict| {
                strict.town.mesh.agent(node).unwrap().kill().unwrap();
                strict.town.mesh.ztunnel(node).unwrap().signal(libc::SIGSTOP).unwrap();
                *strict.town.mesh.agent_args() =
                    vec!["--map-flows".into(), "32768".into(), "--proxy-wait".into(), "1s".into()];
                start_agent(strict, node);
                strict.everybody_tries();
                strict.town.mesh.ztunnel(node).unwrap().signal(libc::SIGCONT).unwrap();
                strict.town.wait_enrolled(true);
                let is_one = || versions(strict, node).len() == 1;
                strict.wait("the earlier programs are gone", is_one);
            },
        );
    }
}

#[test]
fn no_byte_is_in_clear_while_the_controller_is_away_and_a_proxy_knows_nothing() {
    let lab = lab("sf_ctl");
    let mut strict = StrictTown::start(&lab, MeshOptions::default());
    strict.during("the controller is away", |strict| {
        strict.town.mesh.controller().unwrap().kill().unwrap();
        strict.everybody_is_answered();
        for node in [1, 2] {
            // The next one has nobody to learn from.
            strict.town.mesh.ztunnel(node).unwrap().kill().unwrap();
            strict.town.mesh.start_ztunnel(node).unwrap();
            strict.everybody_tries();
            strict.town.mesh.restart_agent(node).unwrap();
            strict.everybody_tries();
        }
        strict.town.mesh.start_controller().unwrap();
    });
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn start_ztunnel(strict: &mut StrictTown<'_>, node: u8) {
    strict.town.mesh.start_ztunnel(node).unwrap();
    strict.town.mesh.wait_for_ztunnel(node).unwrap();
}

fn start_agent(strict: &mut StrictTown<'_>, node: u8) {
    strict.town.mesh.start_agent(node).unwrap();
    strict.town.mesh.wait_for_agent(node).unwrap();
}
