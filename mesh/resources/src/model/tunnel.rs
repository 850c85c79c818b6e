//! Who takes connections through the tunnel by a word of Istio's, whatever labels enrol it.

use culvert_objects::Labels;

/// Set by Istio's node agent on what it has enrolled.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// Set on workloads that serve HBONE themselves.
const TUNNEL: &str = "networking.istio.io/tunnel";

/// Whether Istio's agent has enrolled it, or it serves the tunnel itself.
pub(super) fn is_there(labels: &Labels, annotations: &Labels) -> bool {
    annotations.get(REDIRECTION) == Some("enabled") || is_native(labels)
}

/// Whether it serves the tunnel itself.
pub(super) fn is_native(labels: &Labels) -> bool {
    labels.get(TUNNEL) == Some("http")
}
