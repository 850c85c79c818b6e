//! The kubelet's probes of pods in the mesh: they come from the node, in clear, and must say what is true.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{PodSpec, Space, World, until};
use serde_json::{Value, json};

#[test]
fn probes_of_every_kind_stay_green_while_pods_join_run_and_leave() {
    let world = World::installed();
    let space = world.space("probes");
    let kinds = [
        ("http", json!({ "httpGet": { "port": "http", "path": "/health" } })),
        ("tcp", json!({ "tcpSocket": { "port": "greet" } })),
        (
            "exec",
            json!({ "exec": { "command": ["/probe", "ask", "--to=127.0.0.1:8080"] } }),
        ),
        ("grpc", json!({ "grpc": { "port": 8082 } })),
    ];
    let pods: Vec<PodSpec> = kinds.iter().map(|(name, probe)| probed(name, "node1", probe)).collect();
    let names = kinds.each_ref().map(|(name, _)| *name);
    space.start(&pods);
    wait_rounds(&space, &names, 3);
    space.enrol();
    space.wait_captured(&names);
    wait_rounds(&space, &names, 5);

    // And pods that are in from their first moment.
    let new: Vec<PodSpec> = kinds
        .iter()
        .map(|(name, probe)| probed(&format!("new-{name}"), "node2", probe))
        .collect();
    let new_names = ["new-http", "new-tcp", "new-exec", "new-grpc"];
    space.start(&new);
    space.wait_captured(&new_names);
    wait_rounds(&space, &new_names, 5);
    space.leave();
    space.wait_outside(&names);
    wait_rounds(&space, &names, 3);
    for name in names.iter().chain(&new_names) {
        let pod = space.get(&["pod", name]);
        assert_eq!(
            pod["status"]["containerStatuses"][0]["restartCount"], 0,
            "{name} was restarted"
        );
        let unhealthy: Vec<_> = world
            .events(space.name(), name)
            .into_iter()
            .filter(|(reason, _)| reason == "Unhealthy")
            // Before the server listens, which the first probe does not wait for.
            .filter(|(_, message)| !message.starts_with("Startup"))
            .collect();
        assert!(unhealthy.is_empty(), "{name}: {unhealthy:?}");
    }
}

#[test]
fn a_probe_of_what_does_not_work_fails_in_the_mesh_too() {
    let world = World::installed();
    let space = world.space("red-probes");
    space.enrol();
    let deaf = |name: &str, probe: Value| {
        let probe = with_timing(&probe, 1);
        PodSpec::server(name).on("node1").with("readinessProbe", probe)
    };
    // Nobody listens there.
    space.create_pods(&[
        deaf("deaf-http", json!({ "httpGet": { "port": 9 } })),
        deaf("deaf-tcp", json!({ "tcpSocket": { "port": 9 } })),
        deaf("deaf-grpc", json!({ "grpc": { "port": 9 } })),
    ]);
    let names = ["deaf-http", "deaf-tcp", "deaf-grpc"];
    space.wait_captured(&names);
    until("failed probes of each", || {
        let counts = Counts::of(&space);
        names.iter().all(|name| counts.get(name, "Readiness", "failed") >= 3)
    });
    let counts = Counts::of(&space);
    for name in names {
        let good = counts.get(name, "Readiness", "successful");
        assert_eq!(good, 0, "{name}: probes of a port on which nobody listens succeeded");
    }
}

/// A server whose readiness and liveness are probed in this way, every second.
fn probed(name: &str, node: &str, probe: &Value) -> PodSpec {
    PodSpec::server(name)
        .on(node)
        .spec("restartPolicy", json!("Always"))
        // The others begin when the server listens.
        .with("startupProbe", with_timing(&json!({ "tcpSocket": { "port": 8080 } }), 30))
        .with("readinessProbe", with_timing(probe, 1))
        .with("livenessProbe", with_timing(probe, 3))
}

fn with_timing(probe: &Value, failures: u32) -> Value {
    let mut probe = probe.clone();
    probe["periodSeconds"] = json!(1);
    probe["timeoutSeconds"] = json!(5);
    probe["failureThreshold"] = json!(failures);
    probe
}

/// Waits until each pod was probed so many times more, all of them with success, and is ready.
fn wait_rounds(space: &Space<'_>, pods: &[&str], rounds: u64) {
    let before = Counts::of(space);
    until(&format!("{rounds} more probes of {pods:?}"), || {
        let now = Counts::of(space);
        pods.iter().all(|pod| {
            ["Readiness", "Liveness"].iter().all(|kind| {
                assert_eq!(now.get(pod, kind, "failed"), 0, "{kind} of {pod}");
                now.get(pod, kind, "successful") >= before.get(pod, kind, "successful") + rounds
            })
        })
    });
    space.wait_ready(pods);
}

/// How often the kubelets probed the pods of a namespace, as their metrics tell.
struct Counts(Vec<String>);

impl Counts {
    fn of(space: &Space<'_>) -> Self {
        let namespace = format!("namespace=\"{}\"", space.name());
        let mut lines = Vec::new();
        for node in space.world().cluster().nodes() {
            let path = format!("/api/v1/nodes/{}/proxy/metrics/probes", node.name());
            let metrics = space.world().kubectl(&["get", "--raw", &path]);
            let ours = |line: &&str| line.starts_with("prober_probe_total{") && line.contains(&namespace);
            lines.extend(metrics.lines().filter(ours).map(str::to_owned));
        }
        Self(lines)
    }

    /// Probes of a kind (`Readiness`, `Liveness`, `Startup`) with this result (`successful`, `failed`).
    fn get(&self, pod: &str, kind: &str, result: &str) -> u64 {
        let wanted =
            [("pod", pod), ("probe_type", kind), ("result", result)].map(|(name, value)| format!("{name}=\"{value}\""));
        let mut lines = self.0.iter();
        let line = lines.find(|line| wanted.iter().all(|label| line.contains(label)));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }
}
