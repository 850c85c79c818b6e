//! Which names of a pod the mesh answers, and what: a query in, a [`Decision`] out, without I/O.
//!
//! ```text
//! bytes ── question ──> host ── candidates ── lookup in culvert_state::Mesh ──> answer ──> bytes
//!             └── nothing that the mesh can answer: the very bytes go to the pod's own resolver
//! ```
//!
//! Whatever the mesh does not answer is forwarded as it came: a library that parses a message and writes it again changes
//! it (unknown types, reserved bits, the place of OPT), and stub resolvers notice.
//!
//! Endpoints that are known by their DNS names alone are resolved for the proxy itself: [`Lookup`] is the question, and reads the
//! answer; [`Names`] asks, and remembers.
//!
//! Start reading at [`decide`]. What it takes to pass the rest on is in [`forward`], and whom a proxy asks itself in [`resolv_conf`].

#![forbid(unsafe_code)]

mod answer;
mod candidates;
mod decide;
mod decision;
pub mod forward;
mod host;
mod lookup;
mod names;
mod question;
pub mod resolv_conf;
mod resolve;

#[cfg(test)]
mod tests;

pub use decide::decide;
pub use decision::{Client, Decision, Outcome, Transport};
pub use names::{Asking, Ended, Look, NameError, NameQuery, NameView, Names, Part, Wanted};
pub use resolve::{Lookup, ResolveError, Resolved};
