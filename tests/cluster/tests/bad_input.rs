//! What should not be asked of the mesh, and what happens in the wrong moment: each has a clear outcome, and hurts nobody else.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{HTTP, Load, PodSpec, Space, Wire, World, eventually, until};
use serde_json::{Value, json};
use std::{fs, net::SocketAddr};

#[test]
fn a_label_value_that_nobody_knows_does_not_enrol_and_is_told_on_namespace_and_pod() {
    let world = World::installed();
    let space = world.space("unknown-label");
    space.start(&[
        PodSpec::server("server").on("node2"),
        PodSpec::idle("client").on("node1"),
    ]);
    space.label("sidecar-please");
    let message = world.wait_event("default", space.name(), "an unknown value", |reason, _| {
        reason == "UnknownLabelValue"
    });
    assert!(message.contains("sidecar-please"), "{message}");
    let message = world.wait_event(space.name(), "client", "an unknown value", |reason, _| {
        reason == "Refused"
    });
    assert!(message.contains("sidecar-please"), "{message}");
    assert_eq!(
        world.state_of("node1", space.name(), "client").as_deref(),
        Some("outside")
    );
    space.ask_well("client", &space.address("server"));

    // New pods are not held back for it.
    space.start(&[PodSpec::server("new").on("node1")]);
    space.ask_well("client", &space.address("new"));
    // A value that is right again is obeyed.
    space.enrol();
    space.wait_captured(&["client", "server", "new"]);
    world.wait_event(space.name(), "client", "it came in", |reason, _| reason == "Enrolled");

    // On a pod alone.
    space.leave();
    space.wait_outside(&["client", "server", "new"]);
    space.kubectl(&["label", "pod", "new", "culvert.dev/mesh=Ambient"]);
    let message = world.wait_event(space.name(), "new", "an unknown value", |reason, note| {
        reason == "Refused" && note.contains("Ambient")
    });
    assert!(message.contains("culvert.dev/mesh"), "{message}");
    space.ask_well("client", &space.address("new"));
}

#[test]
fn a_namespace_deleted_while_it_joins_goes_and_hurts_nobody() {
    let world = World::installed();
    let bystanders = bystanders(&world);
    let load = Load::start(&bystanders, "load", "node1", bystanders.address("server"));
    for round in 0..2 {
        let space = world.space("deleted");
        let pods = |kind: &str, count: usize| -> Vec<PodSpec> {
            let name = |number| format!("{kind}{number}");
            (0..count)
                .map(|number| PodSpec::server(&name(number)).on(["node1", "node2"][number % 2]))
                .collect()
        };
        space.start(&pods("old", 4));
        space.enrol();
        space.create_pods(&pods("new", 4));
        if round > 0 {
            space.wait_captured(&["old0", "old1"]);
        }
        let name = space.name().to_owned();
        world.kubectl(&["delete", "namespace", &name, "--wait=false"]);
        until("the namespace to be gone", || {
            world.client().get(&["namespace", &name]).is_err()
        });
        wait_forgotten(&world, &name);
    }
    load.wait_more(100);
    load.stop().assert_unharmed("namespaces that were deleted");
}

#[test]
fn pods_that_die_while_they_are_enrolled_leave_nothing_and_hurt_nobody() {
    let world = World::installed();
    let bystanders = bystanders(&world);
    let load = Load::start(&bystanders, "load", "node1", bystanders.address("server"));
    let space = world.space("dying");
    space.enrol();
    // Containers that end at once, with and without success; a program that is not there; pods that are deleted, without a
    // word of farewell, in whatever state they are.
    let run = |name: &str, command: &[&str]| PodSpec::new(name, &[]).on("node1").with("command", json!(command));
    space.create_pods(&[
        run("well", &["/bin/sh", "-c", "exit 0"]),
        run("badly", &["/bin/sh", "-c", "exit 1"]),
        run("absent", &["/no/such/program"]),
        run("again", &["/bin/sh", "-c", "exit 1"]).spec("restartPolicy", json!("Always")),
    ]);
    for round in 0..10 {
        let name = format!("doomed{round}");
        space.create_pods(&[PodSpec::server(&name).on("node1")]);
        if round % 2 == 1 {
            space.ip(&name);
        }
        space.kubectl(&["delete", "pod", &name, "--grace-period=0", "--force", "--wait=false"]);
    }
    let phase = |pod: &str| space.get(&["pod", pod])["status"]["phase"].clone();
    until("the short pods to end", || {
        phase("well") == "Succeeded" && phase("badly") == "Failed"
    });
    // Its network stays when its container ends: it is in the mesh all the time.
    until("a container to be restarted", || {
        let status = &space.get(&["pod", "again"])["status"]["containerStatuses"][0];
        status["restartCount"].as_u64() >= Some(2)
    });
    space.wait_captured(&["again"]);
    space.start(&[PodSpec::server("healthy").on("node1")]);
    space.wait_captured(&["healthy"]);
    until("the agent to have no pod that fails or waits", || {
        let page = world.agent_page("node1").unwrap_or_default();
        let pods = page["pods"].as_array().cloned().unwrap_or_default();
        let mut ours = pods.iter().filter(|pod| pod["namespace"] == space.name());
        // One whose container never starts has a network, too.
        !pods.is_empty() && ours.all(|pod| ["again", "healthy", "absent"].contains(&pod["name"].as_str().unwrap()))
    });
    load.wait_more(100);
    load.stop().assert_unharmed("pods that died");
}

