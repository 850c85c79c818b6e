//! Services of every kind, asked from pods inside the mesh, from pods outside it, and from outside the cluster's pods.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{PodSpec, Space, Wire, World, eventually};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

/// Servers in the mesh and outside it, and clients of both kinds.
struct Town<'a> {
    world: &'a World,
    inside: Space<'a>,
    outside: Space<'a>,
}

const SERVERS: [&str; 2] = ["server1", "server2"];

impl<'a> Town<'a> {
    fn new(world: &'a World) -> Self {
        let (inside, outside) = (world.space("services"), world.space("outside"));
        inside.enrol();
        let server = |number: usize| {
            PodSpec::server(SERVERS[number - 1])
                .on(&format!("node{number}"))
                .label("role", "server")
        };
        inside.start(&[
            server(1),
            server(2),
            PodSpec::idle("client").on("node1"),
            PodSpec::idle("host").on("node1").in_the_nodes_network(),
        ]);
        outside.start(&[PodSpec::idle("client").on("node1"), server(2)]);
        inside.wait_captured(&["server1", "server2", "client"]);
        Self { world, inside, outside }
    }

    /// A Service before the servers, with this `spec` besides.
    fn service(&self, name: &str, more: Value) {
        self.service_in(&self.inside, name, more);
    }

    fn service_in(&self, space: &Space<'_>, name: &str, more: Value) {
        let mut spec = json!({
            "selector": { "role": "server" },
            "ports": [{ "name": "web", "port": 80, "targetPort": "http" }],
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        space.apply(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec }));
    }

    /// The name of a Service among the mesh's.
    fn name(&self, service: &str, port: u16) -> String {
        format!("{service}.{}.svc.cluster.local:{port}", self.inside.name())
    }

    fn cluster_ip(&self, service: &str, port: u16) -> String {
        let service = self.inside.get(&["service", service]);
        format!("{}:{port}", service["spec"]["clusterIP"].as_str().unwrap())
    }

    /// Asks from a pod inside the mesh, one outside it, and one in the node's network, several times each; who answered each of
    /// them. Every question must be answered.
    fn ask_from_all(&self, to: &[String]) -> Vec<BTreeSet<String>> {
        let clients = [
            (&self.inside, "client"),
            (&self.outside, "client"),
            (&self.inside, "host"),
        ];
        clients.map(|(space, pod)| self.ask(space, pod, to)).into()
    }

    fn ask(&self, space: &Space<'_>, pod: &str, to: &[String]) -> BTreeSet<String> {
        let mut arguments = vec!["--times=8"];
        for to in to {
            arguments.extend(["--to", to]);
        }
        // A Service that was just made takes a moment until kube-proxy, CoreDNS and the mesh know it.
        let reports = eventually(&format!("{to:?} to be reached from {pod} of {}", space.name()), || {
            let reports = space.ask(pod, &arguments);
            let bad = reports.iter().find(|report| report["ok"] == false);
            if let Some(bad) = bad {
                eprintln!("{pod} of {}: {bad}", space.name());
            }
            bad.is_none().then_some(reports)
        });
        reports
            .iter()
            .map(|report| report["pod"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn both() -> BTreeSet<String> {
    SERVERS.map(str::to_owned).into()
}

#[test]
fn cluster_ip_headless_multi_port_and_external_name() {
    let world = World::installed();
    let town = Town::new(&world);
    town.service("plain", json!({}));
    town.service("headless", json!({ "clusterIP": "None" }));
    town.service(
        "many",
        json!({ "ports": [
            { "name": "web", "port": 80, "targetPort": "http" },
            { "name": "numbered", "port": 8888, "targetPort": 8080 },
            { "name": "same", "port": 8080 },
            { "name": "hello", "port": 25, "targetPort": "greet" },
        ] }),
    );
    let plain = town.name("plain", 80);
    town.inside.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "external" },
        "spec": { "type": "ExternalName", "externalName": plain.trim_end_matches(":80") },
    }));
    for answered in town.ask_from_all(&[plain, town.cluster_ip("plain", 80)]) {
        assert_eq!(answered, both(), "a Service leads to all its pods");
    }
    for answered in town.ask_from_all(&[town.name("headless", 8080)]) {
        assert!(!answered.is_empty() && answered.is_subset(&both()), "{answered:?}");
    }
    town.ask_from_all(&[town.name("many", 80), town.name("many", 8888), town.name("many", 8080)]);
    town.ask_from_all(&[town.name("external", 80)]);
    for (space, pod) in [
        (&town.inside, "client"),
        (&town.outside, "client"),
        (&town.inside, "host"),
    ] {
        let reports = space.ask(pod, &["--greeted", "--to", &town.name("many", 25)]);
        assert_eq!(
            reports[0]["ok"],
            true,
            "the server speaks first, to {pod} of {}: {reports:?}",
            space.name()
        );
    }
    // And the other way: a Service outside the mesh, asked from inside.
    town.service_in(&town.outside, "plain", json!({}));
    let there = format!("plain.{}.svc.cluster.local:80", town.outside.name());
    assert_eq!(
        town.ask(&town.inside, "client", &[there]),
        ["server2".to_owned()].into()
    );
}

