//! The command line. Every flag with a value may also be given as an environment variable `CULVERT_...`.

use crate::{check, install, local::http::Server, uninstall};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// Installs Culvert on a cluster, checks it, and shows what it knows and does.
///
/// With a kubeconfig (or within a cluster) every question is about the cluster. With --local, or when --ztunnel or --agent
/// names a server, it is about the programs of one machine.
#[derive(Debug, Parser)]
#[command(name = "culvert", version, infer_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) target: Target,
    /// How to print
    #[arg(long, short, global = true, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Puts Culvert on the cluster, or brings what is there to this version
    Install(install::Flags),
    /// Takes every pod out of the mesh, gently, then removes Culvert from the cluster
    Uninstall(uninstall::Flags),
    /// Is everything as it must be? Every line that is not comes with a remedy
    Check(check::Flags),
    /// Is everything up, who is in the mesh, and what is wrong with whom?
    Status,
    /// Who is in the mesh, where, and under which identity?
    Workloads(OneNode),
    /// Which address leads to which workloads?
    Services(OneNode),
    /// What is open now: from whom, to whom, encrypted?
    Connections(OneNode),
    /// Prints a script that completes this command in a shell
    Completion {
        /// For which shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Chooses one node of the cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct OneNode {
    /// Ask this node alone [default: all nodes]
    #[arg(long, env = "CULVERT_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,
}

/// Whom to ask.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Target {
    /// The file that says how to reach the cluster [default: KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Whom to ask")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to use [default: its current one]
    #[arg(
        long,
        global = true,
        env = "CULVERT_CONTEXT",
        value_name = "NAME",
        help_heading = "Whom to ask"
    )]
    pub(crate) context: Option<String>,
    /// Ask the programs of this machine, not a cluster
    #[arg(long, global = true, help_heading = "Whom to ask")]
    pub(crate) local: bool,
    /// A node proxy's admin server; implies --local [default: http://127.0.0.1:15000]
    #[arg(long, global = true, env = "CULVERT_ZTUNNEL", help_heading = "Whom to ask")]
    pub(crate) ztunnel: Option<Server>,
    /// A node agent's admin server; implies --local [default: http://127.0.0.1:15022]
    #[arg(long, global = true, env = "CULVERT_AGENT", help_heading = "Whom to ask")]
    pub(crate) agent: Option<Server>,
    /// The controller's admin server, with --local [default: http://127.0.0.1:15014, where it may be absent]
    #[arg(long, global = true, env = "CULVERT_CONTROLLER_ADMIN", help_heading = "Whom to ask")]
    pub(crate) controller: Option<Server>,
}

impl Target {
    /// Whether the flags alone say that this machine is meant.
    pub(crate) fn is_local(&self) -> bool {
        let names_a_server = self.ztunnel.is_some() || self.agent.is_some() || self.controller.is_some();
        let names_a_cluster = self.kubeconfig.is_some() || self.context.is_some();
        self.local || (names_a_server && !names_a_cluster)
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// For programs, and for `kubectl apply`
    Yaml,
}

/// Shells that can be told how to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
        }
    }
}

/// Reads a time such as `10m`, `90s` or `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        // More than a year is a slip of the finger, and would overflow moments.
        Ok(time) if time <= Duration::from_secs(366 * 24 * 3600) => Ok(time),
        Ok(_) => Err(format!("`{text}` is longer than a year")),
        Err(error) => Err(format!("`{text}` is not a time such as 10m, 90s or 1h30m: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, Command, duration};
    use clap::{CommandFactory, Parser};
    use std::time::Duration;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_named_server_means_this_machine_unless_a_cluster_is_named_too() {
        let local = |arguments: &[&str]| {
            let all = ["culvert", "status"].iter().chain(arguments);
            Cli::try_parse_from(all).unwrap().target.is_local()
        };
        assert!(local(&["--local"]));
        assert!(local(&["--ztunnel", "http://127.0.0.1:1"]));
        assert!(!local(&[]));
        assert!(!local(&["--agent", "http://127.0.0.1:1", "--context", "a"]));
    }

    #[test]
    fn times_are_read_and_nonsense_is_refused() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "10", "m", "1q", "-1s", "99999999999999999999s", "99999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn completion_knows_three_shells() {
        for shell in ["bash", "zsh", "fish"] {
            let cli = Cli::try_parse_from(["culvert", "completion", shell]).unwrap();
            assert!(matches!(cli.command, Command::Completion { .. }));
        }
        assert!(Cli::try_parse_from(["culvert", "completion", "tcsh"]).is_err());
    }
}
