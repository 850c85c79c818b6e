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
//! | [`backend_tls`] | BackendTLSPolicy |
//! | [`telemetry`] | Telemetry |
//! | [`policy`] | TrafficPolicy |
//! | [`tokens`] | RequestAuthentication |
//! | [`istio`] | VirtualService and DestinationRule |
//! | `route` | what all kinds of the Gateway API have: parents, names, rules |
//! | `matches` | which requests |
//! | `filters` | what is done with them |
//! | `external_auth` | who is asked about them |
//! | `backends` | where they go |
//! | `session` | how clients get back to the endpoint that they had |
//! | `references` | objects that are referred to |
//! | `values` | names, durations, regular expressions |

pub(crate) mod backend_tls;
mod backends;
mod external_auth;
mod filters;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod istio;
mod matches;
pub(crate) mod notes;
pub(crate) mod policy;
mod references;
mod route;
mod session;
pub(crate) mod tcp;
pub(crate) mod telemetry;
pub(crate) mod tls;
pub(crate) mod tokens;
mod values;
