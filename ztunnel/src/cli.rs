//! The command line. Every flag may also be given as an environment variable `CULVERT_...`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::{Args, Parser, ValueEnum};
use culvert_control::{Caller, Settings};
use culvert_dns::resolv_conf::resolver;
use culvert_telemetry::{
    LogFormat,
    tcp::{DroppedLabels, TcpSettings},
};
use ipnet::IpNet;

/// Culvert's node proxy: carries the TCP traffic of this node's pods through mutual TLS.
///
/// Started as a small monitor that gets pods from the agent and makes sockets inside them, and a worker without any
/// privilege that handles the traffic. SIGTERM stops accepting and waits until every connection has ended; a second one
/// stops at once.
#[derive(Clone, Debug, Parser)]
#[command(name = "culvert-ztunnel", version)]
pub(crate) struct Cli {
    /// This node's name, as in the pods' `spec.nodeName`.
    #[arg(long, env = "CULVERT_NODE")]
    pub(crate) node: String,

    /// The agent's socket, over which pods arrive.
    #[arg(long, env = "CULVERT_ZDS_SOCKET", default_value = "/run/culvert/zds.sock")]
    pub(crate) zds_socket: PathBuf,

    #[command(flatten)]
    pub(crate) controller: ControllerArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    #[command(flatten)]
    pub(crate) metrics: MetricArgs,

    /// Where the admin pages listen. They show configuration, so keep them on localhost.
    #[arg(long, env = "CULVERT_ADMIN_LISTEN", default_value = "127.0.0.1:15000")]
    pub(crate) admin_listen: SocketAddr,

    /// Where metrics are served.
    #[arg(long, env = "CULVERT_METRICS_LISTEN", default_value = "0.0.0.0:15020")]
    pub(crate) metrics_listen: SocketAddr,

    /// Where readiness is served.
    #[arg(long, env = "CULVERT_READINESS_LISTEN", default_value = "0.0.0.0:15021")]
    pub(crate) readiness_listen: SocketAddr,

    /// Asked to end (SIGTERM) while no other proxy serves this node's pods, serve on for so long, then close everything. With
    /// 0s, accepting ends at once. Where a successor is there, or no pod, open connections are waited for without limit.
    #[arg(long, env = "CULVERT_SUCCESSOR_WAIT", default_value = "0s", value_parser = duration_or_zero)]
    pub(crate) successor_wait: Duration,

    /// User and group id that the worker takes when the monitor runs as root.
    #[arg(long, env = "CULVERT_WORKER_USER", default_value_t = 65534)]
    pub(crate) worker_user: u32,

    /// What to log: a level, or a filter such as `info,culvert_ztunnel=debug`. Access logs have the target `access`.
    #[arg(long, env = "CULVERT_LOG", default_value = "info")]
    pub(crate) log: String,

    /// How to log; `auto` is text on a terminal and JSON otherwise.
    #[arg(
        long,
        env = "CULVERT_LOG_FORMAT",
        default_value = "auto",
        value_name = "auto|text|json"
    )]
    pub(crate) log_format: LogFormat,

    /// Set by the monitor when it starts the worker: its end of their socket pair is standard input.
    #[arg(long, hide = true)]
    pub(crate) worker: bool,
}

