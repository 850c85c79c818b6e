//! How programs tell what they do: logs, metrics, and the small HTTP server that shows both.
//!
//! | module | what |
//! |---|---|
//! | [`logs`](init) | `tracing` to standard error, as text or JSON, its filter changeable at run time |
//! | [`tcp`] | connection metrics under Istio's names and labels, whose series expire |
//! | `cpu` | the process's own time on processors as a metric ([`register_cpu_time`]) |
//! | `profiles` | CPU profiles over HTTP ([`Routes::profiles`]) |
//! | [`names`] | a bound on the series of metrics that have names as labels |
//! | `process` | the log filter and the end of the process over HTTP ([`Routes::logging`], [`Routes::quit`]) |
//! | [`server`](serve) | admin pages, metrics and readiness over HTTP; [`Routes`] says which page answers what, [`Listeners`] where |
//!
//! Access logs are `tracing` events under the target [`ACCESS`]; `access_json` gives them their form, and a thread of their own writes them, since a slow
//! reader of the log must not hold up traffic.

#![forbid(unsafe_code)]

mod access_json;
mod buffer;
mod connections;
mod cpu;
mod lines;
mod listeners;
mod logs;
mod metrics;
pub mod names;
mod process;
mod profiles;
mod routes;
mod server;
#[cfg(test)]
mod sink;
pub mod tcp;

#[cfg(test)]
mod tests;

pub use access_json::ACCESS;
pub use cpu::register_cpu_time;
pub use http::StatusCode;
pub use lines::AccessLines;
pub use listeners::{ListenError, Listeners};
pub use logs::{LogFormat, Logging, TelemetryError, init};
pub use prometheus_client as prometheus;
pub use routes::{Request, Response, Routes};
pub use server::serve;
