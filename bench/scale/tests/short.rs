//! The benchmark runs, and says what its documentation promises.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

#[test]
fn a_short_run_measures_every_event_in_clusters_of_two_sizes_and_says_how_each_figure_grows() {
    let run = Command::new(env!("CARGO_BIN_EXE_culvert-bench-scale"))
        .args(["--short", "--json"])
        .output()
        .unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{text}\n{errors}");
    let result: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for size in ["200", "400"] {
        let figures = &result["pods"][size];
        for name in [
            "change_cpu_ms",
            "streams_woken",
            "first_node_ms",
            "last_node_ms",
            "rollout_last_ms",
            "policy_last_ms",
            "controller_mb",
            "reconnect_s",
            "proxy_wildcard_mb",
            "proxy_on_demand_mb",
            "proxy_on_demand_ratio",
        ] {
            assert!(figures[name].is_number(), "no {name} at {size} pods: {text}");
        }
        assert_eq!(figures["rollout_pods"].as_u64(), size.parse().ok());
    }
    assert!(result["exponents"]["controller_mb"].is_number(), "{text}");
    assert!(text.contains("exponent"), "{text}");
}
