//! Networks, of which the mesh has one: what is said to whoever names another.

/// The label by which Istio knows in which network something is.
pub(crate) const NETWORK_LABEL: &str = "topology.istio.io/network";

/// What is said of an endpoint that is in a network of a name: its address would lead to somebody else in this one.
pub(crate) fn of_endpoint(network: &str) -> String {
    format!("the mesh has one network, and none of the name {network:?}: nobody reaches the endpoint")
}

/// What is said of a namespace or a pod that is in a network of a name: its pods have addresses of this cluster whatever it says.
pub(crate) fn of_pods(network: &str) -> String {
    format!(
        "the mesh has one network, and none of the name {network:?}: nothing follows from it, and pods of the cluster are reached directly"
    )
}
