//! A real Kubernetes cluster on one machine.

mod addresses;
mod cgroup;
mod cluster;
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
pub use control_plane::Component;
pub use error::Error;
pub use inside::Component as NodeComponent;
pub use kubectl::Kubectl;
pub use node::Node;
pub use options::Options;
pub use process::Process;
pub use wait::{wait_for, wait_until};
