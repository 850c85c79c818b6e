//! `culvert-waypoint`: see the library of this crate.

use std::{error::Error as _, process::ExitCode};

use clap::Parser as _;
use culvert_profile::heap::SampledAllocator;
use culvert_waypoint::{cli::Cli, run::run};
use mimalloc::MiMalloc;

/// A request makes and frees memory for tasks and buffers of a few KiB, with which the C library's allocator is slow. Samples are for
/// `/debug/pprof/heap`.
#[global_allocator]
static ALLOCATOR: SampledAllocator<MiMalloc> = SampledAllocator::new(MiMalloc);

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before anything else: a thread keeps what it had when it started, and logging starts one.
    if let Err(error) = culvert_net::privilege::drop_all(None) {
        eprintln!("culvert-waypoint: {error}");
        return ExitCode::FAILURE;
    }
    let logging = match culvert_telemetry::init("culvert-waypoint", cli.log_format, &cli.log) {
        Ok(logging) => logging,
        Err(error) => {
            eprintln!("culvert-waypoint: {error}");
            return ExitCode::from(2);
        }
    };
    let code = run(&cli, logging.clone()).unwrap_or_else(|error| {
        tracing::error!(%error, cause = error.source().map(tracing::field::display), "cannot go on");
        ExitCode::FAILURE
    });
    logging.flush();
    code
}
