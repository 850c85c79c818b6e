//! `culvert-waypoint`: will be Culvert's layer-7 proxy; there is nothing to run yet.
//!
//! A waypoint is the proxy that a namespace asks for with `culvert.dev/use-waypoint: NAME`: the node proxies send it the
//! namespace's traffic through the tunnel, it works on HTTP requests (authenticate, authorize, limit, rewrite, route,
//! balance) and opens a tunnel to the workload it chose, with an identity of its own. The same program will be the ingress
//! and the egress gateway. It is configured over Envoy's v3 xDS, so that it and Envoy can stand in for one another.

use clap::Parser;
use std::process::ExitCode;

/// Culvert's layer-7 proxy, ingress and egress gateway: not built yet.
#[derive(Parser)]
#[command(name = "culvert-waypoint", version)]
struct Cli {}

fn main() -> ExitCode {
    let Cli {} = Cli::parse();
    eprintln!(
        "culvert-waypoint: the layer-7 proxy is not built yet, so this program refuses to run rather than pass traffic \
         unexamined.\nLayer 4 (mutual TLS, authorization by identity) needs no waypoint; see docs/ for what works today."
    );
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser as _};

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_nothing_uses_is_an_error() {
        for given in ["node-token", "--state-dir", "--log"] {
            assert!(Cli::try_parse_from(["culvert-waypoint", given]).is_err(), "{given}");
        }
    }
}
