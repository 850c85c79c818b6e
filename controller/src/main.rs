//! `culvert-controller`: see the library for how it works.

#![forbid(unsafe_code)]

use std::{alloc::System, process::ExitCode};

use clap::Parser as _;
use culvert_controller::flags::{Cli, Command};
use culvert_controller::{clock::Clock, run};
use culvert_profile::heap::SampledAllocator;

/// Samples what is held in memory, for `/debug/pprof/heap`.
#[global_allocator]
static ALLOCATOR: SampledAllocator<System> = SampledAllocator::new(System);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::NodeToken { node, state_dir }) => print(run::node_token(&state_dir, &node)),
        Some(Command::WorkloadToken {
            pod,
            service_account,
            state_dir,
        }) => print(run::workload_token(&state_dir, &pod, &service_account)),
        None => serve(cli.serve),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("culvert-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(token: Result<std::path::PathBuf, run::RunError>) -> anyhow::Result<()> {
    println!("{}", token?.display());
    Ok(())
}

fn serve(flags: culvert_controller::flags::Serve) -> anyhow::Result<()> {
    let logging = culvert_telemetry::init("culvert-controller", flags.log_format, &flags.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run::run(flags, Clock::system(), Some(logging.clone())));
    // Tasks that hold on to a slow client are not waited for.
    runtime.shutdown_background();
    logging.flush();
    Ok(outcome?)
}
