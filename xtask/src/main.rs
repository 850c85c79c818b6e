//! `cargo xtask`: the chores of this repository, each of which does its own set-up.
//!
//! One file per chore (`ebpf`, `demo`, `test`, `bench`); what they share is in `setup` (packages and tools that a chore
//! needs) and `shell` (running programs and saying what runs). Start reading at the chore that you are interested in.

mod ahead;
mod bench;
mod check;
mod cluster;
mod conformance;
mod crds;
mod demo;
#[cfg(test)]
mod documented_tests;
mod ebpf;
mod envoy;
mod fuzz;
mod image;
mod imports;
mod installed;
mod setup;
mod shell;
mod test;
mod zipkin;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Chores of the Culvert repository"
)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build the kernel programs, installing their compiler and linker first where they are missing
    BuildEbpf(ebpf::Options),
    /// Make container images of everything that runs in a cluster
    Image(image::Options),
    /// Run the bookstore on two nodes of this machine, before and after its namespace joins the mesh
    Demo(demo::Options),
    /// Check imports, format and lints, and that the fuzz targets compile
    Check,
    /// Build everything, check it, and run every test, end-to-end tests included
    Test(test::Options),
    /// Look for imports that form a circle, and for programs that import each other
    Imports,
    /// A real Kubernetes cluster on this machine: up, down, status, shell
    Cluster(cluster::Options),
    /// Run the Gateway API's own conformance suite against the mesh on a cluster of its own
    Conformance(conformance::Options),
    /// Fetch the CRDs of Istio and of the Gateway API, which a test compares with what Culvert knows of them
    Crds,
    /// Build the fuzz targets, and let each run for a while
    Fuzz(fuzz::Options),
    /// Measure no mesh, Culvert and two Envoy sidecars in turns, and print what each costs
    Bench(bench::Options),
}

fn main() -> ExitCode {
    if let Err(error) = shell::survive_interrupts() {
        eprintln!("xtask: cannot handle signals: {error:#}");
        return ExitCode::FAILURE;
    }
    let done = match Cli::parse().chore {
        Chore::BuildEbpf(options) => ebpf::run(&options),
        Chore::Image(options) => image::run(&options),
        Chore::Demo(options) => demo::run(&options),
        Chore::Test(options) => match test::run(&options) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Chore::Check => check::run(),
        Chore::Imports => imports::check(),
        Chore::Cluster(options) => cluster::run(&options),
        Chore::Conformance(options) => conformance::run(&options),
        Chore::Crds => crds::ensure(),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Bench(options) => bench::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
