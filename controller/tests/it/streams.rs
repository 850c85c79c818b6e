//! Many streams: which of them a change wakes, how long they last, and that many at once are served.

use std::fs;
use std::time::{Duration, Instant};

use culvert_proto::{MESH_TYPE, ROOTS_TYPE};
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::client::{ADDRESS_TYPE, Client, connected, names};
use crate::process::{Controller, PATIENCE, page};

const WORLD: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {culvert.dev/mesh: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {nodeName: n1}
status: {podIP: 198.18.0.1, phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop}
spec: {nodeName: n2}
status: {podIP: 198.18.0.2, phase: Running}
";

fn start(flags: &[&str]) -> (Controller, (TempDir, TempDir)) {
    let (config, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::write(config.path().join("all.yaml"), WORLD).unwrap();
    let controller = Controller::start_in(config.path(), state.path(), flags);
    (controller, (config, state))
}

#[tokio::test]
async fn a_change_wakes_the_streams_that_hold_it_and_no_other() {
    let controller = Controller::start(WORLD);
    let mut first = Client::connect(&controller, "n1").await;
    let mut second = Client::connect(&controller, "n2").await;
    assert_eq!(
        names(&first.on_demand().await),
        ["Kubernetes//Pod/shop/a".to_owned()].into()
    );
    assert_eq!(
        names(&second.on_demand().await),
        ["Kubernetes//Pod/shop/b".to_owned()].into()
    );
    // What nobody has costs nobody anything, until somebody has it.
    assert_eq!(first.subscribe("/198.18.0.3").await.removed_resources, ["/198.18.0.3"]);
    let woken = || controller.metric("culvert_controller_xds_streams_woken_total");
    let before = woken();
    controller.write(&WORLD.replace("198.18.0.2", "198.18.0.9"));
    assert_eq!(
        names(&second.next().await),
        ["Kubernetes//Pod/shop/b".to_owned()].into()
    );
    assert_eq!(woken(), before + 1.0, "the other stream has nothing to do with it");
    controller.write(&WORLD.replace("198.18.0.2", "198.18.0.3"));
    for client in [&mut first, &mut second] {
        assert_eq!(
            names(&client.next().await),
            ["Kubernetes//Pod/shop/b".to_owned()].into()
        );
    }
    let shown = controller
        .until("/status", |status| {
            status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
        })
        .await;
    assert_eq!(shown["nodes"][0]["node"], "n1");
    assert_eq!(shown["nodes"][0]["types"]["istio.workload.Address"]["missing"], 0);
}

#[tokio::test]
async fn the_roots_and_the_mesh_are_served_to_nodes() {
    let controller = Controller::start(WORLD);
    let mut client = Client::connect(&controller, "n1").await;
    assert_eq!(names(&client.wildcard(ROOTS_TYPE).await), ["roots".to_owned()].into());
    let mesh = client.wildcard(MESH_TYPE).await;
    assert_eq!(mesh.type_url, MESH_TYPE);
}

/// M6: nodes spread over the replicas, and a stream does not outlive what its token proved.
#[tokio::test]
async fn a_stream_ends_after_its_time_and_the_next_one_goes_on() {
    let (controller, _dirs) = start(&["--stream-age", "1s"]);
    for _ in 0..2 {
        let mut client = Client::connect(&controller, "n1").await;
        assert!(client.end().await.is_none(), "in order, not as a failure");
    }
}

#[tokio::test]
async fn a_node_with_too_many_streams_loses_the_oldest() {
    let controller = Controller::start(WORLD);
    let token = controller.token("n1");
    let mut clients = Vec::new();
    for _ in 0..9 {
        let mut client = Client::connect_with(&controller, &token).await.unwrap();
        client.on_demand().await;
        clients.push(client);
    }
    let ended = clients[0].end().await.unwrap();
    assert_eq!(ended.code(), Code::ResourceExhausted, "{ended}");
    assert!(clients[8].unasked().await.is_none(), "the newest goes on");
}

/// H7: the kubelet's probes have a port on which there is nothing else.
#[tokio::test]
async fn probes_are_answered_on_a_port_of_their_own() {
    let (controller, _dirs) = start(&["--readiness-listen", "127.0.0.1:0"]);
    let probes = controller.readiness;
    assert_ne!(probes, controller.monitoring);
    assert_eq!(page(probes, "/healthz/ready"), "ready\n");
    assert_eq!(page(probes, "/healthz/live"), "alive\n");
    assert_eq!(page(probes, "/"), "/healthz/live\n/healthz/ready\n");
}

/// A controller that comes back meets all its nodes at once. None of them may give up on it: they ping as ztunnel does.
#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_that_come_at_once_are_all_served_and_their_pings_answered() {
    const NODES: usize = 300;
    let (controller, dirs) = start(&[]);
    let tokens = dirs.1.path().join("tokens");
    fs::create_dir_all(&tokens).unwrap();
    for node in 0..NODES {
        fs::write(tokens.join(format!("many-{node}")), format!("many-{node}.{node:064x}")).unwrap();
    }
    let (xds, root) = (controller.xds, controller.root());
    let begin = Instant::now();
    let nodes = (0..NODES).map(|node| {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&root))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{xds}"))
            .unwrap()
            .tls_config(tls)
            .unwrap();
        let endpoint = endpoint
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true);
        tokio::spawn(async move {
            let channel = connected(&endpoint).await;
            let mut client = Client::over(channel, &format!("many-{node}.{node:064x}"))
                .await
                .unwrap();
            assert!(client.on_demand().await.resources.is_empty());
            for name in ["/198.18.0.1", "/198.18.0.2"] {
                assert_eq!(client.subscribe(name).await.resources.len(), 1);
            }
            client
        })
    });
    let nodes: Vec<_> = nodes.collect();
    let mut clients = Vec::new();
    for node in nodes {
        clients.push(tokio::time::timeout(3 * PATIENCE, node).await.unwrap().unwrap());
    }
    println!("{NODES} nodes were served after {:?}", begin.elapsed());
    // All are there, and all hear of a change.
    controller.write(&WORLD.replace("198.18.0.2", "198.18.0.7"));
    let begin = Instant::now();
    for client in &mut clients {
        let changed = client.next().await;
        assert_eq!((changed.type_url.as_str(), changed.resources.len()), (ADDRESS_TYPE, 1));
    }
    println!(
        "the last of {NODES} nodes heard of a change after {:?}",
        begin.elapsed()
    );
}
