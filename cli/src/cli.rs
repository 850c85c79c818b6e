//! The command line. Every flag with a value may also be given as an environment variable `CULVERT_...`.

use crate::{
    analyze::AnalyzeFlags, bench::BenchFlags, check, filter::Filter, foreign::PolicyFlags, install,
    log_level::LogLevelFlags, policy::PolicyCommand, print::Output, routes::RoutesFlags, target::Target, uninstall,
    waypoint::WaypointCommand,
};
use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    error::{Error, ErrorKind},
    parser::ValueSource,
};
use std::ffi::OsString;

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
    /// Is everything up, who is in the mesh, and what is wrong with whom? Exit code 0: nothing is wrong, 1: something is
    Status(PolicyFlags),
    /// Who is in the mesh, where, and under which identity?
    Workloads(Filter),
    /// Which address leads to which workloads?
    Services(Filter),
    /// What is open now: from whom, to whom, encrypted?
    Connections(Filter),
    /// Tries policies before they are applied
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Makes, lists and removes waypoints
    #[command(subcommand)]
    Waypoint(WaypointCommand),
    /// Which rules hold at a Service, in order, and of which object is each?
    Routes(RoutesFlags),
    /// What is wrong or without effect in the objects of the cluster, in files, or in the cluster with files applied? Exit code 1: something
    /// is an error
    Analyze(AnalyzeFlags),
    /// What does the mesh cost on this cluster? Sends loads between two nodes with and without it, in namespaces that it makes and removes
    Bench(BenchFlags),
    /// Changes what a program logs, while it runs
    LogLevel(LogLevelFlags),
    /// Prints a script that completes this command in a shell
    Completion {
        /// For which shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

impl Cli {
    /// Reads a command line. A flag on it that its subcommand does not use is an error; an environment variable is not.
    pub(crate) fn read(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, Error> {
        let mut command = Self::command();
        let matches = match command.try_get_matches_from_mut(arguments) {
            Err(error) if error.kind() == ErrorKind::InvalidUtf8 => {
                let Some(name) = not_utf8(std::env::vars_os()) else {
                    return Err(error);
                };
                let message = format!("the environment variable {name} is not UTF-8");
                return Err(command.error(ErrorKind::InvalidUtf8, message));
            }
            matches => matches?,
        };
        let cli = Self::from_arg_matches(&matches)?;
        match cli.unused(&matches).first() {
            None => Ok(cli),
            Some((flag, why)) => {
                let message = format!("--{flag} has no effect here: {why}");
                Err(command.error(ErrorKind::ArgumentConflict, message))
            }
        }
    }

    /// Flags that were given and that nothing looks at, with the reason.
    fn unused(&self, matches: &ArgMatches) -> Vec<(String, &'static str)> {
        const MACHINE: &[&str] = &["local", "ztunnel", "agent", "controller"];
        const CLUSTER: &[&str] = &["kubeconfig", "context"];
        let mut rules: Vec<(&[&str], &'static str)> = Vec::new();
        match &self.command {
            Command::Completion { .. } => {
                let why = "`completion` asks nobody and prints a script";
                rules.extend([(MACHINE, why), (CLUSTER, why), (&["output"], why)]);
            }
            Command::Install(flags) => {
                rules.push((MACHINE, "`install` is about a cluster"));
                if flags.is_printed(self.output) {
                    rules.push((
                        &["wait", "no_wait", "timeout"],
                        "manifests are printed, and nothing is waited for",
                    ));
                } else if flags.no_wait {
                    rules.push((&["timeout"], "nothing is waited for with --no-wait"));
                }
            }
            Command::Uninstall(_) => rules.push((MACHINE, "`uninstall` is about a cluster")),
            Command::Bench(_) => rules.push((MACHINE, "`bench` is about a cluster")),
            Command::Waypoint(_) => rules.push((MACHINE, "`waypoint` is about a cluster")),
            Command::Check(flags) => {
                rules.push((
                    MACHINE,
                    "`check` is about a cluster, or with --node-local about this machine as it is",
                ));
                if flags.node_local {
                    rules.push((CLUSTER, "`check --node-local` asks no cluster"));
                }
            }
            Command::Status(_)
            | Command::Workloads(_)
            | Command::Services(_)
            | Command::Connections(_)
            | Command::Policy(_)
            | Command::Routes(_)
            | Command::Analyze(_)
            | Command::LogLevel(_) => {
                let files_alone = match &self.command {
                    Command::Routes(flags) => !flags.files.is_empty(),
                    Command::Analyze(flags) => flags.offline,
                    _ => false,
                };
                if files_alone {
                    let why = "files are looked at, and nobody is asked";
                    rules.extend([(MACHINE, why), (CLUSTER, why)]);
                }
                if self.target.is_local() {
                    rules.push((CLUSTER, "the programs of this machine are asked, not a cluster"));
                    rules.push((
                        &["node", "ignore_policies"],
                        "the programs of this machine are asked, not a cluster",
                    ));
                } else {
                    rules.push((
                        &["ztunnel", "agent", "controller"],
                        "a cluster is asked, since --kubeconfig or --context names one",
                    ));
                }
                match &self.command {
                    Command::LogLevel(flags) if !flags.is_of_waypoints() => {
                        rules.push((
                            &["name", "namespace"],
                            "waypoints alone are known by name and namespace",
                        ));
                    }
                    Command::Status(_) | Command::LogLevel(_) => {}
                    Command::Connections(_) => {
                        rules.push((&["controller"], "the node's proxy and its agent are asked"))
                    }
                    Command::Policy(_) => rules.push((&["agent"], "the node's proxy and the controller are asked")),
                    Command::Routes(_) | Command::Analyze(_) => {
                        rules.push((&["agent", "ztunnel"], "the controller is asked"));
                    }
                    _ => rules.push((&["agent", "controller"], "only the node's proxy is asked")),
                }
            }
        }
        let below = matches.subcommand().map(|(_, below)| below);
        let is_given = |name: &str| {
            let levels = std::iter::once(matches).chain(below);
            let mut known = levels.filter(|level| level.try_contains_id(name).is_ok());
            known.any(|level| level.value_source(name) == Some(ValueSource::CommandLine))
        };
        let given = rules
            .into_iter()
            .flat_map(|(names, why)| names.iter().map(move |name| (*name, why)));
        given
            .filter(|(name, _)| is_given(name))
            .map(|(name, why)| (name.replace('_', "-"), why))
            .collect()
    }
}

/// The first of our environment variables whose value no flag can have.
fn not_utf8(mut variables: impl Iterator<Item = (OsString, OsString)>) -> Option<String> {
    let is_ours = |name: &str| name.starts_with("CULVERT_");
    variables.find_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| is_ours(name))?;
        value.to_str().is_none().then_some(name)
    })
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

#[cfg(test)]
mod tests {
    use super::{Cli, Command, not_utf8};
    use clap::{CommandFactory, Parser};
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

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
    fn a_flag_that_a_subcommand_does_not_use_is_an_error() {
        let read = |line: &str| Cli::read(line.split(' ')).map(|_| ());
        for line in [
            "culvert install --local",
            "culvert uninstall --agent http://127.0.0.1:1",
            "culvert check --ztunnel http://127.0.0.1:1",
            "culvert check --node-local --kubeconfig x",
            "culvert completion bash -o json",
            "culvert workloads --agent http://127.0.0.1:1",
            "culvert status --context a --agent http://127.0.0.1:1",
            "culvert workloads --local --node n",
            "culvert install --no-wait --timeout 1m",
            "culvert install --print --no-wait",
            "culvert uninstall --node-local",
            "culvert policy test -f x --agent http://127.0.0.1:1",
            "culvert log-level agent",
            "culvert log-level worker debug",
            "culvert log-level agent debug -n shop",
            "culvert log-level ztunnel debug --name edge",
            "culvert log-level agent debug --local --node n",
            "culvert policy test",
            "culvert routes",
            "culvert routes shop/web -f x --context a",
            "culvert routes shop/web --ztunnel http://127.0.0.1:1",
            "culvert analyze --offline",
            "culvert analyze -f x --offline --local",
            "culvert analyze --fail-on info",
            "culvert waypoint list --local",
            "culvert waypoint apply --timeout 1m",
            "culvert waypoint delete",
            "culvert waypoint apply --class nginx",
        ] {
            let error = read(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
        for line in [
            "culvert status --local --agent http://127.0.0.1:1",
            "culvert --context a workloads --node n -n shop",
            "culvert services --ztunnel http://127.0.0.1:1",
            "culvert log-level ztunnel info,culvert_ztunnel=debug --node n",
            "culvert log-level controller debug --local",
            "culvert log-level waypoint debug --name edge -n shop",
            "culvert install --print -o json",
            "culvert check --before --ignore-policies",
            "culvert waypoint apply edge -n shop --for all --enroll-namespace --wait --timeout 1m",
            "culvert waypoint list --context a -o json",
            "culvert routes shop/web --port 80 --from client --controller http://127.0.0.1:2",
            "culvert routes shop/web -f x -f - -o json",
            "culvert analyze",
            "culvert analyze -f x --offline -n shop --fail-on warning",
            "culvert analyze -f x --context a",
            "culvert waypoint status -n shop",
            "culvert policy test -f x -f - --ztunnel http://127.0.0.1:1 --controller http://127.0.0.1:2",
        ] {
            read(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn an_environment_variable_that_is_not_utf_8_is_found_by_name() {
        let variable = |name: &str, value: &[u8]| (OsString::from(name), OsString::from_vec(value.to_vec()));
        let of = |variables: &[(OsString, OsString)]| not_utf8(variables.iter().cloned());
        assert_eq!(of(&[variable("OTHER", b"\xff"), variable("CULVERT_NODE", b"n")]), None);
        let variables = [variable("CULVERT_NODE", b"n"), variable("CULVERT_AGENT", b"\xff")];
        assert_eq!(of(&variables).as_deref(), Some("CULVERT_AGENT"));
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
