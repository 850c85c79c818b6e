//! Two Kubernetes nodes and their pods on one machine, made of network namespaces and cgroups, with no cluster.
//!
//! The end-to-end tests, the demo and the benchmark all stand on this crate. A [`Lab`] owns everything that it makes and
//! removes it when it is dropped, when the program is interrupted (see [`remove_labs_on_signals`]), or, for a program
//! that was killed, when the next lab starts.
//!
//! # The network
//! ```text
//!   pod eth0 198.18.1.N ---- p<N> node1 wire ======== wire node2 p<N> ---- eth0 198.18.2.N pod
//!                                  ctl \              / ctl
//!                                       control plane (198.18.0.10)
//! ```
//! Every node, pod and the control plane is a named network namespace, `cv-<lab>-<node>[-<pod>]`. All of it is dual
//! stack: node `i` has 198.18.0.`i` and fd00:c01e::`i`, its pods 198.18.`i`.0/24 and fd00:c01e:`i`::/64. Only traffic
//! between the nodes crosses `wire`, so a [`Capture`] there sees just what a wire between two machines would carry.
//!
//! There is no netfilter rule, not even for services: each node has the services' virtual addresses, and a forwarder
//! that accepts connections to them and carries them to a backing pod (kube-proxy once worked like that). The pod sees
//! the node as its client then. Once a pod is in the mesh its connections to services are captured before they get
//! there.
//!
//! # Where to start reading
//! [`Lab`] (`lab.rs`), then [`Pod`] (`pod.rs`) and [`Process`] (`process.rs`); [`Mesh`] (`mesh.rs`) runs Culvert in a lab,
//! [`WaypointPlace`] (`waypoint.rs`) a waypoint;
//! [`Capture`] and [`netfilter`] are the witnesses.
//!
//! ```no_run
//! # use culvert_lab::*; use std::process::Command;
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::unique("example")?;
//! lab.namespace("shop")?;
//! let web = lab.pod(PodSpec::new("shop", "web").on(2).label("app", "web"))?;
//! let client = lab.pod(PodSpec::new("shop", "client").on(1))?;
//! let service = lab.service(ServiceSpec::new("shop", "web").port(8080).selector("app", "web"))?;
//! let _server = web.spawn("server", Command::new("python3").args(["-m", "http.server", "8080", "--bind", "::"]))?;
//! let page = client.output(Command::new("curl").arg(format!("http://{}:8080/", service.ip4())))?;
//! # Ok(()) }
//! ```

mod capture;
mod cgroup;
mod control;
mod envoy;
mod forwarder;
mod http;
mod ip;
mod lab;
mod mesh;
pub mod netfilter;
mod netns;
mod network;
mod node;
mod objects;
mod pod;
mod process;
mod run_dir;
mod service;
mod signals;
mod sockets;
mod wait;
mod waypoint;

pub use capture::{Capture, Seen};
pub use control::{CONTROL_IP4, CONTROL_IP6};
pub use envoy::Ads;
pub use http::{Response, ask, get};
pub use lab::{Lab, Options};
pub use mesh::{CONTROLLER_NAME, Mesh, MeshOptions};
pub use netns::Namespace;
pub use node::Node;
pub use pod::{Pod, PodSpec};
pub use process::Process;
pub use service::{Service, ServiceSpec};
pub use signals::remove_labs_on_signals;
pub use wait::{wait_for, wait_until};
pub use waypoint::WaypointPlace;
