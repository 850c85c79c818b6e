//! What images the manifests name.

/// The version of the images that the manifests name: this crate's.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The architectures that the images are for, as Kubernetes writes them.
pub const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// The registry that the manifests name.
pub const REGISTRY: &str = "culvert.dev";
