//! `culvert-agent`: reads the command line; [`run`] wires the rooms of the agent together; see the library for what they do.

mod announce;
mod cli;
mod duration;
mod free_node;
mod run;
mod signals;
mod standby;

use std::{alloc::System, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use culvert_profile::heap::SampledAllocator;
use culvert_telemetry::Logging;

use crate::cli::{Cli, Command};

/// Samples what is held in memory, for `/debug/pprof/heap`.
#[global_allocator]
static ALLOCATOR: SampledAllocator<System> = SampledAllocator::new(System);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.command.is_none() && cli.node.is_empty() {
        let missing = "--node <NODE> is missing: the name of this node, as in the pods' spec.nodeName";
        Cli::command().error(ErrorKind::MissingRequiredArgument, missing).exit();
    }
    let logging = match culvert_telemetry::init("culvert-agent", cli.log_format, &cli.log) {
        Ok(logging) => logging,
        Err(error) => {
            eprintln!("culvert-agent: {error}");
            return ExitCode::from(2);
        }
    };
    match start(&cli, logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the agent ends");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli, logging: Logging) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    match &cli.command {
        None => runtime.block_on(run::run(cli, logging)),
        Some(Command::FreeNode(args)) => free_node::run(args),
        Some(Command::AnnounceRemoval(args)) => runtime.block_on(announce::run(args)),
    }
}