#[test]
fn node_ports_from_inside_and_outside_and_with_a_local_policy() {
    let world = World::installed();
    let town = Town::new(&world);
    town.service("ports", json!({ "type": "NodePort" }));
    town.service(
        "local",
        json!({ "type": "NodePort", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local" }),
    );
    let port_of = |service: &str| {
        let service = town.inside.get(&["service", service]);
        u16::try_from(service["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).unwrap()
    };
    let nodes = world.cluster().nodes();
    let ports = port_of("ports");
    let addresses: Vec<String> = nodes.iter().map(|node| format!("{}:{ports}", node.address())).collect();
    town.ask_from_all(&addresses);
    for node in nodes {
        outside_reaches(&town, SocketAddr::new(node.address().into(), ports));
    }
    // Only the server on the node that is asked, and it sees who asks.
    let local = port_of("local");
    for (number, node) in nodes.iter().enumerate() {
        let answer = outside_reaches(&town, SocketAddr::new(node.address().into(), local));
        assert_eq!(answer.pod, SERVERS[number], "{}", node.name());
        assert_eq!(
            answer.peer.ip().to_string(),
            "198.18.0.1",
            "{}: the client's address is kept",
            node.name()
        );
    }
    // internalTrafficPolicy: the client's own node.
    let to = town.cluster_ip("local", 80);
    for (space, pod) in [
        (&town.inside, "client"),
        (&town.outside, "client"),
        (&town.inside, "host"),
    ] {
        let answered = town.ask(space, pod, std::slice::from_ref(&to));
        assert_eq!(answered, ["server1".to_owned()].into(), "{pod} of {}", space.name());
    }
}

#[test]
fn a_service_without_selector_session_affinity_and_pods_that_are_not_ready() {
    let world = World::installed();
    let town = Town::new(&world);
    town.service("manual", json!({ "selector": null }));
    town.inside.apply(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "manual-1", "labels": { "kubernetes.io/service-name": "manual" } },
        "ports": [{ "name": "web", "port": 8080, "protocol": "TCP" }],
        "endpoints": [{ "addresses": [town.inside.ip("server2")], "conditions": { "ready": true } }],
    }));
    for answered in town.ask_from_all(&[town.name("manual", 80)]) {
        assert_eq!(answered, ["server2".to_owned()].into(), "a Service without selector");
    }

    let never = json!({ "exec": { "command": ["/bin/sh", "-c", "exit 1"] }, "periodSeconds": 1 });
    let unready = PodSpec::server("unready").on("node2").label("role", "unready");
    town.inside.create_pods(&[unready.with("readinessProbe", never)]);
    town.inside.wait_captured(&["unready"]);
    let selector = json!({ "role": "unready" });
    town.service(
        "early",
        json!({ "selector": selector, "publishNotReadyAddresses": true }),
    );
    town.service("late", json!({ "selector": selector }));
    for answered in town.ask_from_all(&[town.name("early", 80)]) {
        assert_eq!(answered, ["unready".to_owned()].into(), "publishNotReadyAddresses");
    }
    for space in [&town.inside, &town.outside] {
        let reports = space.ask("client", &["--timeout=5", "--to", &town.name("late", 80)]);
        assert_eq!(
            reports[0]["ok"], false,
            "a pod that is not ready gets nothing: {reports:?}"
        );
    }

    town.service("sticky", json!({ "sessionAffinity": "ClientIP" }));
    let to = [town.cluster_ip("sticky", 80)];
    eventually(
        "the Service to be known everywhere, and one client to stay with one pod",
        || {
            let answered = town.ask_from_all(&to);
            eprintln!("inside, outside, in the node's network: {answered:?}");
            answered.iter().all(|pods| pods.len() == 1).then_some(())
        },
    );
}

#[test]
fn inside_the_mesh_all_of_it_is_encrypted() {
    let world = World::installed();
    let town = Town::new(&world);
    town.service("plain", json!({}));
    town.service("headless", json!({ "clusterIP": "None" }));
    let to = [
        town.name("plain", 80),
        town.name("headless", 8080),
        town.inside.address("server2"),
    ];
    town.ask(&town.inside, "client", &to);
    let wire = Wire::tap(&world, "node1");
    town.ask(&town.inside, "client", &to);
    let seen = wire.take();
    let traffic = Wire::between_pods(&seen, &[town.inside.ip("client")]);
    assert_eq!(traffic.clear, [], "in clear");
    assert!(seen.encrypted_bytes > 8 * 1024, "nothing is in the tunnel");
    // The witness is not blind: a client outside the mesh is seen.
    town.ask(&town.outside, "client", &[town.inside.address("server2")]);
    let traffic = Wire::between_pods(&wire.take(), &[town.outside.ip("client")]);
    assert!(traffic.clear_bytes() > 8 * 1024, "{traffic:?}");
}

/// Who answered somebody outside.
struct Answer {
    pod: String,
    peer: SocketAddr,
}

/// Asks from the network between the nodes, where no pod and no node is.
fn outside_reaches(town: &Town<'_>, to: SocketAddr) -> Answer {
    eventually(&format!("{to} to answer somebody outside"), || {
        let head = town
            .world
            .control_plane()
            .run(|| head_of(to, Duration::from_secs(5)))
            .unwrap()
            .map_err(|error| eprintln!("{to}: {error}"))
            .ok()?;
        let field = |name: &str| Some(head.lines().find_map(|line| line.strip_prefix(name))?.to_owned());
        Some(Answer {
            pod: field("x-pod: ")?,
            peer: field("x-peer: ")?.parse().ok()?,
        })
    })
}

fn head_of(to: SocketAddr, timeout: Duration) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect_timeout(&to, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
