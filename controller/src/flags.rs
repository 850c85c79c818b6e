//! What the controller is told on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use culvert_telemetry::LogFormat;
use ipnet::IpNet;

use crate::authority::AuthorityFlags;
use crate::cluster::flags::ClusterFlags;
use crate::duration::duration;

/// Where the root key and the tokens are kept unless a flag says otherwise.
const STATE_DIR: &str = "/var/lib/culvert";

/// Watches the cluster, is its certificate authority, and tells every node what the mesh is.
#[derive(Debug, Parser)]
#[command(name = "culvert-controller", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something else than to serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve. Everything has a default, so that a chore beside serving needs none of it, whatever the
    /// environment says.
    #[command(flatten)]
    pub serve: Serve,
}

/// Chores beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the token with which the programs of a node prove where they run, and prints its file's path.
    ///
    /// The same token again if there is one. Remove the file to revoke it.
    NodeToken {
        /// The node's name, as in Pods' `spec.nodeName`.
        node: String,
        /// Where the controller keeps its root key and the tokens.
        #[arg(long, env = "CULVERT_STATE_DIR", default_value = STATE_DIR, value_name = "DIR")]
        state_dir: PathBuf,
    },
    /// Makes the token with which a pod calls for itself, as a waypoint does, and prints its file's path.
    ///
    /// The same token again if there is one for this account. Remove the file to revoke it.
    WorkloadToken {
        /// The pod.
        #[arg(value_name = "NAMESPACE/POD")]
        pod: String,
        /// The service account of that namespace whose identity it gets.
        #[arg(long, value_name = "NAME")]
        service_account: String,
        /// Where the controller keeps its root key and the tokens.
        #[arg(long, env = "CULVERT_STATE_DIR", default_value = STATE_DIR, value_name = "DIR")]
        state_dir: PathBuf,
    },
}

