//! The bookstore in the cluster: its Deployments, its pods, and visits from the visitor's pod.

use super::super::{shop::NAMESPACE, visits::Tally};
use anyhow::{Context, Result, bail};
use culvert_cluster::{Cluster, Kubectl};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    process::{Child, Command, Stdio},
};

/// A text in each of the visitor's requests, which whoever taps the wire would find there.
pub(super) const MARKER: &str = "X-Demo: visitor";
/// The visitor's program, as it is in its image.
const VISITOR: [&str; 2] = ["/usr/bin/python3.11", "/app/visitor.py"];

/// A pod of the shop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) addresses: Vec<IpAddr>,
    /// How often its containers were started again.
    pub(super) restarts: u64,
}

/// The shop, deployed and ready.
pub(super) struct Shop<'a> {
    cluster: &'a Cluster,
    kubectl: Kubectl,
    /// The pods that it has had from the beginning.
    pub(super) pods: Vec<Pod>,
}

impl<'a> Shop<'a> {
    /// Deploys the shop, and waits until every pod of it is ready.
    pub(super) fn open(cluster: &'a Cluster) -> Result<Self> {
        let kubectl = cluster.kubectl_client();
        let manifests = crate::shell::root().join("examples/bookstore/cluster");
        kubectl.run(&["apply", "--kustomize", &manifests.to_string_lossy()])?;
        let rollout = [
            "rollout",
            "status",
            "deployment",
            "--namespace",
            NAMESPACE,
            "--timeout=180s",
        ];
        kubectl.run(&rollout).context("the bookstore does not become ready")?;
        let mut shop = Self {
            cluster,
            kubectl,
            pods: Vec::new(),
        };
        shop.pods = shop.pods_now()?;
        Ok(shop)
    }

    /// The pods as they are now.
    pub(super) fn pods_now(&self) -> Result<Vec<Pod>> {
        let list = self.kubectl.get(&["pods", "--namespace", NAMESPACE])?;
        pods_in(&list)
    }

    /// The pods whose names begin with this.
    pub(super) fn called<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b Pod> {
        self.pods.iter().filter(move |pod| pod.name.starts_with(name))
    }

    /// The addresses of all pods.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.pods.iter().flat_map(|pod| pod.addresses.iter().copied()).collect()
    }

    /// Puts the namespace into the mesh.
    pub(super) fn label(&self) -> Result<()> {
        self.kubectl
            .run(&["label", "namespace", NAMESPACE, "culvert.dev/mesh=ambient"])?;
        Ok(())
    }

    /// Sends `count` requests from the visitor's pod.
    pub(super) fn visit(&self, count: u32) -> Result<Tally> {
        let output = self
            .visitor(&["--count", &count.to_string(), "--parallel", "2"])
            .output();
        let output = output.context("start kubectl exec")?;
        // It fails when a visit did, and says so in its result, too.
        tally_in(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// Starts visitors who go on until they are told to stop.
    pub(super) fn crowd(&self) -> Result<Crowd<'_>> {
        let child = self
            .visitor(&["--parallel", Crowd::VISITORS])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start kubectl exec")?;
        Ok(Crowd {
            cluster: self.cluster,
            child,
        })
    }

    /// The visitor's program in the visitor's pod, beside the one that is there already.
    fn visitor(&self, arguments: &[&str]) -> Command {
        let mut command = self.kubectl.command();
        command.args(["exec", "--namespace", NAMESPACE, "deployment/visitor", "--"]);
        command.args(VISITOR).args(arguments);
        command
    }
}

/// Visitors who go on until they are told to stop.
pub(super) struct Crowd<'a> {
    cluster: &'a Cluster,
    child: Child,
}

impl Crowd<'_> {
    /// How many visitors there are.
    pub(super) const VISITORS: &'static str = "4";

    /// Lets the visitors end after the request that they are at, and says how all of them went.
    ///
    /// `kubectl exec` hands no signal on, so the program gets it where it runs.
    pub(super) fn stop(mut self) -> Result<Tally> {
        let mut found = false;
        for node in self.cluster.nodes() {
            for process in node.pids_of("python3.11")? {
                let arguments = fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap_or_default();
                if is_crowd(&arguments) {
                    // SAFETY: kill has no memory of ours to touch.
                    unsafe { libc::kill(process.pid(), libc::SIGTERM) };
                    found = true;
                }
            }
        }
        if !found {
            let _ended = self.child.kill();
        }
        let output = self.child.wait_with_output().context("wait for kubectl exec")?;
        if !found {
            bail!("the visitors ended before they were told to");
        }
        tally_in(&String::from_utf8_lossy(&output.stdout))
    }
}

/// Whether a command line, as it is in /proc, is that of the crowd.
fn is_crowd(arguments: &[u8]) -> bool {
    let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    let has = |wanted: &str| arguments.contains(&wanted.as_bytes());
    has(VISITOR[1]) && has("--parallel") && !has("--count")
}

/// How visits went, from the last line that the visitor printed.
fn tally_in(printed: &str) -> Result<Tally> {
    let line = printed.lines().last().context("the visitor printed no result")?;
    let result: Value = serde_json::from_str(line).with_context(|| format!("the visitor printed {line:?}"))?;
    let number = |name: &str| result[name].as_u64().with_context(|| format!("no {name} in {line}"));
    let reviews = result["reviews"].as_object().into_iter().flatten();
    let failures = result["failures"].as_array().into_iter().flatten();
    Ok(Tally {
        sent: number("sent")?,
        succeeded: number("succeeded")?,
        reviews: reviews
            .map(|(version, count)| (version.clone(), count.as_u64().unwrap_or_default()))
            .collect(),
        failures: failures.filter_map(|why| why.as_str().map(str::to_owned)).collect(),
    })
}

/// The pods in what `kubectl get pods --output=json` prints.
fn pods_in(list: &Value) -> Result<Vec<Pod>> {
    let items = list["items"].as_array().context("kubectl printed no list of pods")?;
    let pod = |item: &Value| -> Option<Pod> {
        let addresses = item["status"]["podIPs"].as_array().into_iter().flatten();
        let containers = item["status"]["containerStatuses"].as_array().into_iter().flatten();
        Some(Pod {
            name: item["metadata"]["name"].as_str()?.to_owned(),
            uid: item["metadata"]["uid"].as_str()?.to_owned(),
            addresses: addresses
                .filter_map(|address| address["ip"].as_str()?.parse().ok())
                .collect(),
            restarts: containers.filter_map(|one| one["restartCount"].as_u64()).sum(),
        })
    };
    items
        .iter()
        .map(|item| pod(item).context("a pod without a name"))
        .collect()
}

/// How many pods are not as they were: gone, new, or with a container that was started again.
pub(super) fn restarted(before: &[Pod], after: &[Pod]) -> u64 {
    let restarts =
        |pods: &[Pod]| -> BTreeMap<String, u64> { pods.iter().map(|pod| (pod.uid.clone(), pod.restarts)).collect() };
    let (before, after) = (restarts(before), restarts(after));
    let changed = before
        .iter()
        .filter(|(uid, count)| after.get(*uid) != Some(count))
        .count();
    let new = after.keys().filter(|uid| !before.contains_key(*uid)).count();
    // A pod that was replaced is one that is gone and one that is new.
    changed.max(new) as u64
}

#[cfg(test)]
mod tests;
