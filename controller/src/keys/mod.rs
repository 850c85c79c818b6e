//! Keys of token issuers, fetched here once for all waypoints, which get them inline.
//!
//! ```text
//! objects ──> model ──wanted sources──> keeper ──GET──> issuers
//!               └───────fetched keys───────┘
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`keeper`] | a task for each source: fetches, and again |
//! | `fetch` | one fetch, bounded in time and size |
//! | `client` | HTTP, and HTTPS by the system's roots or named ones |
//!
//! What holds: before the first fetch every token of the issuer is refused; afterwards the last good keys stay, and a finding says
//! since when they are old and why.

pub(crate) mod client;
mod fetch;
pub(crate) mod keeper;

#[cfg(test)]
mod tests;
