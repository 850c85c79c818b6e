//! `culvert`: installs Culvert on a cluster, checks it, and shows what its programs know and do.
//!
//! Start at `cli`, the command line. Then a room for each subject:
//!
//! | room | subject |
//! |---|---|
//! | `cluster` | reaching the API server and, through it, agents, proxies and controllers; what goes wrong on the way |
//! | `survey` | the facts about an installed mesh, gathered from all nodes at once |
//! | `install`, `uninstall` | what changes the cluster |
//! | `check`, `status` | what judges and shows the facts: pure functions over them |
//! | `local` | the same questions to the programs of one machine, without a cluster |
//! | `print`, `progress` | answers on standard output, progress on standard error |
//!
//! Exit codes: 0 all is well, 1 something is not (or did not answer), 2 wrong usage.
#![forbid(unsafe_code)]

mod check;
mod cli;
mod cluster;
mod install;
mod local;
mod print;
mod progress;
mod status;
mod survey;
mod uninstall;

use crate::{
    cli::{Cli, Command},
    cluster::Cluster,
    local::{Servers, views},
    print::Answer,
};
use anyhow::Result;
use clap::{CommandFactory, Parser};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
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
    // What changes or judges a cluster needs one; questions fall back to this machine where no cluster is configured.
    let is_question = matches!(
        cli.command,
        Command::Status | Command::Workloads(_) | Command::Services(_) | Command::Connections(_)
    );
    if is_question && (cli.target.is_local() || !Cluster::is_configured(&cli.target)) {
        let servers = Servers::from(&cli.target);
        return match cli.command {
            Command::Workloads(_) => views::workloads(&servers),
            Command::Services(_) => views::services(&servers),
            Command::Connections(_) => views::connections(&servers),
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
        Command::Workloads(one) => status::pages::workloads(&cluster, one.node.as_deref()).await,
        Command::Services(one) => status::pages::services(&cluster, one.node.as_deref()).await,
        Command::Connections(one) => status::pages::connections(&cluster, one.node.as_deref()).await,
        _ => status::run(&cluster).await,
    }
}
