//! Rules, ports and endpoints in Envoy's messages, as the crate `culvert_envoy` says what a waypoint is told.
//!
//! | module | what |
//! |---|---|
//! | [`routes`] | the rules of a port |
//! | `matching` | which requests a rule is for |
//! | `action` | what becomes of them |
//! | `retry` | when they are tried again, and by what of them an endpoint is chosen |
//! | `filters` | what rules say to filters |
//! | `external_auth` | who is asked by a rule |
//! | [`port`] | a port of a waypoint |
//! | [`listener`] | all ports of a waypoint |
//! | `manager` | what reads the requests to a port |
//! | [`direct`] | their endpoints, for whoever dials one by its own address |
//! | [`cluster`] | a port as a backend |
//! | `traffic` | what holds for connections to it |
//! | `spoken` | what is spoken inside of them before anything else: the PROXY protocol, TLS |
//! | `backend_tls` | TLS |
//! | [`endpoints`] | where a backend is |
//! | [`plumbing`] | what Envoy needs beside all that, to speak HBONE |
//! | `access` | access policies |
//! | `checks` | services that are asked about requests |
//! | `tokens` | tokens of people |
//! | [`telemetry`] | traces and access logs |
//! | `texts` | patterns of policies |
//! | `policy` | what TrafficPolicies ask of a port |
//! | `local_limit` | limits that each waypoint counts by itself |
//! | `global_limit` | limits that a service counts |
//! | `health_check` | active health checks |
//! | `compression` | compression of answers |
//! | `descriptors` | what of a request rate limits go by |
//! | `parts` | what several have in common |

mod access;
mod action;
mod backend_tls;
mod checks;
pub(crate) mod cluster;
mod compression;
mod descriptors;
pub(crate) mod direct;
pub(crate) mod endpoints;
mod external_auth;
mod filters;
mod global_limit;
mod health_check;
pub(crate) mod listener;
mod local_limit;
mod manager;
mod matching;
mod parts;
pub(crate) mod plumbing;
mod policy;
pub(crate) mod port;
mod retry;
pub(crate) mod routes;
mod spoken;
pub(crate) mod telemetry;
mod texts;
mod tokens;
mod traffic;