#[test]
fn pods_in_the_nodes_network_stay_outside_and_work() {
    let world = World::installed();
    let space = world.space("host-network");
    space.enrol();
    let server = PodSpec::new("host-server", &["answer", "--http=18080"])
        .on("node2")
        .in_the_nodes_network();
    space.start(&[
        PodSpec::server("server").on("node2"),
        PodSpec::idle("client").on("node1"),
        PodSpec::idle("host").on("node1").in_the_nodes_network(),
    ]);
    space.create_pods(&[server]);
    space.wait_captured(&["server", "client"]);
    space.wait_outside(&["host", "host-server"]);
    space.ask_well("host", &space.address("server"));
    let there = SocketAddr::new(world.node("node2").address().into(), 18080).to_string();
    until("the server in the node's network to listen", || {
        space.ask("host", &["--to", &there])[0]["ok"] == true
    });
    space.ask_well("client", &there);
    let told = world.events(space.name(), "host");
    assert!(
        !told
            .iter()
            .any(|(reason, _)| reason == "Refused" || reason == "EnrolmentFailed"),
        "nothing is wrong with it: {told:?}"
    );
}

#[test]
fn a_static_pod_of_an_enrolled_namespace_is_in_the_mesh() {
    let world = World::installed();
    let space = world.space("static");
    space.enrol();
    space.start(&[PodSpec::server("server").on("node2")]);
    let node = world.node("node1");
    let mut manifest = PodSpec::idle("static").manifest();
    manifest["metadata"]["namespace"] = json!(space.name());
    let file = Removed(node.own("/var/lib/kubelet/manifests/culvert-test.json"));
    fs::create_dir_all(file.0.parent().unwrap()).unwrap();
    fs::write(&file.0, manifest.to_string()).unwrap();
    // The API server shows it under its own name and the node's.
    space.wait_ready(&["static-node1"]);
    space.wait_captured(&["static-node1"]);
    let wire = Wire::tap(&world, "node1");
    space.ask_well("static-node1", &space.address("server"));
    let traffic = Wire::between_pods(&wire.take(), &[space.ip("static-node1")]);
    assert_eq!(traffic.clear, [], "in clear");
    drop(file);
    until("the static pod to be gone", || {
        world
            .client()
            .get(&["pod", "static-node1", "-n", space.name()])
            .is_err()
    });
}

/// A file that goes, whatever comes of the test.
struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn names_as_long_as_they_may_be_work() {
    let world = World::installed();
    let space = world.space_named(&format!("t-long-{}-{}", std::process::id(), "n".repeat(63)));
    assert_eq!(space.name().len(), 63);
    // Labels of 63 with dots between them. A service account may have 253; so may a pod, for the API server, but the kubelet
    // makes a folder NAMESPACE_POD_UID for its logs, and no folder's name is longer than 255.
    let long = |letter: &str, length: usize| {
        let part = format!("{}.", letter.repeat(63));
        part.repeat(4)[..length].to_owned()
    };
    let pod_length = 255 - (63 + 1) - (1 + 36);
    let (server, client, account) = (long("s", pod_length), long("c", pod_length), long("a", 253));
    space.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": account } }));
    let service = "v".repeat(63);
    space.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": service },
        "spec": { "selector": { "role": "server" }, "ports": [{ "port": 80, "targetPort": HTTP }] },
    }));
    space.enrol();
    let with = |pod: PodSpec| pod.spec("serviceAccountName", json!(account));
    space.start(&[
        with(PodSpec::server(&server).on("node2").label("role", "server")),
        with(PodSpec::idle(&client).on("node1")),
    ]);
    space.wait_captured(&[&server, &client]);
    let to = format!("{service}.{}.svc.cluster.local:80", space.name());
    until("the Service to be known", || {
        space.ask(&client, &["--to", &to])[0]["ok"] == true
    });
    let wire = Wire::tap(&world, "node1");
    space.ask_well(&client, &to);
    space.ask_well(&client, &space.address(&server));
    let seen = wire.take();
    assert_eq!(Wire::between_pods(&seen, &[space.ip(&client)]).clear, [], "in clear");
    assert!(seen.encrypted_bytes > 2048, "nothing is in the tunnel");
    // Events have a name that begins with the pod's, and must not be longer.
    world.wait_event(space.name(), &client, "it came in", |reason, _| reason == "Enrolled");
}

/// Two pods in the mesh that have nothing to do with what goes wrong.
fn bystanders(world: &World) -> Space<'_> {
    let space = world.space("bystanders");
    space.enrol();
    space.start(&[PodSpec::server("server").on("node2")]);
    space
}

/// Waits until no agent knows a pod of the namespace.
fn wait_forgotten(world: &World, namespace: &str) {
    for node in ["node1", "node2"] {
        eventually(&format!("{node} to forget the pods of {namespace}"), || {
            let page = world.agent_page(node)?;
            let mut pods = page["pods"].as_array()?.iter();
            (!pods.any(|pod: &Value| pod["namespace"] == namespace)).then_some(())
        });
    }
}
