//! Rules, ports and endpoints in Envoy's messages, as the crate `culvert_envoy` says what a waypoint is told.
//!
//! | module | what |
//! |---|---|
//! | [`routes`] | the rules of a port |
//! | `matching` | which requests a rule is for |
//! | `action` | what becomes of them |
//! | [`listener`] | all ports of a waypoint |
//! | [`cluster`] | a port as a backend |
//! | [`endpoints`] | where a backend is |
//! | [`plumbing`] | what Envoy needs beside all that, to speak HBONE |
//! | `access` | access policies |
//! | `tokens` | tokens of people |
//! | `texts` | patterns of policies |
//! | `parts` | what several have in common |

mod access;
mod action;
pub(crate) mod cluster;
pub(crate) mod endpoints;
pub(crate) mod listener;
mod matching;
mod parts;
pub(crate) mod plumbing;
pub(crate) mod routes;
mod texts;
mod tokens;
