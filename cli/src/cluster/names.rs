//! The names that the manifests, the programs and this command agree upon.

/// Our own namespace.
pub(crate) const NAMESPACE: &str = "culvert-system";
/// The DaemonSet of agent and proxy.
pub(crate) const NODE: &str = "culvert-node";
/// The controller's Deployment, Service and Lease.
pub(crate) const CONTROLLER: &str = "culvert-controller";
/// The certificate authority's Secret.
pub(crate) const CA_SECRET: &str = "culvert-ca";
/// The ConfigMap with the roots, in every namespace that has to do with the mesh.
pub(crate) const TRUST_BUNDLE: &str = "culvert-ca-root-cert";
/// What the programs are told about the cluster.
pub(crate) const CONFIG: &str = "culvert-config";
/// The agent's container, and the proxy's.
pub(crate) const AGENT_CONTAINER: &str = "agent";
/// See [`AGENT_CONTAINER`].
pub(crate) const PROXY_CONTAINER: &str = "ztunnel";
/// Who applies: the field manager of everything that `culvert install` sets.
pub(crate) const MANAGER: &str = "culvert";
/// On objects that a program of ours made while it ran, such as the trust bundle in each namespace.
pub(crate) const MANAGED_BY: &str = "culvert.dev/managed-by";
/// On our namespace (`culvert uninstall`) or our DaemonSet (the Helm chart), while pods are taken out of the mesh.
pub(crate) const UNINSTALLING: &str = "culvert.dev/uninstalling";
/// The class of Gateways whose pods run our waypoint.
pub(crate) const WAYPOINT_CLASS: &str = "culvert-waypoint";
/// Labels that enrol namespaces and pods.
pub(crate) const MESH_LABELS: [&str; 2] = ["culvert.dev/mesh", "istio.io/dataplane-mode"];

/// Ports that the mesh takes inside each enrolled pod: what goes out, what comes in without a tunnel, the tunnel.
pub(crate) const PORTS_IN_PODS: [u16; 3] = [15001, 15006, TUNNEL];
/// Where the tunnel of an enrolled pod arrives.
pub(crate) const TUNNEL: u16 = 15008;

/// Ports of our pods.
pub(crate) mod ports {
    /// The proxy's pages about itself, on the pod's localhost.
    pub(crate) const PROXY_ADMIN: u16 = 15000;
    /// The proxy's readiness.
    pub(crate) const PROXY_READY: u16 = 15021;
    /// The proxy's metrics.
    pub(crate) const PROXY_METRICS: u16 = 15020;
    /// The agent's pages.
    pub(crate) const AGENT: u16 = 15022;
    /// A waypoint's pages about itself, on the pod's localhost.
    pub(crate) const WAYPOINT_ADMIN: u16 = 15000;
    /// The controller's pages.
    pub(crate) const CONTROLLER: u16 = 15014;
}