/// How to reach the controller.
#[derive(Clone, Debug, Args)]
pub(crate) struct ControllerArgs {
    /// The controller, for configuration and certificates.
    #[arg(
        long,
        env = "CULVERT_CONTROLLER",
        default_value = "https://culvert-controller.culvert-system.svc:15012",
        value_parser = culvert_control::controller_address
    )]
    pub(crate) controller: String,

    /// The name that the controller's certificate must have, where it differs from the one in the address.
    #[arg(long, env = "CULVERT_CONTROLLER_NAME")]
    pub(crate) controller_name: Option<String>,

    /// PEM file of the roots that sign the controller's certificate and the workloads'.
    #[arg(long, env = "CULVERT_CONTROLLER_CA")]
    pub(crate) controller_ca: PathBuf,

    /// File with the bearer token that proves which node this is. Read again when it changes.
    #[arg(long, env = "CULVERT_TOKEN_FILE")]
    pub(crate) token_file: PathBuf,

    /// The cluster's name in workload uids and telemetry.
    #[arg(long, env = "CULVERT_CLUSTER_ID", default_value = "Kubernetes")]
    pub(crate) cluster_id: String,

    /// The cluster's domain, in which services have their names; for DNS queries of pods.
    #[arg(long, env = "CULVERT_CLUSTER_DOMAIN", default_value = "cluster.local", value_parser = culvert_identity::dns_name)]
    pub(crate) cluster_domain: String,

    /// The trust domain of this node's workloads.
    #[arg(long, env = "CULVERT_TRUST_DOMAIN", default_value = "cluster.local", value_parser = culvert_identity::trust_domain)]
    pub(crate) trust_domain: String,

    /// Ranges that belong to the mesh: the cluster's pods and services, beside those that the controller tells. A destination in them that the controller does
    /// not know (yet) is waited for, then refused; elsewhere, what is unknown is outside the mesh and reached in
    /// plaintext. Where no range is known at all, this holds for every private address.
    /// May be given several times, or as a list with commas.
    #[arg(
        long = "mesh-cidr",
        env = "CULVERT_MESH_CIDR",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub(crate) mesh_cidrs: Vec<IpNet>,

    /// The API server's address in the cluster, which pods reach even before the controller has answered: it may depend on
    /// them (cluster DNS, for example). Kubernetes puts it into every container's environment; where it is a name, pods need a
    /// resolver before it anyway.
    #[arg(long = "api-server-host", env = "KUBERNETES_SERVICE_HOST", hide = true)]
    pub(crate) api_server_host: Option<String>,

    /// Its port.
    #[arg(
        long = "api-server-port",
        env = "KUBERNETES_SERVICE_PORT",
        default_value_t = 443,
        hide = true
    )]
    pub(crate) api_server_port: u16,

    /// The controller's address in the cluster, for when its name cannot be resolved. Kubernetes puts it into the
    /// environment of every container that is started after the service was made.
    #[arg(long = "controller-host", env = "CULVERT_CONTROLLER_SERVICE_HOST", hide = true)]
    pub(crate) controller_host: Option<IpAddr>,

    /// Subscribe to what this node's pods use, or to the whole mesh.
    #[arg(long, env = "CULVERT_CONFIG_MODE", value_enum, default_value_t = ConfigMode::OnDemand)]
    pub(crate) config_mode: ConfigMode,
}

impl ControllerArgs {
    /// What control is told of them, on behalf of this node.
    pub(crate) fn settings(&self, node: &Arc<str>) -> Settings {
        Settings {
            caller: Caller::Node { name: Arc::clone(node) },
            controller: self.controller.clone(),
            controller_name: self.controller_name.clone(),
            controller_host: self.controller_host,
            cluster_id: self.cluster_id.clone(),
            trust_domain: self.trust_domain.clone(),
            mesh_ranges: self.mesh_cidrs.clone(),
            api_server: self.api_server(),
            on_demand: self.config_mode == ConfigMode::OnDemand,
        }
    }

    /// The API server's address in the cluster.
    fn api_server(&self) -> Option<SocketAddr> {
        let host: IpAddr = self.api_server_host.as_ref()?.parse().ok()?;
        Some(SocketAddr::new(host, self.api_server_port))
    }
}

/// The data path.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineArgs {
    /// Event loops. One does the work of two with fewer context switches until a core is full.
    #[arg(long, env = "CULVERT_LOOPS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) loops: u16,

    /// Resolvers, with commas, of which addresses of endpoints are asked that are known by their DNS names, from inside the pod
    /// that dials them: for pods that have asked no resolver themselves. By default those of the container's /etc/resolv.conf.
    #[arg(
        long = "resolver",
        env = "CULVERT_RESOLVER",
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = resolver
    )]
    pub(crate) resolvers: Vec<SocketAddr>,

    /// How long a connection may take to be carried to its destination, including waiting for configuration, in
    /// seconds, or with a unit: 500ms, 10s, 1m.
    #[arg(long, env = "CULVERT_CONNECT_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub(crate) connect_timeout: Duration,

    /// Bytes that connections may make the proxy hold for applications that do not read, with a unit: 256Mi, 1Gi. Beyond it
    /// the connections that hold most are reset; one pod may cause five sixteenths of it. By default an eighth of the
    /// container's memory limit.
    #[arg(long, env = "CULVERT_HELD_MEMORY", value_parser = size)]
    pub(crate) held_memory: Option<u64>,

    /// How long connections may go on over a tunnel whose peer the roots no longer vouch for, or whose own identity gets no
    /// certificate any more. It takes no new ones from then on.
    #[arg(long, env = "CULVERT_TUNNEL_GRACE", default_value = "1h", value_parser = duration_or_zero)]
    pub(crate) tunnel_grace: Duration,

    /// Silence on a tunnel that carries connections after which its peer is asked for a sign of life.
    #[arg(long, env = "CULVERT_TUNNEL_PING_INTERVAL", default_value = "10s", value_parser = duration)]
    pub(crate) tunnel_ping_interval: Duration,

    /// How long the peer may take to answer. Then the tunnel is given up, and the connections that it carries are reset at
    /// this end.
    #[arg(long, env = "CULVERT_TUNNEL_PING_TIMEOUT", default_value = "20s", value_parser = duration)]
    pub(crate) tunnel_ping_timeout: Duration,

    /// After which a tunnel that carries no connection is closed by the side that opened it.
    #[arg(long, env = "CULVERT_TUNNEL_IDLE", default_value = "5m", value_parser = duration)]
    pub(crate) tunnel_idle: Duration,
}

