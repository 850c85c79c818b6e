//! New pods of an enrolled namespace are in the mesh before they can send their first packet.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{PodSpec, Space, Wire, World, eventually, until};
use serde_json::{Value, json};
use std::net::IpAddr;

const BATCH: usize = 25;

#[test]
fn the_first_act_of_a_pod_is_a_connection_and_it_is_encrypted() {
    let world = World::installed();
    let space = world.space("first-act");
    space.enrol();
    servers(&space);
    let wire = Wire::tap(&world, "node1");
    // As the kubelet starts containers one after the other, the one that asks is the very first process of each pod.
    let pods = [
        asker("by-address", "node1", &[space.address("server2")]),
        asker("by-service", "node1", &[service(&space)]),
        asker(
            "by-name",
            "node2",
            &[format!("server1.{}.svc.cluster.local:80", space.name())],
        ),
    ];
    space.create_pods(&pods);
    let ended = wait_ended(&space, pods.len());
    for pod in &ended {
        assert!(pod.succeeded, "{pod:?}");
    }
    let concerned: Vec<IpAddr> = ended.iter().map(|pod| pod.address).collect();
    let seen = wire.take();
    let traffic = Wire::between_pods(&seen, &concerned);
    assert_eq!(traffic.clear, [], "in clear");
    assert_eq!(traffic.opened_in_clear, [], "opened in clear");
    assert!(seen.encrypted_bytes > 1024, "nothing is in the tunnel");
}

#[test]
fn two_hundred_pods_come_and_go_and_the_first_request_of_each_succeeds_encrypted() {
    let world = World::installed();
    let space = world.space("churn");
    space.enrol();
    servers(&space);
    let (address, service) = (space.address("server2"), service(&space));
    let wire = Wire::tap(&world, "node1");
    let mut times = Vec::new();
    for batch in 0..200 / BATCH {
        let pods: Vec<PodSpec> = (0..BATCH)
            .map(|number| {
                let name = format!("pod-{batch}-{number}");
                // Those on node 2 reach node 1 by the Service, which has a server on each node.
                match number % 2 {
                    0 => asker(&name, "node1", std::slice::from_ref(&address)),
                    _ => asker(&name, "node2", std::slice::from_ref(&service)),
                }
            })
            .collect();
        space.create_pods(&pods);
        let ended = wait_ended(&space, BATCH);
        let seen = wire.take();
        let mut concerned: Vec<IpAddr> = ended.iter().map(|pod| pod.address).collect();
        concerned.extend([space.ip("server1"), space.ip("server2")]);
        let traffic = Wire::between_pods(&seen, &concerned);
        assert_eq!(traffic.clear, [], "in clear in batch {batch}");
        assert_eq!(traffic.opened_in_clear, [], "opened in clear in batch {batch}");
        assert_eq!(seen.missed, 0, "the tap was too slow");
        let expected = 1024 * BATCH as u64 / 2;
        assert!(
            seen.encrypted_bytes > expected,
            "batch {batch}: {} bytes",
            seen.encrypted_bytes
        );
        for pod in &ended {
            assert!(pod.succeeded, "batch {batch}: {pod:?}");
            times.push(pod.microseconds);
        }
        space.kubectl(&["delete", "pods", "--selector=role=asker", "--wait=false"]);
        until("the batch to be gone", || asked(&space).is_empty());
    }
    times.sort_unstable();
    eprintln!(
        "first requests of {} pods: median {:.1} ms, longest {:.1} ms",
        times.len(),
        times[times.len() / 2] as f64 / 1e3,
        times[times.len() - 1] as f64 / 1e3
    );
}

/// A pod that asks once, at once, and ends.
fn asker(name: &str, node: &str, to: &[String]) -> PodSpec {
    let mut arguments = vec!["ask", "--report=/dev/termination-log"];
    for to in to {
        arguments.extend(["--to", to]);
    }
    PodSpec::new(name, &arguments).on(node).label("role", "asker")
}

/// A server on each node, and a Service of the name `server1` before both.
fn servers(space: &Space<'_>) {
    space.apply(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "server1" },
        "spec": { "selector": { "role": "server" }, "ports": [{ "port": 80, "targetPort": "http" }] },
    }));
    space.start(&[
        PodSpec::server("server1").on("node1").label("role", "server"),
        PodSpec::server("server2").on("node2").label("role", "server"),
    ]);
}

fn service(space: &Space<'_>) -> String {
    let service = space.get(&["service", "server1"]);
    format!("{}:80", service["spec"]["clusterIP"].as_str().unwrap())
}

/// A pod that has asked.
#[derive(Debug)]
#[allow(dead_code, reason = "the name and the report are shown when a test fails")]
struct Ended {
    name: String,
    address: IpAddr,
    succeeded: bool,
    microseconds: u64,
    report: Value,
}

fn wait_ended(space: &Space<'_>, count: usize) -> Vec<Ended> {
    eventually("every pod to have asked", || {
        let ended: Option<Vec<Ended>> = asked(space).iter().map(ended).collect();
        ended.filter(|ended| ended.len() == count)
    })
}

fn asked(space: &Space<'_>) -> Vec<Value> {
    let pods = space.get(&["pods", "--selector=role=asker"]);
    pods["items"].as_array().cloned().unwrap_or_default()
}

fn ended(pod: &Value) -> Option<Ended> {
    let phase = pod["status"]["phase"].as_str()?;
    if phase != "Succeeded" && phase != "Failed" {
        return None;
    }
    let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    let report: Value = serde_json::from_str(terminated["message"].as_str().unwrap_or("[]")).unwrap_or_default();
    Some(Ended {
        name: pod["metadata"]["name"].as_str()?.to_owned(),
        address: pod["status"]["podIP"].as_str()?.parse().ok()?,
        succeeded: phase == "Succeeded" && report[0]["ok"] == true,
        microseconds: report[0]["microseconds"].as_u64().unwrap_or_default(),
        report,
    })
}
