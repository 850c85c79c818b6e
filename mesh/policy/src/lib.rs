//! Who may connect: authorization policies at layer 4, without I/O.
//!
//! A [`Policy`] is made from its wire form once, by [`Policy::from_proto`], which refuses what it cannot express instead
//! of leaving it out: a DENY that loses a condition is too wide, an ALLOW that loses one lets strangers in. [`evaluate`]
//! then asks the policies that bind a workload about one [`Connection`]:
//!
//! 1. a DENY policy that matches refuses, whatever else there is;
//! 2. without an ALLOW policy, the connection may pass;
//! 3. with one or more, one of them must match.
//!
//! Within a policy, rules are OR, the clauses of a rule AND, the matches of a clause OR, the fields of a match AND, the
//! values of a field OR. A policy without rules matches nothing, a rule without clauses matches everything, and a match
//! without a single condition matches nothing (which is what Istio's control plane sends for a rule that needs layer 7).
//!
//! Policies that are tried out and policies that audit decide nothing; [`remarks`] has what they say.
//!
//! Policies that are made with one [`Shared`] share what they have in common.
//!
//! Which policies bind a workload is the caller's to say; see [`Policy::scope`]. Start reading at [`evaluate`]. [`Strictness`] tells
//! which ports they keep from everybody who has no certificate.

#![forbid(unsafe_code)]

/// The name of the extension of `Authorization` by which a policy audits: it is sent as a DENY policy that is a dry run, so that whoever
/// does not know the extension does not enforce it.
pub const AUDIT: &str = "culvert.dev/audit";

mod callers;
mod compared;
mod connection;
mod evaluate;
pub mod istio;
mod parse;
mod policy;
mod rule;
mod shared;
mod strictness;

#[cfg(test)]
mod tests;

pub use connection::Connection;
pub use evaluate::{Remarks, Trial, Verdict, evaluate, remarks};
pub use parse::PolicyError;
pub use policy::{Action, Policy, Purpose, Scope};
pub use shared::Shared;
pub use strictness::Strictness;
