//! The command line. Every flag may also be given as an environment variable `CULVERT_...`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser};
use culvert_dns::resolv_conf::resolver;
use culvert_telemetry::LogFormat;

/// Culvert's layer-7 proxy of a waypoint: takes requests out of tunnels, decides about each, and sends it on through a tunnel.
///
/// SIGTERM stops accepting, tells clients to go elsewhere, and waits until every request has ended; a second one stops at once.
#[derive(Clone, Debug, Parser)]
#[command(name = "culvert-waypoint", version)]
pub struct Cli {
    /// The name of the Gateway that this waypoint is for.
    #[arg(long, env = "CULVERT_GATEWAY")]
    pub gateway: String,

    /// The namespace of the Gateway, and of this pod.
    #[arg(long, env = "CULVERT_NAMESPACE")]
    pub namespace: String,

    /// This pod's name.
    #[arg(long, env = "CULVERT_POD_NAME")]
    pub pod_name: String,

    /// This pod's address.
    #[arg(long, env = "CULVERT_POD_IP", default_value = "127.0.0.1")]
    pub pod_ip: IpAddr,

    /// The service account of this pod: whose certificate is shown to clients and endpoints.
    #[arg(long, env = "CULVERT_SERVICE_ACCOUNT")]
    pub service_account: String,

    /// The node that this pod is on.
    #[arg(long, env = "CULVERT_NODE", default_value = "")]
    pub node: String,

    /// How to reach the controller.
    #[command(flatten)]
    pub controller: ControllerArgs,

    /// Where clients' tunnels are accepted.
    #[arg(long, env = "CULVERT_LISTEN", default_value = "[::]:15008")]
    pub listen: SocketAddr,

    /// Threads, each with a listener and connections of its own. By default one for each processor that this process may use.
    #[arg(long, env = "CULVERT_THREADS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,

    /// Tunnels that clients may have open, on each thread.
    #[arg(long, env = "CULVERT_TUNNELS_LIMIT", default_value_t = 10_000)]
    pub tunnels_limit: u32,

    /// Connections inside of tunnels that clients may have open, on each thread. Beyond it, they are refused with 503.
    #[arg(long, env = "CULVERT_CONNECTIONS_LIMIT", default_value_t = 50_000)]
    pub connections_limit: u32,

    /// Requests that may be under way, on each thread. Beyond it, requests are answered 503.
    #[arg(long, env = "CULVERT_REQUESTS_LIMIT", default_value_t = 20_000)]
    pub requests_limit: u32,

    /// Memory of the process in bytes, beyond which new requests are answered 503; 0 for no limit. By default four fifths of the
    /// container's limit, if it has one.
    #[arg(long, env = "CULVERT_MEMORY_LIMIT", value_name = "BYTES")]
    pub memory_limit: Option<u64>,

    /// How long requests may go on after SIGTERM. By default as long as they take.
    #[arg(long, env = "CULVERT_DRAIN_TIMEOUT", value_parser = humantime::parse_duration)]
    pub drain_timeout: Option<Duration>,

    /// Where the admin pages listen. They show configuration, so keep them on localhost.
    #[arg(long, env = "CULVERT_ADMIN_LISTEN", default_value = "127.0.0.1:15000")]
    pub admin_listen: SocketAddr,

    /// Where metrics are served.
    #[arg(long, env = "CULVERT_METRICS_LISTEN", default_value = "0.0.0.0:15020")]
    pub metrics_listen: SocketAddr,

    /// Where readiness is served.
    #[arg(long, env = "CULVERT_READINESS_LISTEN", default_value = "0.0.0.0:15021")]
    pub readiness_listen: SocketAddr,

    /// A resolver for endpoints that are DNS names, as `ADDRESS` or `ADDRESS:PORT`; may be given several times. By default those of
    /// /etc/resolv.conf.
    #[arg(
        long = "resolver",
        env = "CULVERT_RESOLVER",
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = resolver
    )]
    pub resolvers: Vec<SocketAddr>,

    /// What to log: a level, or a filter such as `info,culvert_waypoint=debug`. Access logs have the target `access`.
    #[arg(long, env = "CULVERT_LOG", default_value = "info")]
    pub log: String,

    /// How to log; `auto` is text on a terminal and JSON otherwise.
    #[arg(
        long,
        env = "CULVERT_LOG_FORMAT",
        default_value = "auto",
        value_name = "auto|text|json"
    )]
    pub log_format: LogFormat,
}

/// How to reach the controller.
#[derive(Clone, Debug, Args)]
pub struct ControllerArgs {
    /// The controller, for configuration and certificates.
    #[arg(
        long,
        env = "CULVERT_CONTROLLER",
        default_value = "https://culvert-controller.culvert-system.svc:15012",
        value_parser = culvert_control::controller_address
    )]
    pub controller: String,

    /// The name that the controller's certificate must have, where it differs from the one in the address.
    #[arg(long, env = "CULVERT_CONTROLLER_NAME")]
    pub controller_name: Option<String>,

    /// PEM file of the roots that sign the controller's certificate and the workloads'.
    #[arg(long, env = "CULVERT_CONTROLLER_CA")]
    pub controller_ca: PathBuf,

    /// File with the bearer token that proves which pod this is. Read again when it changes.
    #[arg(long, env = "CULVERT_TOKEN_FILE")]
    pub token_file: PathBuf,

    /// The cluster's name in telemetry.
    #[arg(long, env = "CULVERT_CLUSTER_ID", default_value = "Kubernetes")]
    pub cluster_id: String,

    /// The trust domain of workloads.
    #[arg(long, env = "CULVERT_TRUST_DOMAIN", default_value = "cluster.local", value_parser = culvert_identity::trust_domain)]
    pub trust_domain: String,

    /// The controller's address in the cluster, for when its name cannot be resolved. Kubernetes puts it into the environment of every
    /// container that is started after the service was made.
    #[arg(long = "controller-host", env = "CULVERT_CONTROLLER_SERVICE_HOST", hide = true)]
    pub controller_host: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
