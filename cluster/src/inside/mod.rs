//! What the program `culvert-cluster` does in the places where a cluster's processes live.
//!
//! | command | what |
//! |---|---|
//! | `run` | puts itself into a group and a network namespace, and becomes the program it is given |
//! | `node` | makes a node's namespaces, starts `init` in them, and lives as long as it does |
//! | `init` | the node's process 1: mounts, containerd, images, kubelet, kube-proxy |
//! | `enter` | runs a program inside a node |
//! | `forward` | carries connections from an inherited listening socket to an address |
//!
//! These are seams between a cluster and its processes, not an interface for people.

mod enter;
mod forward;
mod init;
mod mounts;
mod node;
mod run;
mod supervisor;

pub use enter::enter;
pub use forward::forward;
pub use init::init;
pub use node::node;
pub use run::run;