/// The metrics of connections.
#[derive(Clone, Debug, Args)]
pub(crate) struct MetricArgs {
    /// Labels of the connection metrics (istio_tcp_...) that are left out, with commas: source_principal,destination_principal.
    /// Series that differ in nothing else become one.
    #[arg(
        long,
        env = "CULVERT_METRIC_LABELS_DROP",
        default_value = "",
        hide_default_value = true,
        value_name = "LABEL,..."
    )]
    pub(crate) metric_labels_drop: DroppedLabels,

    /// How many series of connection metrics there may be. Beyond it, new ones are counted together in one whose labels say
    /// `overflow`, and culvert_tcp_series_overflows_total grows.
    #[arg(long, env = "CULVERT_METRIC_SERIES_LIMIT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) metric_series_limit: u32,
}

impl MetricArgs {
    /// How connection metrics are kept.
    pub(crate) fn settings(&self) -> TcpSettings {
        TcpSettings {
            dropped: self.metric_labels_drop.clone(),
            limit: self.metric_series_limit as usize,
            ..TcpSettings::default()
        }
    }
}

/// How much configuration to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigMode {
    /// What pods of this node connect to, when they first do.
    OnDemand,
    /// Every workload and service of the mesh.
    Wildcard,
}

/// Bytes, as Kubernetes writes quantities of memory.
fn size(text: &str) -> Result<u64, String> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let unit = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes >= 1 << 20 => Ok(bytes),
        Some(_) => Err(format!("`{text}` is less than 1Mi")),
        None => Err(format!("`{text}` is not a size such as 256Mi or 1Gi")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err(format!("`{text}` is no time at all")),
        time => Ok(time),
    }
}

fn duration_or_zero(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= Duration::from_secs(3600) => Ok(time),
        Ok(_) => Err(format!("`{text}` is longer than an hour")),
        Err(error) => Err(format!("`{text}` is not a time such as 250ms, 10s or 5m: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_a_unit_and_refuse_nonsense() {
        assert_eq!(size("256Mi"), Ok(256 << 20));
        assert_eq!(size("1Gi"), Ok(1 << 30));
        assert_eq!(size("4294967296"), Ok(4 << 30));
        for text in ["", "Mi", "1", "12K", "-1Mi", "99999999999Gi", "1.5Gi"] {
            assert!(size(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn durations_take_a_unit_and_refuse_nonsense() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
        for text in [
            "",
            "s",
            "0s",
            "10",
            "5h",
            "99999999999999999999s",
            "18446744073709551615s",
            "-1s",
        ] {
            assert!(duration(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn a_label_that_there_is_not_is_an_error_that_lists_those_that_there_are() {
        let parse = |labels: &str| {
            let line = [
                "culvert-ztunnel",
                "--node=n",
                "--controller-ca=c",
                "--token-file=t",
                "--metric-labels-drop",
                labels,
            ];
            Cli::try_parse_from(line).map(|cli| cli.metrics.settings().dropped)
        };
        let error = parse("source_app,sauce_app").unwrap_err().to_string();
        assert!(
            error.contains("`sauce_app`") && error.contains("destination_workload_namespace"),
            "{error}"
        );
        assert_eq!(
            parse("source_app, source_version").unwrap().to_string(),
            "source_app,source_version"
        );
        assert_eq!(parse("").unwrap(), DroppedLabels::default());
    }

    #[test]
    fn what_nothing_uses_is_an_error() {
        use clap::Parser as _;
        for given in ["node-token", "--state-dir", "--xds-listen"] {
            let kind = Cli::try_parse_from(["culvert-ztunnel", given]).map_err(|error| error.kind());
            assert_eq!(kind.err(), Some(clap::error::ErrorKind::UnknownArgument), "{given}");
        }
    }
}
