//! What to try in a demo that was left running.

use super::shop::{NAMESPACE, PORT};
use crate::shell;
use culvert_lab::Lab;

/// A page of commands.
pub(super) fn page(lab: &Lab) -> String {
    let pods = lab.pods();
    let pod = |name: &str| pods.iter().find(|pod| pod.name().starts_with(name));
    let visitor = pod("visitor")
        .map(|pod| pod.netns().name().to_owned())
        .unwrap_or_default();
    let cgroup = pod("visitor")
        .map(|pod| pod.cgroup().display().to_string())
        .unwrap_or_default();
    let page = pod("productpage").map(|pod| pod.ip4().to_string()).unwrap_or_default();
    let culvert = shell::target().join("debug/culvert");
    let culvert = culvert.display();
    let node = lab.node(1).namespace().name();
    let control = lab.control().name();
    let (config, logs) = (lab.config_dir().display(), lab.dir().join("log"));
    let logs = logs.display();
    format!(
        "The bookstore and the mesh are still running. Everything below needs root.

  Visit the shop from the visitor's pod (a shell in the pod's cgroup and namespace, so that it is captured):
    sh -c 'echo $$ > {cgroup}/cgroup.procs; exec ip netns exec {visitor} curl -s http://{page}:{PORT}/api/books/1'

  Look inside:
    ip netns exec {node} {culvert} status
    ip netns exec {node} {culvert} workloads
    ip netns exec {node} {culvert} services
    ip netns exec {node} {culvert} connections
    ip netns exec {node} curl -s http://127.0.0.1:15020/metrics | grep istio_tcp
    ip netns exec {control} curl -s http://127.0.0.1:15014/metrics
    ip netns exec {node} nft list ruleset          # nothing
    ip netns exec {node} tcpdump -A -ni wire       # nothing to read

  Leave the mesh, and join it again (the namespace's label; watch what tcpdump shows):
    sed -i '/culvert.dev\\/mesh/d' {config}/namespace-{NAMESPACE}.yaml
    sed -i 's/^  labels:/  labels:\\n    culvert.dev\\/mesh: ambient/' {config}/namespace-{NAMESPACE}.yaml

  Logs: {logs}
  Kubernetes objects, which you may edit: {config}

  Remove it all:
    cargo xtask demo --down
"
    )
}
