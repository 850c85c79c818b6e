//! A real Kubernetes cluster on one machine, in seconds: no Docker, no registry, no virtual machine.
//!
//! Everything in it is the real thing: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and on each node
//! containerd, runc, kubelet, kube-proxy (nftables) and CNI plug-ins, with CoreDNS on top. What is not there is a way
//! out: the cluster's network ends at its own bridge.
//!
//! ```text
//!  the machine                     127.0.0.1:PORT   (kubectl, a browser, a test)
//!                                        | forwarder
//!  netns cv-NAME-cp    198.18.0.1  bridge "nodes": etcd, API server, controllers, scheduler
//!                         | link "node1"                     | link "node2"
//!  cv-NAME-n1          198.18.0.11                        198.18.0.12       kubelet, containerd, kube-proxy
//!                         | CNI (ptp)                        |
//!  pods                198.19.1.0/24                      198.19.2.0/24     services 198.18.64.0/18
//! ```
//!
//! A node has network, mount, process, host name, IPC and control group namespaces of its own, its own `/run`, bpffs,
//! `/var/lib/kubelet`, `/etc/cni/net.d`, `/opt/cni/bin` and so on, and a process 1 that ends all of it when it is killed.
//! Clusters of other names have other namespaces, so that every cluster has the same addresses.
//!
//! # Use
//! It needs root, the programs `kube` and `coredns` (built from Go modules; see `docs/cluster.md`), and Debian's
//! containerd, runc, containernetworking-plugins, nftables and iproute2.
//!
//! ```no_run
//! # fn main() -> Result<(), culvert_cluster::Error> {
//! use culvert_cluster::{Cluster, Component, Options};
//!
//! let options = Options::new("example", 2)?;
//! let cluster = Cluster::up_with(&options, &mut |step, took| eprintln!("{took:.1?} {step}"))?;
//! cluster.kubectl_client().apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")?;
//! let node = cluster.node("node1")?;
//! node.import("shop.tar".as_ref())?;
//! node.restart_kubelet()?;
//! for process in node.pids_of("shop-server")? {
//!     process.kill()?;
//! }
//! cluster.kill(Component::ApiServer)?;
//! cluster.start_api_server()?;
//! Cluster::down(&options.state, &options.name)?;
//! # Ok(()) }
//! ```
//!
//! A cluster outlives the process that brought it up. [`Cluster::attach`] finds it again; [`Cluster::down`] removes
//! whatever there is of it, also after a crash: it goes by the names of control groups and namespaces, not by notes.
//!
//! # Where to start reading
//! `bring_up.rs` is the order of things, [`Cluster`] and [`Node`] are what a test holds, `inside/` is what runs in the
//! namespaces, `down.rs` and `machine.rs` are why nothing is left behind.

mod addresses;
mod bring_up;
mod cgroup;
mod cluster;
mod component;
mod control_plane;
mod down;
mod error;
mod image;
#[doc(hidden)]
pub mod inside;
mod kubectl;
mod layout;
mod machine;
mod network;
mod node;
mod options;
mod pki;
mod process;
mod record;
mod wait;

pub use addresses::{API_PORT, API_SERVICE, CONTROL_PLANE, CONTROL_PLANE_V6, DNS_SERVICE};
pub use cluster::Cluster;
pub use component::Component as NodeComponent;
pub use control_plane::Component;
pub use error::Error;
pub use kubectl::Kubectl;
pub use node::Node;
pub use options::Options;
pub use process::Process;
pub use wait::{wait_for, wait_until};
