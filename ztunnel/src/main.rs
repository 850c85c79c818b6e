//! `culvert-ztunnel`: the shared L4 proxy of a node.
//!
//! Two processes of one executable. The [`monitor`] keeps the pods' namespaces and listening sockets and makes sockets
//! inside them; the [`worker`] holds no privilege and handles all traffic. Inside the worker, event loops ([`engine`])
//! own sockets and bytes, and control tasks own configuration; [`seam`] is what they say to each other.
//!
//! ```text
//! agent ──> monitor ──sockets──> worker: engine (accept -> resolve -> authorize -> tunnel or app)
//!                                           ^ reads snapshots
//! controller ──xDS, certificates──> control ┘
//! ```

mod cli;
mod monitor;
mod privilege;
mod seam;
mod state;
mod telemetry;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = if cli.worker { Ok(ExitCode::SUCCESS) } else { run_monitor(&cli) };
    outcome.unwrap_or_else(|error: Box<dyn std::error::Error>| {
        tracing::error!(error, "cannot go on");
        ExitCode::FAILURE
    })
}

fn run_monitor(cli: &Cli) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(monitor::run(cli))?)
}
