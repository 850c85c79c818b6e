//! `culvert-ztunnel`: the shared L4 proxy of a node.
//!
//! Two processes of one executable. The [`monitor`] keeps the pods' namespaces and listening sockets and makes sockets
//! inside them; the [`worker`] holds no privilege and handles all traffic. Inside the worker, event loops ([`engine`])
//! own sockets and bytes, and control (`culvert_control`) owns configuration; [`seam`] is what reaches the loops.
//!
//! ```text
//! agent ──> monitor ──sockets──> worker: engine (accept -> resolve -> authorize -> tunnel or app)
//!                                           ^ reads snapshots
//! controller ──xDS, certificates──> control ┘
//! ```

mod admin;
mod cli;
mod descriptors;
mod engine;
mod memory;
mod monitor;
mod names;
mod readiness;
mod seam;
mod telemetry;
mod wire;
mod worker;

use std::{alloc::System, error::Error, process::ExitCode};

use clap::Parser as _;
use culvert_net::{heap, privilege};
use culvert_profile::heap::SampledAllocator;

use crate::cli::Cli;

/// Samples what is held in memory, for `/debug/pprof/heap`.
#[global_allocator]
static ALLOCATOR: SampledAllocator<System> = SampledAllocator::new(System);

fn main() -> ExitCode {
    heap::keep_small();
    let cli = Cli::parse();
    // Before anything else of the worker: a thread keeps what it had when it started, and logging starts one.
    let held = match cli
        .worker
        .then(|| privilege::drop_all(Some(cli.worker_user)))
        .transpose()
    {
        Ok(held) => held,
        Err(error) => {
            eprintln!("culvert-ztunnel: {error}");
            return ExitCode::FAILURE;
        }
    };
    let logging = match culvert_telemetry::init("culvert-ztunnel", cli.log_format, &cli.log) {
        Ok(logging) => logging,
        Err(error) => {
            eprintln!("culvert-ztunnel: {error}");
            return ExitCode::from(2);
        }
    };
    let outcome = match held {
        Some(held) => worker::run(&cli, held, logging.clone()).map_err(Into::into),
        None => run_monitor(&cli),
    };
    let code = outcome.unwrap_or_else(|error: Box<dyn Error>| {
        let cause = error.source().map(tracing::field::display);
        tracing::error!(%error, cause, "cannot go on");
        ExitCode::FAILURE
    });
    logging.flush();
    code
}

fn run_monitor(cli: &Cli) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(monitor::run(cli))?)
}
