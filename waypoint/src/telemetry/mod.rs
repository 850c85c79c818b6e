//! What is said of requests and connections: Istio's metrics, and one line of the access log for each.
//!
//! `record` is one request while it is under way; `report` is what is said of it at its end; `metrics` is what is counted, `counted` finds it again for the next request; `flags` are Envoy's
//! words for what went wrong.

mod client;
mod counted;
mod flags;
mod metrics;
mod record;
mod report;

pub use client::Client;
pub(crate) use counted::CountedIn;
pub use flags::Flags;
pub use metrics::Telemetry;
pub use record::{Record, TcpRecord};
