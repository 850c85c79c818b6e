//! What waypoints are told: a second round of derivation, which reads what the first has made (Services and Workloads, through
//! [`Reader`](super::Reader)) beside objects.
//!
//! | module | unit |
//! |---|---|
//! | [`waypoint`] | a Gateway: its listeners, and what Envoy needs to speak HBONE |
//! | [`routes`] | a Service: the rules of its ports, for the waypoint that it is behind |
//! | [`backend`] | a Service: its ports as backends, and where they are, for each waypoint that may send requests there |
//! | [`findings`] | a route object: what is wrong with it |
//! | [`explain`] | a Service: its rules, for people |
//! | `direct` | the endpoints of a Service by their own addresses, for Envoy |
//! | `access` | which policies decide about a Service |
//! | [`policies`] | a policy for waypoints: what is wrong with it |
//! | `route` | what a route object says |
//! | `ports` | the ports of a Service |
//! | `attached` | which routes a Service has |
//! | `hosts` | which VirtualService and DestinationRule a Service has |
//! | `hashes` | by what of requests endpoints are chosen |
//! | `labelled` | the labels of endpoints |
//! | `providers` | what providers of the mesh's configuration lead to |
//! | `proxy_config` | what a Gateway asks of its proxy |
//! | `resolver` | what backends of a route lead to |
//! | [`status`] | the conditions of a route object |
//! | `telemetry` | what is logged and traced of a Service's requests |
//! | `scope` | which waypoint a Service is behind |
//! | `behind` | the Services behind each waypoint, as the first round made them |

mod access;
mod attached;
pub(super) mod backend;
pub(super) mod behind;
mod direct;
pub(super) mod explain;
pub(super) mod findings;
mod hashes;
mod hosts;
mod labelled;
pub(super) mod policies;
mod ports;
mod providers;
mod proxy_config;
mod resolver;
mod route;
pub(super) mod routes;
pub(super) mod scope;
pub(super) mod status;
mod telemetry;
pub(super) mod waypoint;
