//! Two builds of Culvert in one run, with whatever build of the programs is there in the place of both.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use serde_json::Value;
use std::{path::Path, process::Command};

/// One tiny run of the two: what it printed last.
fn compare(before: &Path, rounds: &str) -> Value {
    let out = tempfile::tempdir().unwrap();
    let bench = Command::new(env!("CARGO_BIN_EXE_culvert-bench"))
        .args([
            "run",
            "--json",
            "--modes",
            "culvert-before,culvert",
            "--loads",
            "requests-1",
        ])
        .args([
            "--seconds",
            "0.1",
            "--warm-up",
            "0.05",
            "--repeats",
            "0",
            "--held",
            "0",
            "--without-counts",
        ])
        .args(["--rounds", rounds, "--before-version", "abc123", "--before"])
        .arg(before)
        .arg("--out")
        .arg(out.path())
        .output()
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&bench.stdout),
        String::from_utf8_lossy(&bench.stderr),
    );
    assert!(bench.status.success(), "{errors}\n{said}");
    let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(page.contains("culvert-before abc123"), "{page}");
    serde_json::from_str(said.lines().next_back().unwrap()).unwrap()
}

#[test]
fn two_builds_on_nodes_of_their_own_are_measured_in_turns_and_compared() {
    let programs = Path::new(env!("CARGO_BIN_EXE_culvert-bench")).parent().unwrap();
    let found = compare(programs, "2");
    assert_eq!(found["ratios"]["of"], "culvert", "{found}");
    let ratio = &found["ratios"]["by"]["culvert-before"]["requests-1"]["cpu_s_per_100k"];
    assert_eq!(ratio["rounds"], 2, "{}", found["run"]["missing"]);
    assert!(
        ratio["median"].as_f64().unwrap() > 0.0 && ratio["interval"].is_array(),
        "{ratio}"
    );
    let samples = found["run"]["samples"].as_array().unwrap().iter();
    let of_one_load = samples.filter(|sample| sample["load"] == "requests-1");
    let rounds: Vec<_> = of_one_load.map(|sample| sample["round"].as_u64().unwrap()).collect();
    assert_eq!(rounds, [1, 1, 2, 2], "the rounds take turns");
}

#[test]
fn a_build_that_does_not_start_is_missing_with_the_reason_and_this_one_is_measured() {
    let empty = tempfile::tempdir().unwrap();
    let found = compare(empty.path(), "1");
    assert!(
        found["modes"]["culvert"]["requests-1"]["per_s"].as_f64().unwrap() > 0.0,
        "{found}"
    );
    let missing = &found["run"]["missing"][0];
    assert_eq!(missing["mode"], "culvert-before", "{missing}");
    assert!(
        missing["why"].as_str().unwrap().contains("Culvert does not start"),
        "{missing}"
    );
}
