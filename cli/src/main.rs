//! `culvert`: installs Culvert on a cluster, checks it, and shows what its programs know and do.
//!
//! Start at `cli`, the command line. Then a room for each subject:
//!
//! | room | subject |
//! |---|---|
//! | `install`, `uninstall` | what changes the cluster |
//! | `policy` | whom policies would refuse that are not applied yet |
//! | `waypoint` | waypoints: Gateways of our classes |
//! | `routes` | which rules hold at a Service, in order |
//! | `analyze` | what is wrong or without effect in objects |
//! | `bench` | what the mesh costs on the cluster's own nodes |
//! | `log_level` | what programs log from now on |
//! | `check`, `status` | what shows how the cluster stands; `status` also what the nodes' proxies know |
//! | `installed` | judges an installed mesh: pure functions over the survey |
//! | `survey` | the facts about an installed mesh, gathered from all nodes at once |
//! | `foreign` | policies of others that Culvert does not enforce |
//! | `local` | the same questions to the programs of one machine, without a cluster |
//! | `cluster` | reaching the API server and, through it, agents, proxies and controllers; what goes wrong on the way |
//!
//! What several rooms need stands below them: `controller` (questions to any of them), `files` (of manifests), `kinds` of the manifests' objects, `pod` (why one is not ready),
//! `failed_create`, `placement`, `line` (a finding and its remedy), `print` (answers on standard output), `progress` (on
//! standard error), `target`, `filter`, `duration`, `http`.
//!
//! Exit codes: 0 nothing is wrong, 1 something is (or did not answer), 2 wrong usage.
#![forbid(unsafe_code)]

mod analyze;
mod bench;
mod check;
mod cli;
mod cluster;
mod controller;
mod duration;
mod failed_create;
mod files;
mod filter;
mod foreign;
mod http;
mod install;
mod installed;
mod kinds;
mod line;
mod local;
mod log_level;
mod placement;
mod pod;
mod policy;
mod print;
mod progress;
mod routes;
mod status;
mod survey;
mod target;
mod uninstall;
mod waypoint;

use crate::{
    cli::{Cli, Command},
    cluster::Cluster,
    local::{connections, servers::Servers, views},
    policy::PolicyCommand,
    print::Answer,
};
use anyhow::{Result, bail};
use clap::CommandFactory;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("culvert: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run(cli: &Cli) -> Result<bool> {
    if let Command::Completion { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(
            clap_complete::Shell::from(shell),
            &mut Cli::command(),
            "culvert",
            &mut script,
        );
        return print::raw(&script).map(|()| true);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let answer = runtime.block_on(answer(cli))?;
    print::print(&answer, cli.output)?;
    Ok(answer.is_well)
}

async fn answer(cli: &Cli) -> Result<Answer> {
    if let Command::Check(flags) = &cli.command
        && flags.node_local
    {
        return Ok(check::node_local());
    }
    match &cli.command {
        Command::Routes(flags) if !flags.files.is_empty() => return routes::of_files(flags),
        Command::Analyze(flags) if flags.is_offline(&cli.target) => return analyze::of_files(flags),
        _ => {}
    }
    // What changes or judges a cluster needs one; questions fall back to this machine where no cluster is configured.
    let is_question = matches!(
        cli.command,
        Command::Status(_)
            | Command::Workloads(_)
            | Command::Services(_)
            | Command::Connections(_)
            | Command::Policy(_)
            | Command::Routes(_)
            | Command::Analyze(_)
            | Command::LogLevel(_)
    );
    if is_question && (cli.target.is_local() || !Cluster::is_configured(&cli.target)) {
        let servers = Servers::from(&cli.target);
        return match cli.command {
            Command::Workloads(ref filter) => views::workloads(&servers, filter),
            Command::Services(ref filter) => views::services(&servers, filter),
            Command::Connections(ref filter) => connections::connections(&servers, filter),
            Command::Policy(PolicyCommand::Test(ref flags)) => policy::test_locally(&servers, flags),
            Command::Routes(ref flags) => routes::of_this_machine(&servers, flags),
            Command::Analyze(ref flags) => analyze::of_this_machine(&servers, flags),
            Command::LogLevel(ref flags) => log_level::set_locally(&servers, flags),
            _ => views::status(&servers),
        };
    }
    if let Command::Install(flags) = &cli.command
        && flags.prints_alone(cli.output, &cli.target)
    {
        return install::printed_without_cluster(flags);
    }
    let cluster = Cluster::connect(&cli.target).await?;
    match &cli.command {
        Command::Install(flags) => install::run(&cluster, flags, cli.output).await,
        Command::Uninstall(flags) => uninstall::run(&cluster, flags).await,
        Command::Check(flags) => check::run(&cluster, flags).await,
        Command::Workloads(filter) => status::proxies::workloads(&cluster, filter).await,
        Command::Services(filter) => status::proxies::services(&cluster, filter).await,
        Command::Connections(filter) => status::proxies::connections(&cluster, filter).await,
        Command::Policy(PolicyCommand::Test(flags)) => policy::test(&cluster, flags).await,
        Command::Waypoint(command) => waypoint::run(&cluster, command).await,
        Command::Routes(flags) => routes::of_cluster(&cluster, flags).await,
        Command::Analyze(flags) => analyze::of_cluster(&cluster, flags).await,
        Command::Bench(flags) => bench::run(&cluster, flags).await,
        Command::LogLevel(flags) => log_level::set(&cluster, flags).await,
        Command::Status(policies) => status::run(&cluster, *policies).await,
        // Answered above, without a cluster.
        Command::Completion { .. } => bail!("a completion script needs no cluster"),
    }
}
