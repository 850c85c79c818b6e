//! `culvert`: shows what the programs of a node, and the controller, know and do.
//!
//! It asks their admin servers (`http`), picks what people want to see (`views`) and prints it as a table or as JSON
//! (`print`). It changes nothing. Exit codes: 0 all is well, 1 something is not (or did not answer), 2 wrong usage.
#![forbid(unsafe_code)]

mod http;
mod print;
mod views;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::process::ExitCode;

/// Shows what Culvert knows and does on this node.
#[derive(Parser)]
#[command(name = "culvert", version)]
struct Cli {
    #[command(subcommand)]
    question: Question,
    #[command(flatten)]
    servers: Servers,
    /// How to print
    #[arg(long, short, global = true, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Subcommand)]
enum Question {
    /// Is everything up, which pods are enrolled, and what is wrong with the configuration?
    Status,
    /// Who is in the mesh, where, and under which identity?
    Workloads,
    /// Which address leads to which workloads?
    Services,
    /// What is open now: from whom, to whom, encrypted?
    Connections,
}

/// Whom to ask.
#[derive(Args)]
struct Servers {
    /// The node proxy's admin server
    #[arg(
        long,
        global = true,
        env = "CULVERT_ZTUNNEL",
        default_value = "http://127.0.0.1:15000"
    )]
    ztunnel: http::Server,
    /// The node agent's admin server
    #[arg(long, global = true, env = "CULVERT_AGENT", default_value = "http://127.0.0.1:15022")]
    agent: http::Server,
    /// The controller's admin server [default: http://127.0.0.1:15014, where it may be absent]
    #[arg(long, global = true, env = "CULVERT_CONTROLLER_ADMIN")]
    controller: Option<http::Server>,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let answered = match cli.question {
        Question::Status => views::status(&cli.servers),
        Question::Workloads => views::workloads(&cli.servers),
        Question::Services => views::services(&cli.servers),
        Question::Connections => views::connections(&cli.servers),
    };
    let printed = answered.and_then(|answer| print::print(&answer, cli.output).map(|()| answer.is_well));
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("culvert: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
