//! What holds for all waypoints.

use std::collections::BTreeMap;

/// What waypoints are told, and what of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The image of our own program; without it none can be made.
    pub(crate) image: Option<String>,
    /// The image of Envoy.
    pub(crate) envoy_image: String,
    /// When it is pulled.
    pub(crate) pull_policy: String,
    /// Environment variables that hold for all of them.
    pub(crate) environment: BTreeMap<String, String>,
    /// What the names of services end in.
    pub(crate) cluster_domain: String,
}