/// How to serve.
#[derive(Debug, Args)]
pub struct Serve {
    /// A directory of Kubernetes YAML, followed while it changes. Without it: a cluster's API server.
    #[arg(long, env = "CULVERT_CONFIG_DIR", value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// How the cluster is reached.
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Where the root key and the tokens are kept; made at the first start. Keep it safe.
    #[arg(long, env = "CULVERT_STATE_DIR", default_value = STATE_DIR, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// First part of every identity.
    #[arg(
        long,
        env = "CULVERT_TRUST_DOMAIN",
        default_value = "cluster.local",
        value_parser = culvert_identity::trust_domain,
        value_name = "NAME"
    )]
    pub trust_domain: String,
    /// First part of every workload's uid.
    #[arg(long, env = "CULVERT_CLUSTER_ID", default_value = "Kubernetes", value_name = "NAME")]
    pub cluster_id: String,
    /// The namespace whose policies bind everywhere.
    #[arg(
        long,
        env = "CULVERT_ROOT_NAMESPACE",
        default_value = "istio-system",
        value_parser = culvert_identity::dns_name,
        value_name = "NAME"
    )]
    pub root_namespace: String,
    /// What the names of services end in.
    #[arg(
        long,
        env = "CULVERT_CLUSTER_DOMAIN",
        default_value = "cluster.local",
        value_parser = culvert_identity::dns_name,
        value_name = "NAME"
    )]
    pub cluster_domain: String,
    /// Where nodes ask for configuration and certificates.
    #[arg(
        long,
        env = "CULVERT_XDS_LISTEN",
        default_value = "0.0.0.0:15012",
        value_name = "ADDRESS"
    )]
    pub xds_listen: SocketAddr,
    /// The longest that a node's stream of configuration lasts before the node connects again, perhaps to another replica.
    /// Streams end when their token does in any case.
    #[arg(long, env = "CULVERT_STREAM_AGE", default_value = "30m", value_parser = duration, value_name = "TIME")]
    pub stream_age: Duration,
    /// A name or address by which nodes reach this controller, for its certificate; may be repeated. Beside
    /// `localhost` and the loopback addresses.
    #[arg(long, env = "CULVERT_SERVING_NAME", value_delimiter = ',', value_name = "NAME")]
    pub serving_name: Vec<String>,
    /// Where metrics and readiness are shown, and on loopback status and findings.
    #[arg(
        long,
        env = "CULVERT_MONITORING_LISTEN",
        default_value = "127.0.0.1:15014",
        value_name = "ADDRESS"
    )]
    pub monitoring_listen: SocketAddr,
    /// Where the kubelet's probes are answered: /healthz/ready and /healthz/live alone. Without it: on --monitoring-listen
    /// only.
    #[arg(long, env = "CULVERT_READINESS_LISTEN", value_name = "ADDRESS")]
    pub readiness_listen: Option<SocketAddr>,
    /// How certificates are signed.
    #[command(flatten)]
    pub authority: AuthorityFlags,
    /// From where Services without an address get one; may be repeated, once for each family. None: they get none.
    #[arg(long, env = "CULVERT_SERVICE_CIDR", value_delimiter = ',', value_name = "CIDR")]
    pub service_cidr: Vec<IpNet>,
    /// How often the keys of token issuers are fetched that RequestAuthentications name by URI.
    #[arg(long, env = "CULVERT_JWKS_REFRESH", default_value = "20m", value_parser = duration, value_name = "TIME")]
    pub jwks_refresh: Duration,
    /// Roots by which these issuers are trusted, in PEM, instead of the system's.
    #[arg(long, env = "CULVERT_JWKS_CA", value_name = "FILE")]
    pub jwks_ca: Option<PathBuf>,
    /// Log lines as text or json; auto means text on a terminal.
    #[arg(long, env = "CULVERT_LOG_FORMAT", default_value = "auto", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What to log: a level, or a list such as `info,culvert_controller=debug`.
    #[arg(long, env = "CULVERT_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86400)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in [
            "",
            "0s",
            "24",
            "h",
            "1q",
            "-1s",
            "99999999999999999999s",
            "1000d 99999999h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let token = Cli::try_parse_from(["c", "node-token", "n", "--state-dir", "/s"]).unwrap();
        assert!(matches!(token.command, Some(Command::NodeToken { node, .. }) if node == "n"));
        let workload = [
            "c",
            "workload-token",
            "shop/wp-1",
            "--service-account",
            "wp",
            "--state-dir",
            "/s",
        ];
        let workload = Cli::try_parse_from(workload).unwrap();
        assert!(matches!(workload.command, Some(Command::WorkloadToken { pod, .. }) if pod == "shop/wp-1"));
        let serve = Cli::try_parse_from(["c", "--config-dir", "/c", "--state-dir", "/s"]).unwrap();
        assert_eq!(serve.serve.authority.leaf_ttl, Duration::from_secs(86400));
        assert!(Cli::try_parse_from(["c", "node-token"]).is_err());
    }

    /// Seen: with an empty root namespace, what is forbidden everywhere was forbidden nowhere, and all seemed well.
    #[test]
    fn a_name_that_is_none_is_an_error_rather_than_a_mesh_in_which_nothing_matches() {
        for (flag, value) in [
            ("--root-namespace", ""),
            ("--root-namespace", "Istio System"),
            ("--cluster-domain", ""),
            ("--cluster-domain", "cluster.local."),
            ("--trust-domain", ""),
            ("--namespace", ""),
        ] {
            let error = Cli::try_parse_from(["c", flag, value]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(&format!("`{value}`")), "{error}");
        }
    }

    /// Seen: the token was made in the default folder, and the flag was taken without a word.
    #[test]
    fn a_flag_of_serving_before_node_token_is_an_error_rather_than_ignored() {
        for flags in [["--state-dir", "/s"], ["--config-dir", "/c"], ["--log", "info"]] {
            let [flag, value] = flags;
            let error = Cli::try_parse_from(["c", flag, value, "node-token", "n"]).unwrap_err();
            assert!(error.to_string().contains("node-token"), "{error}");
        }
        assert!(Cli::try_parse_from(["c", "node-token", "n", "--config-dir", "/c"]).is_err());
    }
}
