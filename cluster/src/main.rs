//! `culvert-cluster`: a real Kubernetes cluster on one machine.

mod cli;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("culvert-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}
