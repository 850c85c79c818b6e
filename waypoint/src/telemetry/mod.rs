//! What is said of requests and connections: Istio's metrics, and one line of the access log for each.
//!
//! `observed` is what is remembered of a request for the lines and spans that the configuration asks for; `spans` brings spans to receivers.
//! `conclude` makes both at the end. `record` is one request while it is under way; `report` is what is said of it at its end; `metrics` is what is counted, in series
//! that go by themselves (`expiring`), and `counted` finds them again for the next request; `overload` are the limits beyond which something is refused; `tcp` is one connection; `remarks` is what policies say that decides nothing; `flags` are Envoy's words for what went wrong.

mod client;
mod conclude;
mod counted;
mod expiring;
mod flags;
mod metrics;
mod observed;
mod overload;
mod record;
mod remarks;
mod report;
mod spans;
mod tcp;

pub use client::Client;
pub(crate) use counted::CountedIn;
pub use flags::Flags;
pub use metrics::Telemetry;
pub use observed::{Observed, SeenHeads};
pub(crate) use overload::Limit;
pub use record::Record;
pub use spans::Spans;
pub use tcp::{TcpLogs, TcpRecord};
