//! Telling all nodes that Culvert is about to be removed, and waiting until they have left: what the Helm chart's hook runs before a
//! release is deleted.
//!
//! The annotation is on the DaemonSet, which goes with the release: one on the namespace would stay, and the next installation's agents
//! would leave at once.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// Where an agent says whether its node has left.
pub const PAGE: &str = "/healthz/left";

/// The agents' port.
const PORT: u16 = 15022;

const PAUSE: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(3);

/// A node whose agent has not said that its pods have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// The node's name.
    pub node: String,
    /// The agent's pod.
    pub pod: String,
}

/// Tells the nodes, and waits for them; those that have not left in time are returned.
///
/// # Errors
/// The DaemonSet cannot be annotated, or its pods cannot be listed.
pub async fn announce(
    client: Client,
    namespace: &str,
    daemonset: &str,
    patience: Duration,
) -> Result<Vec<LeftBehind>, kube::Error> {
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    let annotation = json!({ "metadata": { "annotations": { super::ANNOTATION: "true" } } });
    match sets
        .patch(daemonset, &PatchParams::default(), &Patch::Merge(&annotation))
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        patched => drop(patched?),
    }
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={daemonset}"));
    let deadline = Instant::now() + patience;
    loop {
        let found = pods.list(&ours).await?;
        let behind = join_all(found.items.iter().map(left_behind)).await;
        let behind: Vec<LeftBehind> = behind.into_iter().flatten().collect();
        if behind.is_empty() || Instant::now() >= deadline {
            return Ok(behind);
        }
        tracing::info!(nodes = behind.len(), "waiting for pods to leave the mesh");
        sleep(PAUSE).await;
    }
}

async fn left_behind(pod: &Pod) -> Option<LeftBehind> {
    let status = pod.status.as_ref()?;
    let node = pod.spec.as_ref()?.node_name.clone()?;
    let address: Option<IpAddr> = status.pod_ip.as_ref().and_then(|address| address.parse().ok());
    let has_left = match address {
        Some(address) => says_left(SocketAddr::new(address, PORT)).await,
        None => false,
    };
    (!has_left).then(|| LeftBehind {
        node,
        pod: pod.name_any(),
    })
}

async fn says_left(agent: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(agent).await?;
        let request = format!("GET {PAGE} HTTP/1.1\r\nHost: {agent}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut line = [0; 12];
        stream.read_exact(&mut line).await?;
        std::io::Result::Ok(&line[9..] == b"200")
    };
    matches!(timeout(ANSWER, ask).await, Ok(Ok(true)))
}
