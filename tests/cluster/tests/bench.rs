//! `culvert bench` on a cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use culvert_cluster_tests::World;
use serde_json::Value;

#[test]
fn a_users_cluster_is_measured_and_nothing_is_left_on_it() {
    let world = World::installed();
    let output = world
        .culvert()
        .args(["bench", "--rounds", "1", "--time", "500ms", "-o", "json"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for load in ["requests-1", "requests-16", "connections", "stream"] {
        for mode in ["direct", "mesh"] {
            let sample = found["samples"].as_array().unwrap().iter();
            let sample = sample.filter(|sample| sample["load"] == load && sample["mode"] == mode);
            let did = |sample: &Value| sample["count"].as_u64().unwrap() + sample["bytes"].as_u64().unwrap();
            assert_eq!(
                sample.map(did).filter(|did| *did > 0).count(),
                1,
                "{load} {mode}: {found}"
            );
        }
    }
    assert_ne!(found["client-node"], found["server-node"], "{found}");
    let namespaces = world.get(&["namespaces"]);
    let left = namespaces["items"].as_array().unwrap().iter();
    let left: Vec<_> = left
        .filter_map(|namespace| namespace["metadata"]["name"].as_str())
        .filter(|name| name.starts_with("culvert-bench"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_namespace_of_somebody_elses_is_left_alone() {
    let world = World::installed();
    world.kubectl(&["create", "namespace", "culvert-bench-mesh"]);
    let output = world.culvert().args(["bench"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_there = world.get(&["namespace", "culvert-bench-mesh"]);
    world.kubectl(&["delete", "namespace", "culvert-bench-mesh"]);
    assert!(!output.status.success() && error.contains("did not make"), "{error}");
    assert!(is_there["metadata"]["deletionTimestamp"].is_null(), "{is_there}");
}
