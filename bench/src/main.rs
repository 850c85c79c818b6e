//! `culvert-bench`: what a mesh costs, measured.
//!
//! The same program is three things. `serve` and `load` are the applications at the two ends (`http` those of HTTP, `resolver` that of DNS): one
//! thread each, on epoll, with no Culvert crate between them and the kernel, so that they cost little and the same in every mode. `run` builds
//! the nodes and pods, starts each mode's proxies, sends the loads through them in turns, and reads what the proxies cost
//! from `/proc`. `cargo xtask bench` builds everything and calls `run`. Start reading at `run/mod.rs`; what it leaves behind is in
//! `record`, and `report` shows that.
//!
//! `waypoint` measures the waypoint beside Envoy: see `waypoint/mod.rs`.
//!
//! `cluster` is another measurement, of events on a real Kubernetes cluster: see `cluster/mod.rs`.
#![forbid(unsafe_code)]

mod cluster;
mod http;
mod load;
mod poll;
mod protocol;
mod record;
mod report;
mod resolver;
mod run;
mod serve;
mod usage;
mod waypoint;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "culvert-bench",
    version,
    about = "Measures what carrying traffic costs, with and without a mesh"
)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Be the server application, until killed
    Serve(serve::Options),
    /// Be the client application for one load, and print its figures as JSON lines
    Load(load::Options),
    /// Measure modes in turns (needs root)
    Run(run::Options),
    /// Show a run again that a report has kept
    Report(report::Options),
    /// Be the server of HTTP, until killed
    HttpServe(http::ServeOptions),
    /// Be the client of HTTP for one load, and print its figures as JSON lines
    HttpLoad(http::LoadOptions),
    /// Measure the waypoint beside Envoy (needs root)
    Waypoint(waypoint::Options),
    /// Measure what events do to traffic, on a Kubernetes cluster made for it (needs root)
    Cluster(cluster::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().role {
        Role::Serve(options) => serve::run(&options),
        Role::Load(options) => load::run(&options),
        Role::Run(options) => run::run(&options),
        Role::Report(options) => report::again(&options),
        Role::HttpServe(options) => http::serve(&options),
        Role::HttpLoad(options) => http::load(&options),
        Role::Waypoint(options) => waypoint::run(&options),
        Role::Cluster(options) => cluster::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("culvert-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
