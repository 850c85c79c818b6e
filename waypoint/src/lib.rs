//! `culvert-waypoint`: the layer-7 proxy of services that ask for one.
//!
//! Node proxies open tunnels to it; inside of each, a client asks for the address and port of a service. The waypoint reads HTTP,
//! decides about each request, and sends it through a tunnel to the endpoint that it chose, with an identity of its own.
//!
//! ```text
//! controller ──ADS──> config ──> state::Store ──> Snapshot (arc-swap)
//!                                                    │ read by each request
//! clients ══HBONE══> serve ──────────────────────────┴──> upstream ══HBONE══> endpoints
//!                      └──> telemetry
//! ```
//!
//! | module | what |
//! |---|---|
//! | `config` | from Envoy's messages to values; refuses what is not served |
//! | `cluster`, `endpoint` | what is served, ready to be asked |
//! | `dialled` | endpoints that clients dialled themselves |
//! | `names` | endpoints that are DNS names |
//! | `endpoint_tls` | TLS that endpoints speak themselves: our end of it |
//! | `load` | what is under way to a cluster, and what is too much |
//! | `state` | all of it at one moment |
//! | `serve` | the way of a connection and of a request |
//! | `headers`, `messages`, `body`, `answer`, `compress`, `limits`, `stall` | what a request and its answer are made of |
//! | `upstream` | connections to endpoints |
//! | `health` | active health checks |
//! | `telemetry` | metrics and the access log |
//! | `gauges` | metrics of what is there at the moment |
//! | `cli`, `run`, `pages`, `subscriber` | the program: flags, threads, what it shows of itself, what it asks the controller for |
//!
//! Each thread has a listener, a runtime and connections of its own; threads share snapshots and counters.

#![forbid(unsafe_code)]

pub mod answer;
pub mod body;
mod busy;
pub mod cli;
pub mod cluster;
mod compress;
pub mod config;
mod counted;
mod dialled;
pub mod endpoint;
pub mod endpoint_tls;
mod gauges;
pub mod headers;
mod health;
mod limits;
mod load;
pub mod memory;
mod messages;
pub mod names;
mod pages;
mod path;
pub mod run;
pub mod run_error;
pub mod serve;
mod silence;
mod stall;
pub mod state;
pub mod subscriber;
pub mod telemetry;
pub mod upstream;

/// An error with its causes on one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors say their causes themselves.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
