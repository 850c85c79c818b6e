//! `probe`: the applications that end-to-end tests run inside pods.
//!
//! Ordinary programs know few of the ways to make a connection; this one knows them all, and checks every byte. `serve` is
//! the server, `dial` one client with one way of connecting, `storm` makes new connections without pause, `hold` keeps some
//! open and in use, `time` measures them, `garbage` sends what no protocol allows. Clients print their findings as one line of JSON.
//!
//! In clusters, where a program has nobody beside it to tell it what to do, `answer` is the server, `ask` asks it once, at the moment
//! it starts, and `load` asks it at a fixed rate until it is told to end.

mod answer;
mod ask;
mod connect;
mod crowd;
mod garbage;
mod load;
mod many;
mod pattern;
mod ring;
mod serve;
mod session;
mod time;

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
    /// Connections that are timed, until so many are done
    Time(time::Time),
    /// As many connections as descriptors allow, to `reflect`
    Many(many::Many),
    /// Send back what comes, on as many connections as descriptors allow
    Reflect(many::Reflect),
    /// Connections that carry garbage
    Garbage(garbage::Garbage),
    /// Serve HTTP, a protocol in which the server speaks first, and gRPC's health check
    Answer(answer::Answer),
    /// Ask `answer` once, now; prints what came of it
    Ask(ask::Ask),
    /// Ask `answer` at a fixed rate, on new and on open connections, until SIGTERM
    Load(load::Load),
}

fn main() -> ExitCode {
    let done = match Cli::parse().role {
        Role::Serve { listen, mptcp } => serve::run(&listen, mptcp),
        Role::Dial(dial) => session::run(&dial),
        Role::Storm(crowd) => crowd::storm(&crowd),
        Role::Hold(crowd) => crowd::hold(&crowd),
        Role::Time(options) => time::run(&options),
        Role::Many(options) => many::many(&options),
        Role::Reflect(options) => many::reflect(&options),
        Role::Garbage(garbage) => garbage::run(&garbage),
        Role::Answer(answer) => answer::run(&answer),
        Role::Ask(ask) => ask::run(&ask),
        Role::Load(load) => load::run(&load),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}
