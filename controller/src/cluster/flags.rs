//! How the cluster is reached, and who this replica is.

use std::path::PathBuf;

use clap::Args;

/// The system namespace unless something says otherwise.
const NAMESPACE: &str = "culvert-system";

/// Flags that count when the objects come from a cluster.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterFlags {
    /// How to reach the API server from outside the cluster. Without it: as any pod, by the service account.
    #[arg(long, env = "CULVERT_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The system namespace. Without it that of this pod, as `POD_NAMESPACE` has it, or else `culvert-system`.
    #[arg(long, env = "CULVERT_NAMESPACE", value_parser = culvert_identity::dns_name, value_name = "NAME")]
    pub namespace: Option<String>,
    /// What this replica calls itself when one of several is elected. Without it the pod's name, as `POD_NAME` or
    /// `HOSTNAME` has it.
    #[arg(long, env = "CULVERT_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,
    /// The image of waypoints, which are made for Gateways of our classes. Without it none can be made.
    #[arg(long, env = "CULVERT_WAYPOINT_IMAGE", value_name = "IMAGE")]
    pub waypoint_image: Option<String>,
    /// The image of waypoints of class culvert-envoy: Envoy 1.40, the program of the tests.
    #[arg(
        long,
        env = "CULVERT_ENVOY_IMAGE",
        default_value = "docker.io/envoyproxy/envoy:distroless-v1.40.0",
        value_name = "IMAGE"
    )]
    pub envoy_image: String,
    /// When an image of waypoints is pulled: Always, IfNotPresent or Never.
    #[arg(
        long,
        env = "CULVERT_WAYPOINT_PULL_POLICY",
        default_value = "IfNotPresent",
        value_parser = ["Always", "IfNotPresent", "Never"],
        value_name = "POLICY"
    )]
    pub waypoint_pull_policy: String,
}

impl ClusterFlags {
    /// The system namespace.
    pub fn namespace(&self) -> String {
        let given = self.namespace.clone().or_else(|| variable("POD_NAMESPACE"));
        given.unwrap_or_else(|| NAMESPACE.to_owned())
    }

    /// This replica's name, different from every other's.
    pub fn replica(&self) -> String {
        let given = self.replica.clone().or_else(|| variable("POD_NAME"));
        let name = given
            .or_else(|| variable("HOSTNAME"))
            .unwrap_or_else(|| "controller".to_owned());
        // Outside pods two replicas may run on one host; and a pod's process that was started again must not take the
        // lease of its predecessor for its own before that has ended.
        let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        format!(
            "{name}_{}_{:x}",
            std::process::id(),
            since.unwrap_or_default().as_millis()
        )
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
