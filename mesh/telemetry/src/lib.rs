//! How Culvert's programs tell what they do: logs, and the pages that they serve over HTTP.
//!
//! Every program flattens [`LogArgs`] into its command line, calls [`LogArgs::init`] first thing in `main`, and serves a
//! [`Pages`] on its admin, metrics and readiness ports. Metrics live in a `prometheus_client` registry of the program's
//! own and are rendered by [`Page::metrics`].

#![forbid(unsafe_code)]

mod log;
mod page;
mod serve;

pub use log::{LogArgs, LogControl, LogError, LogFormat};
pub use page::{Page, Pages, Query};
pub use serve::serve;
