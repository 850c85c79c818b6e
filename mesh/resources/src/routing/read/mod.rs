//! Routes of the Gateway API, and Istio's, become rules. A rule with something in it that cannot be served answers with 500 and is noted, by its
//! field; the rest of the object holds. An object that cannot be read as a whole has no rules.
//!
//! | module | what |
//! |---|---|
//! | [`notes`] | what could not be served, and what references lead to |
//! | [`http`] | HTTPRoute |
//! | [`grpc`] | GRPCRoute |
//! | [`tcp`] | TCPRoute |
//! | [`tls`] | TLSRoute |
//! | [`telemetry`], [`metrics`] | Telemetry |
//! | [`tokens`] | RequestAuthentication |
//! | [`istio`] | VirtualService and DestinationRule |
//! | `matches` | which requests |
//! | `filters` | what is done with them |
//! | `backends` | where they go |
//! | `session` | how clients get back to the endpoint that they had |
//! | `references` | objects that are referred to |
//! | `values` | names, durations, regular expressions |

mod backends;
mod filters;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod istio;
mod matches;
pub(crate) mod metrics;
pub(crate) mod notes;
mod references;
mod session;
pub(crate) mod tcp;
pub(crate) mod telemetry;
pub(crate) mod tls;
pub(crate) mod tokens;
mod values;
