//! `culvert-bench-scale`: what a change costs the controller and a node proxy, with many pods and many nodes.
//!
//! The controller is a process of its own, the real one but for where its objects come from: they are told to it as an API
//! server would tell them ([`culvert_controller::source::feed`]), JSON objects that it reads, prunes and assembles. One
//! thousand nodes follow it over gRPC and TLS, each with a connection of its own, and ask as a node proxy does.
//!
//! | file | what |
//! |---|---|
//! | `controller` | the controller's process, fed by its standard input |
//! | `subject` | that process, started, fed and measured |
//! | `world` | the objects of a cluster of so many pods |
//! | `nodes` | the nodes that follow |
//! | `proxy` | what a node proxy keeps of the mesh, as a process of its own |
//! | `measure` | the rounds |
//! | `events` | what happens in a round, and what is taken from it |
//! | `interrupt`, `descriptors` | what ends a run early, and what it needs of the machine |
//! | `outcome` | what a run came to |
//! | `growth` | how figures grow with the cluster |
//! | `targets` | what should be reached, beside what was |
//! | `usage` | CPU time and memory of a process |
//! | `pages` | the pages with plots of the growth |
//! | `memory` | tests: where the bytes are |

mod controller;
mod descriptors;
mod events;
mod growth;
mod interrupt;
mod measure;
#[cfg(test)]
mod memory;
mod nodes;
mod outcome;
mod pages;
mod proxy;
mod subject;
mod targets;
mod usage;
mod world;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "culvert-bench-scale",
    version,
    about = "Measures what a change costs the controller"
)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: measure::Options,
}

#[derive(Subcommand)]
enum Role {
    /// Be the controller, fed by standard input
    #[command(hide = true)]
    Controller(controller::Options),
    /// Be what a node proxy keeps of the mesh
    #[command(hide = true)]
    Proxy(proxy::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.role {
        Some(Role::Controller(options)) => controller::run(&options),
        Some(Role::Proxy(options)) => proxy::run(&options),
        None => measure::run(&cli.options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("culvert-bench-scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}
