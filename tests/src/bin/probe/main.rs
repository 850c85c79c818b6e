//! `probe`: the applications that end-to-end tests run inside pods.
//!
//! Ordinary programs know few of the ways to make a connection; this one knows them all, and checks every byte. `serve` is
//! the server, `dial` one client with one way of connecting, `storm` makes new connections without pause, `hold` keeps some
//! open and in use, `garbage` sends what no protocol allows. Clients print their findings as one line of JSON.

mod connect;
mod crowd;
mod garbage;
mod pattern;
mod ring;
mod serve;
mod session;

use clap::{Parser, Subcommand};
use std::{net::SocketAddr, process::ExitCode};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Listen, and answer every session; prints `listening`, then one JSON line per finished transfer
    Serve {
        /// Where to listen; `[::]:PORT` takes IPv4, too
        #[arg(long)]
        listen: Vec<SocketAddr>,
        /// Listen with MPTCP
        #[arg(long)]
        mptcp: bool,
    },
    /// Connect once and hold one session
    Dial(session::Dial),
    /// New connections without pause, until SIGTERM; then prints what happened
    Storm(crowd::Crowd),
    /// Open connections that are used without pause, until SIGTERM; then prints what happened
    Hold(crowd::Crowd),
    /// Connections that carry garbage
    Garbage(garbage::Garbage),
}

fn main() -> ExitCode {
    let done = match Cli::parse().role {
        Role::Serve { listen, mptcp } => serve::run(&listen, mptcp),
        Role::Dial(dial) => session::run(&dial),
        Role::Storm(crowd) => crowd::storm(&crowd),
        Role::Hold(crowd) => crowd::hold(&crowd),
        Role::Garbage(garbage) => garbage::run(&garbage),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}
