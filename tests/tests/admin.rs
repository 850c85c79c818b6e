//! What people ask of the running programs: profiles, other logs, an end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use culvert_lab::{MeshOptions, Namespace, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab, probe, programs, town::PORT};

/// Where the echo is, beside the town's own servers.
const ECHO: u16 = PORT + 1;

/// The admin ports of the programs.
const ZTUNNEL: u16 = 15000;
const AGENT: u16 = 15022;
const CONTROLLER: u16 = 15014;

/// Asks on loopback.
fn ask(place: &Namespace, method: &str, port: u16, page: &str) -> (u16, Vec<u8>) {
    ask_at(place, method, (Ipv4Addr::LOCALHOST, port).into(), page)
}

fn ask_at(place: &Namespace, method: &str, address: SocketAddr, page: &str) -> (u16, Vec<u8>) {
    let asked = place.run(|| culvert_lab::ask(method, address, page, PATIENCE));
    asked.unwrap().unwrap_or_else(|error| panic!("{page}: {error:#}"))
}

fn text(answer: &(u16, Vec<u8>)) -> String {
    String::from_utf8_lossy(&answer.1).into_owned()
}

/// Where each program's pages are.
fn programs_of<'town>(town: &'town Town<'_>) -> [(&'static str, &'town Namespace, u16); 3] {
    let node = town.lab.node(1).namespace();
    [
        ("ztunnel", node, ZTUNNEL),
        ("agent", node, AGENT),
        ("controller", town.lab.control(), CONTROLLER),
    ]
}

/// What pprof makes of a profile.
fn pprof(profile: &Path, how: &str) -> String {
    programs::run(
        Command::new("go")
            .args(["tool", "pprof", how, "-symbolize=none"])
            .arg(profile),
    )
}

/// The worker has no capability, a seccomp filter, and must not be looked into: it can be profiled all the same, by itself.
#[test]
fn every_program_profiles_itself_under_load_and_pprof_reads_it() {
    let lab = lab("profiles");
    let mut town = Town::meshed(&lab);
    echo::serve(&town.server, ECHO);
    let worker = town.mesh.worker_pid(1).unwrap();
    let server = SocketAddr::from((town.server.ip4(), ECHO));
    let profile = |program: &str, place: &Namespace, port: u16| {
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(place, "GET", port, "/debug/pprof/profile?seconds=2"));
            while !asking.is_finished() {
                // New connections as well as bytes: all of it must go on while samples are taken.
                let mut stream = echo::connect(&town.client, server, PATIENCE).unwrap();
                (0..20).for_each(|_| echo::round_trip(&mut stream).unwrap());
            }
            asking.join().unwrap()
        });
        assert_eq!(answer.0, 200, "{program}: {}", text(&answer));
        programs::file(lab.dir(), &format!("{program}.pb.gz"), &answer.1)
    };
    for (program, place, port) in programs_of(&town) {
        let file = profile(program, place, port);
        let raw = pprof(&file, "-raw");
        assert!(raw.contains("samples/count cpu/nanoseconds"), "{program}: {raw}");
        if program == "ztunnel" {
            // On a busy machine a few samples may all be of something else.
            let mut top = pprof(&file, "-top");
            let seen = wait_until("the engine is in the profile", PATIENCE, || {
                let is_there = top.contains("culvert_ztunnel::engine");
                if !is_there {
                    top = pprof(&profile(program, place, port), "-top");
                }
                is_there
            });
            seen.unwrap_or_else(|error| panic!("{error:#}: {top}"));
        }
        let heap = ask(place, "GET", port, "/debug/pprof/heap");
        assert_eq!(heap.0, 200, "{program}: {}", text(&heap));
        let heap = programs::file(lab.dir(), &format!("{program}.heap.pb.gz"), &heap.1);
        let raw = pprof(&heap, "-raw");
        assert!(
            raw.contains("inuse_objects/count inuse_space/bytes"),
            "{program}: {raw}"
        );
        let wrong = ask(place, "GET", port, "/debug/pprof/profile?seconds=61");
        assert_eq!(wrong.0, 400, "{program}: {}", text(&wrong));
    }
    assert_eq!(town.mesh.worker_pid(1).unwrap(), worker, "the worker went on");
}

#[test]
fn what_is_logged_changes_while_programs_run_and_from_loopback_alone() {
    let lab = lab("log_levels");
    let options = MeshOptions {
        agent_args: vec!["--monitoring-listen=0.0.0.0:15022".to_owned()],
        ..MeshOptions::default()
    };
    let town = Town::with(&lab, options);
    for (program, place, port) in programs_of(&town) {
        assert_eq!(text(&ask(place, "GET", port, "/logging")), "info\n", "{program}");
        let changed = ask(place, "POST", port, "/logging?level=warn,access=off");
        assert_eq!(changed.0, 200, "{program}: {}", text(&changed));
        assert!(text(&ask(place, "GET", port, "/logging")).contains("warn"), "{program}");
        for wrong in ["/logging", "/logging?level=a=b=c"] {
            assert_eq!(ask(place, "POST", port, wrong).0, 400, "{program}: {wrong}");
        }
        assert_eq!(ask(place, "POST", port, "/logging?level=info").0, 200, "{program}");
    }
    let dump = text(&ask(lab.control(), "GET", CONTROLLER, "/config_dump"));
    assert!(dump.contains("Kubernetes//Pod/town/server"), "{dump}");
    let from_outside = SocketAddr::from((lab.node(1).ip4(), AGENT));
    for (method, page) in [
        ("POST", "/logging?level=trace"),
        ("POST", "/quitquitquit"),
        ("GET", "/debug/pprof/profile?seconds=1"),
    ] {
        let refused = ask_at(lab.control(), method, from_outside, page);
        assert_eq!(refused.0, 403, "{page}: {}", text(&refused));
    }
}

#[test]
fn programs_that_are_asked_to_quit_end_as_by_sigterm_and_break_nothing() {
    let lab = lab("quit");
    let mut town = Town::meshed(&lab);
    echo::serve(&town.server, ECHO);
    let server = SocketAddr::from((town.server.ip4(), ECHO));
    let mut open = echo::connect(&town.client, server, PATIENCE).unwrap();
    let node = lab.node(1).namespace();
    assert_eq!(ask(node, "POST", AGENT, "/quitquitquit").0, 200);
    let ended = town.mesh.agent(1).unwrap().wait(PATIENCE).unwrap();
    assert!(ended.success(), "agent: {ended}");
    assert_eq!(ask(lab.control(), "POST", CONTROLLER, "/quitquitquit").0, 200);
    let ended = town.mesh.controller().unwrap().wait(PATIENCE).unwrap();
    assert!(ended.success(), "controller: {ended}");
    echo::round_trip(&mut open).unwrap();
    probe::dial(&town.client, (town.server.ip4(), PORT), &[]).unwrap();

    assert_eq!(ask(node, "POST", ZTUNNEL, "/quitquitquit").0, 200);
    wait_until("the proxy drains", PATIENCE, || {
        town.mesh
            .get(1, 15021, "/healthz/ready")
            .is_ok_and(|answer| answer.status == 503)
    })
    .unwrap();
    echo::round_trip(&mut open).unwrap();
    drop(open);
    let ended = town
        .mesh
        .ztunnel(1)
        .unwrap()
        .wait(PATIENCE + Duration::from_secs(20))
        .unwrap();
    assert!(ended.success(), "ztunnel: {ended}");
}
