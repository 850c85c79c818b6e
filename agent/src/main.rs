//! `culvert-agent`: reads the command line; [`run`] wires the rooms of the agent together; see the library for what they do.

mod cli;
mod run;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = culvert_telemetry::init("culvert-agent", cli.log_format, &cli.log) {
        eprintln!("culvert-agent: {error}");
        return ExitCode::from(2);
    }
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the agent ends");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(run::run(cli))
}
