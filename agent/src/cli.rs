//! The command line. Every flag may also be given as an environment variable `CULVERT_...`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use culvert_agent::{
    enrolment::Settings,
    gate::{GateArgs, install::Places},
    kernel::{Exclusions, GuardHook, KernelConfig, LocalLegs, MapSizes, NODE_NETWORK},
    source::kubernetes::KubernetesArgs,
};
use culvert_objects::DnsCapture;
use culvert_telemetry::LogFormat;
use ipnet::IpNet;

use crate::{announce::AnnounceRemoval, duration::duration, free_node::FreeNode};

/// Culvert's node agent: captures the TCP connections of this node's labelled pods in the kernel and hands the pods to the
/// node's proxy.
///
/// Needs root. What it sets up is pinned in the kernel and goes on when the agent ends; the next one carries on from there.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "culvert-agent",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// This node's name, as in the pods' `spec.nodeName`; needed for serving it.
    #[arg(long, env = "CULVERT_NODE", default_value = "", hide_default_value = true)]
    pub(crate) node: String,

    /// Do without a cluster: a directory of Kubernetes objects as YAML, followed while it changes. A pod's annotation
    /// `culvert.dev/netns` names its network namespace: a name below /run/netns, or an absolute path.
    #[arg(long, env = "CULVERT_CONFIG_DIR")]
    pub(crate) config_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) kubernetes: KubernetesArgs,

    #[command(flatten)]
    pub(crate) gate: GateArgs,

    /// The namespace that Culvert itself runs in.
    #[arg(long, env = "CULVERT_NAMESPACE", default_value = "culvert-system")]
    pub(crate) namespace: String,

    /// Key of a taint to take off the node once the agent is ready; the node registers with it, so that no pod starts there
    /// before.
    #[arg(long, env = "CULVERT_NODE_TAINT", value_name = "KEY")]
    pub(crate) node_taint: Option<String>,

    /// The DaemonSet that this agent belongs to. When it is being deleted, the agent ends capture before it ends itself.
    #[arg(long, env = "CULVERT_DAEMONSET", default_value = "culvert-node")]
    pub(crate) daemonset: String,

    /// Where the proxy connects.
    #[arg(long, env = "CULVERT_ZDS_SOCKET", default_value = "/run/culvert/zds.sock")]
    pub(crate) zds_socket: PathBuf,

    #[command(flatten)]
    pub(crate) kernel: KernelArgs,

    /// How long a pod that leaves the mesh still takes tunnel connections from peers that have not heard of it.
    #[arg(long, env = "CULVERT_LEAVE_GRACE", default_value = "3s", value_parser = duration)]
    pub(crate) leave_grace: Duration,

    /// How long a new pod waits for the proxy before it is captured regardless; its connections then wait.
    #[arg(long, env = "CULVERT_PROXY_WAIT", default_value = "2s", value_parser = duration)]
    pub(crate) proxy_wait: Duration,

    /// How long a new connection of a pod's waits while no proxy serves before it is reset.
    #[arg(long, env = "CULVERT_CONNECTION_WAIT", default_value = "60s", value_parser = duration)]
    pub(crate) connection_wait: Duration,

    /// How long connections of two pods of this node may go past the proxy after the last one of theirs (`culvert.dev/same-node`). A
    /// later one goes through the proxy, which decides anew. Pools of connections seldom keep an idle one for longer than the default.
    #[arg(long, env = "CULVERT_SAME_NODE_IDLE", default_value = "10m", value_parser = duration)]
    pub(crate) same_node_idle: Duration,

    /// Whether the proxy sees the DNS queries of pods whose annotations do not say: enabled or disabled. It answers for the mesh and
    /// passes everything else on to the pod's own resolvers.
    #[arg(
        long,
        env = "CULVERT_DNS_CAPTURE",
        default_value = "enabled",
        value_name = "enabled|disabled"
    )]
    pub(crate) dns_capture: DnsCapture,

    /// Where metrics, pods and readiness are served: /metrics, /healthz/ready, and on loopback /pods.
    #[arg(long, env = "CULVERT_MONITORING_LISTEN", default_value = "127.0.0.1:15022")]
    pub(crate) monitoring_listen: SocketAddr,

    /// Where the kubelet's probes are answered: /healthz/ready and /healthz/live alone. Without it: on --monitoring-listen only.
    #[arg(long, env = "CULVERT_READINESS_LISTEN")]
    pub(crate) readiness_listen: Option<SocketAddr>,

    /// What to log: a level, or a filter such as `info,culvert_agent=debug`. The kernel programs log as `kernel`.
    #[arg(long, env = "CULVERT_LOG", default_value = "info")]
    pub(crate) log: String,

    /// How to log: text, json, or auto, which is text on a terminal and JSON otherwise.
    #[arg(long, env = "CULVERT_LOG_FORMAT", default_value = "auto")]
    pub(crate) log_format: LogFormat,
}

/// What to do instead of serving the node.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Take everything of Culvert off this node: pins, CNI configuration, plug-in. For a node that no agent will come to any more;
    /// needs root, and no cluster.
    FreeNode(FreeNode),
    /// Tell every node that Culvert is about to be removed, and wait until their pods have left the mesh.
    AnnounceRemoval(AnnounceRemoval),
}

/// The kernel side.
#[derive(Clone, Debug, Args)]
pub(crate) struct KernelArgs {
    /// The cgroup2 folder whose processes are captured: the root, or a node's own where several share a kernel. The agent
    /// and the proxy run in it too. [default: the widest cgroup2 that is mounted]
    #[arg(long, env = "CULVERT_CGROUP")]
    pub(crate) cgroup: Option<PathBuf>,

