//! What to try in a cluster that was left up.

use super::{
    super::shop::{NAMESPACE, PORT},
    mesh::{self, SYSTEM},
};
use culvert_cluster::Cluster;

/// A page of commands.
pub(super) fn page(cluster: &Cluster) -> String {
    let kubeconfig = cluster.kubeconfig().display();
    let programs = cluster.programs().display();
    let culvert = mesh::command();
    let culvert = culvert.display();
    let control = cluster.netns();
    let control = control.file_name().unwrap_or_default().to_string_lossy();
    let link = cluster
        .nodes()
        .first()
        .map(culvert_cluster::Node::link)
        .unwrap_or_default();
    let name = cluster.name();
    format!(
        "The cluster, the bookstore and the mesh are still running; a visitor goes on asking for books.

  export KUBECONFIG={kubeconfig}
  export PATH={programs}:$PATH

  Look inside:
    kubectl get pods --all-namespaces --output=wide
    kubectl --namespace {SYSTEM} logs daemonset/culvert-node --container ztunnel --tail 5
    kubectl --namespace {NAMESPACE} get events
    {culvert} check
    {culvert} status
    {culvert} workloads
    {culvert} connections

  Visit the shop from its visitor's pod:
    kubectl --namespace {NAMESPACE} exec deployment/visitor -- /usr/bin/python3.11 /app/visitor.py --count 10

  Leave the mesh, and join it again; tap the link between the nodes meanwhile (as root):
    kubectl label namespace {NAMESPACE} culvert.dev/mesh-
    kubectl label namespace {NAMESPACE} culvert.dev/mesh=ambient
    ip netns exec {control} tcpdump -A -ni {link} port {PORT} or port 15008

  A shell inside a node (as root):
    cargo xtask cluster shell --name {name} --node node1

  Remove it all:
    cargo xtask demo --cluster --down
"
    )
}
