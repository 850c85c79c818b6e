//! Istio's kinds of routing: a VirtualService becomes rules, a DestinationRule what holds for connections. A rule with something in it that
//! cannot be served answers with 500 and is noted, by its field; the rest of the object holds.
//!
//! | module | what |
//! |---|---|
//! | [`virtual_service`] | VirtualService as a whole, and who sees it |
//! | `http` | a rule for requests |
//! | `delegate` | a rule that leaves the rest to another VirtualService |
//! | `matches` | which requests |
//! | `parts` | what a rule does with them: faults, retries, CORS, headers |
//! | `connections` | what rules for connections have in common |
//! | `tcp` | rules for connections |
//! | `tls` | rules for connections of TLS, by name |
//! | [`destination`] | what routes lead to |
//! | [`destination_rule`] | DestinationRule |
//! | `traffic_spec`, `traffic` | its policies of traffic: as they are written, and what holds |
//! | `locality` | which endpoints come first |
//! | `client_tls` | TLS towards endpoints in them |
//! | `values` | durations, shares, texts |

mod client_tls;
mod connections;
mod delegate;
pub(crate) mod destination;
pub(crate) mod destination_rule;
mod http;
mod locality;
mod matches;
mod parts;
mod tcp;
mod tls;
mod traffic;
mod traffic_spec;
mod values;
pub(crate) mod virtual_service;