    /// The proxy's cgroup2 folder, below the former. Its connections are never captured. [default: that of each proxy that
    /// connects; in Kubernetes, of its pod]
    #[arg(long, env = "CULVERT_PROXY_CGROUP")]
    pub(crate) proxy_cgroup: Option<PathBuf>,

    /// Folder on a bpffs where programs and maps are pinned.
    #[arg(long, env = "CULVERT_BPFFS", default_value = "/sys/fs/bpf/culvert")]
    pub(crate) bpffs: PathBuf,

    /// Enrolled pods that the kernel's map holds.
    #[arg(long, env = "CULVERT_MAP_PODS", default_value_t = MapSizes::default().pods)]
    pub(crate) map_pods: u32,

    /// Addresses of enrolled pods that the kernel's map holds.
    #[arg(long, env = "CULVERT_MAP_ADDRESSES", default_value_t = MapSizes::default().addresses)]
    pub(crate) map_addresses: u32,

    /// Connections being opened that the kernel's map holds; one too many is denied and counted.
    #[arg(long, env = "CULVERT_MAP_FLOWS", default_value_t = MapSizes::default().flows)]
    pub(crate) map_flows: u32,

    /// How many of these one pod may have, so that no pod takes the room of others. [default: an eighth of --map-flows]
    #[arg(long, env = "CULVERT_MAP_FLOWS_PER_POD")]
    pub(crate) map_flows_per_pod: Option<u32>,

    /// Excluded CIDRs that the kernel's map holds.
    #[arg(long, env = "CULVERT_MAP_EXCLUSIONS", default_value_t = MapSizes::default().exclusions)]
    pub(crate) map_exclusions: u32,

    /// How the guard is attached to pods' links: tcx (since Linux 6.6), clsact, or auto, which is tcx where the kernel has it.
    #[arg(long, env = "CULVERT_GUARD_HOOK", default_value = "auto", value_name = "HOOK")]
    pub(crate) guard_hook: GuardHook,

    /// How bytes go between applications and the node's proxy: tcp; kernel, which takes what applications send past loopback TCP where
    /// this kernel stands the whole trial of it; or polled, the same also where blocking reads may fail with EAGAIN.
    #[arg(
        long,
        env = "CULVERT_LOCAL_LEGS",
        default_value = "tcp",
        value_name = "tcp|kernel|polled"
    )]
    pub(crate) local_legs: LocalLegs,

    /// A destination that pods reach directly. May be repeated; the environment variable takes a list with commas.
    #[arg(
        long = "exclude-cidr",
        env = "CULVERT_EXCLUDE_CIDR",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub(crate) exclude_cidrs: Vec<IpNet>,

    /// A port that pods reach directly, and on which they are reached directly. May be repeated.
    #[arg(
        long = "exclude-port",
        env = "CULVERT_EXCLUDE_PORT",
        value_delimiter = ',',
        value_name = "PORT"
    )]
    pub(crate) exclude_ports: Vec<u16>,
}

impl Cli {
    pub(crate) fn kernel_config(&self) -> KernelConfig {
        let args = &self.kernel;
        KernelConfig {
            cgroup: args.cgroup.clone(),
            proxy_cgroup: args.proxy_cgroup.clone(),
            proxies_in_pods: self.config_dir.is_none(),
            bpffs: args.bpffs.clone(),
            sizes: MapSizes {
                pods: args.map_pods,
                addresses: args.map_addresses,
                flows: args.map_flows,
                flows_per_pod: args.map_flows_per_pod.unwrap_or((args.map_flows / 8).max(1)),
                exclusions: args.map_exclusions,
            },
            exclusions: Exclusions {
                cidrs: args.exclude_cidrs.clone(),
                ports: args.exclude_ports.clone(),
            },
            guard_hook: args.guard_hook,
            local_legs: args.local_legs,
            // Without a cluster, the agent runs where pods' links lead to; on Kubernetes it has a network of its own.
            node_network: match &self.config_dir {
                Some(_) => PathBuf::from("/proc/self/ns/net"),
                None => PathBuf::from(NODE_NETWORK),
            },
        }
    }

    /// Where the CNI plug-in goes; none where it is not wanted, or there is no cluster.
    pub(crate) fn places(&self) -> Option<Places> {
        (self.config_dir.is_none() && !self.gate.no_cni).then(|| Places::of(&self.gate))
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            leave_grace: self.leave_grace,
            proxy_wait: self.proxy_wait,
            connection_wait: self.connection_wait,
            same_node_idle: self.same_node_idle,
            dns: self.dns_capture,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_refuses_nonsense() {
        Cli::command().debug_assert();
        let parse = |more: &[&str]| {
            Cli::try_parse_from([&["culvert-agent", "--node", "n", "--config-dir", "d"], more].concat())
        };
        let cli = parse(&["--exclude-cidr", "198.18.0.0/24,fd00:c01e::/64", "--exclude-port", "53"]).expect("parse");
        assert_eq!(cli.kernel_config().exclusions.cidrs.len(), 2);
        assert_eq!(
            (cli.settings().leave_grace, cli.kernel.map_pods),
            (Duration::from_secs(3), 1024)
        );
        for bad in [
            ["--exclude-cidr", "198.18.0.0/33"],
            ["--leave-grace", "5h"],
            ["--log-format", "xml"],
            ["--dns-capture", "true"],
            ["--local-legs", "sockmap"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_nothing_uses_is_an_error() {
        for given in ["node-token", "--state-dir", "--xds-listen"] {
            assert!(
                Cli::try_parse_from(["culvert-agent", "--node", "n", given]).is_err(),
                "{given}"
            );
        }
    }
}
