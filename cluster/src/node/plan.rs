//! What a node's first process must know, handed to it as a file, and the configuration files of its components.

use crate::{Error, addresses, error::Doing, image, record};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Everything about one node that its processes need.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) number: u8,
    pub(crate) group: String,
    /// The node's folder on the machine; inside the node it has the same path.
    pub(crate) folder: PathBuf,
    pub(crate) pki: PathBuf,
    pub(crate) programs: PathBuf,
    pub(crate) dual_stack: bool,
    /// Image archives that the node needs before its kubelet starts.
    pub(crate) first_images: Vec<PathBuf>,
    /// Image archives that are imported while the kubelet starts.
    pub(crate) images: Vec<PathBuf>,
}

/// CNI plug-ins that a node has from the start.
const PLUGINS: [&str; 4] = ["host-local", "loopback", "portmap", "ptp"];
const DEBIAN_PLUGINS: &str = "/usr/lib/cni";

impl Plan {
    pub(crate) fn name(&self) -> String {
        format!("node{}", self.number)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where the plan itself is.
    pub(crate) fn file(folder: &Path) -> PathBuf {
        folder.join("plan.json")
    }

    /// What a node mounts over the machine's folder `target`.
    pub(crate) fn own(&self, target: &str) -> PathBuf {
        self.path("root").join(target.trim_start_matches('/'))
    }

    /// Writes the node's folder: everything is there before anything of the node runs.
    pub(crate) fn write(&self) -> Result<(), Error> {
        let (bin, conf) = (self.own("/opt/cni/bin"), self.own("/etc/cni/net.d"));
        for folder in [&self.folder, &self.path("hold"), &bin, &conf] {
            fs::create_dir_all(folder).doing(|| format!("make {}", folder.display()))?;
        }
        for plugin in PLUGINS {
            let from = Path::new(DEBIAN_PLUGINS).join(plugin);
            fs::copy(&from, bin.join(plugin)).map_err(|_| Error::Missing {
                path: from,
                remedy: "it is in Debian's package containernetworking-plugins",
            })?;
        }
        let files = [
            (self.path("containerd.toml"), containerd()),
            (self.path("kubelet.yaml"), self.kubelet()),
            (self.path("kube-proxy.yaml"), self.kube_proxy()),
            (self.path("resolv.conf"), String::new()),
        ];
        for (path, text) in files {
            fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
        }
        self.write_cni()?;
        record::write(&Self::file(&self.folder), self)
    }

    /// Writes the CNI configuration, as flannel, Calico, kindnet and Cilium do at each boot, whatever has become of it.
    pub(crate) fn write_cni(&self) -> Result<(), Error> {
        let path = self.own("/etc/cni/net.d").join("10-cluster.conflist");
        fs::write(&path, self.cni()).doing(|| format!("write {}", path.display()))
    }

    /// The node's own addresses, as the kubelet's flag takes them.
    pub(crate) fn addresses(&self) -> String {
        let (v4, v6) = (addresses::node(self.number), addresses::node_v6(self.number));
        addresses::both(&v4.to_string(), &v6.to_string(), self.dual_stack)
    }

    /// The Node object, made before the node starts so that its pods' addresses are fixed.
    pub(crate) fn object(&self) -> serde_json::Value {
        let pods = addresses::pods(self.number);
        let mut all = vec![pods.clone()];
        all.extend(self.dual_stack.then(|| addresses::pods_v6(self.number)));
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name(), "labels": {"kubernetes.io/hostname": self.name()}},
            "spec": {"podCIDR": pods, "podCIDRs": all},
        })
    }

    fn cni(&self) -> String {
        let mut ranges = vec![json!([{"subnet": addresses::pods(self.number)}])];
        let mut routes = vec![json!({"dst": "0.0.0.0/0"})];
        if self.dual_stack {
            ranges.push(json!([{"subnet": addresses::pods_v6(self.number)}]));
            routes.push(json!({"dst": "::/0"}));
        }
        let ipam = json!({"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": ranges, "routes": routes});
        let config = json!({
            "cniVersion": "1.0.0",
            "name": "cluster",
            "plugins": [
                {"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": ipam},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        format!("{config:#}\n")
    }

    fn kubelet(&self) -> String {
        let pki = |name: String| self.pki.join(name);
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": pki("ca.crt".into())},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": pki(format!("{}.crt", self.name())),
            "tlsPrivateKeyFile": pki(format!("{}.key", self.name())),
            "clusterDomain": "cluster.local",
            "clusterDNS": [addresses::DNS_SERVICE],
            "resolvConf": self.path("resolv.conf"),
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/",
            "cgroupsPerQOS": true,
            "enforceNodeAllocatable": ["pods"],
            "failSwapOn": false,
            "failCgroupV1": false,
            // Debian's containerd cannot exempt an image from collection, and nothing could fetch one again.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "100Mi",
                // A share of a large disk may be more than is left on a machine that builds things.
                "nodefs.available": "200Mi",
                "imagefs.available": "200Mi",
                "nodefs.inodesFree": "1%",
                "imagefs.inodesFree": "1%",
            },
            "maxPods": 250,
            // Manifests in this folder run as pods, whatever the API server says; empty unless a test puts one there.
            "staticPodPath": "/var/lib/kubelet/manifests",
            "serializeImagePulls": false,
            "nodeStatusUpdateFrequency": "4s",
            "syncFrequency": "10s",
            "shutdownGracePeriod": "0s",
        });
        format!("{config:#}\n")
    }

    fn kube_proxy(&self) -> String {
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": self.name(),
            "clientConnection": {"kubeconfig": self.pki.join("proxy.conf")},
            "clusterCIDR": addresses::both(addresses::PODS, addresses::PODS_V6, self.dual_stack),
            "detectLocalMode": "ClusterCIDR",
            "metricsBindAddress": "127.0.0.1:10249",
            // It would set the whole machine's limits of connection tracking otherwise.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
        });
        format!("{config:#}\n")
    }
}

fn containerd() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  # Needed where root lacks CAP_SYS_RESOURCE: a container's score may not go below containerd's own then.
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        pause = image::PAUSE
    )
}
