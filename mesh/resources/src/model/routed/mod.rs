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
//! | [`in_force`] | policies that hold at a port, for people |
//! | [`tls_policy`] | a BackendTLSPolicy: what is wrong with it, and what it comes to |
//! | `direct` | the endpoints of a Service by their own addresses, for Envoy |
//! | `pods` | pods that ask for a waypoint by themselves, at their own addresses |
//! | `access` | which policies decide about a Service |
//! | [`policies`] | a policy for waypoints: what is wrong with it |
//! | `route` | what a route object says |
//! | `ports` | the ports of a Service |
//! | `discovery` | how the endpoints of a Service are found |
//! | `reached` | rules that get no request |
//! | `frontend` | what routes may be for: Services and ServiceEntries |
//! | `attached` | which routes a Service has |
//! | `hosts` | which VirtualService and DestinationRule a Service has |
//! | `hashes` | by what of requests endpoints are chosen |
//! | `labelled` | the labels of endpoints |
//! | [`made_of`] | the objects that a resource was made of, by its name |
//! | `nearness` | which endpoints come first, and from where a waypoint looks at them |
//! | `providers` | what providers of the mesh's configuration lead to |
//! | `proxy_config` | what a Gateway asks of its proxy |
//! | `resolver` | what backends of a route lead to |
//! | [`status`] | the conditions of a route object |
//! | `unserved` | the conditions of an object of a kind that is not served |
//! | `telemetry` | what is logged and traced of a Service's requests |
//! | `traffic_policies` | which TrafficPolicies hold |
//! | `policy_status` | a TrafficPolicy: what is wrong with it, and what it comes to |
//! | [`subsets`] | which subsets of a DestinationRule have endpoints |
//! | `scope` | which waypoint a Service is behind |
//! | `backend_tls` | which BackendTLSPolicy holds at a port |
//! | `behind` | the Services behind each waypoint, as the first round made them |

mod access;
mod attached;
pub(super) mod backend;
mod backend_tls;
pub(super) mod behind;
mod direct;
mod discovery;
pub(super) mod explain;
pub(super) mod findings;
mod frontend;
mod hashes;
mod hosts;
pub(super) mod in_force;
mod labelled;
mod lasting;
pub(super) mod made_of;
mod nearness;
mod pods;
pub(super) mod policies;
mod policy_status;
mod ports;
mod providers;
mod proxy_config;
mod reached;
mod resolver;
mod route;
pub(super) mod routes;
pub(super) mod scope;
pub(super) mod status;
pub(super) mod subsets;
mod telemetry;
pub(super) mod tls_policy;
mod traffic_policies;
mod unserved;
pub(super) mod waypoint;
