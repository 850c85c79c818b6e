//! What a waypoint does with the requests and connections of a Service, and how it is told.
//!
//! No objects are looked up here and nothing is remembered: who reads objects is `model::routed`, which gives this module what it
//! found. The way of a route: [`read`] makes rules of an object's spec, place by place, and notes what it cannot serve; [`order`] puts
//! the rules of all routes of a port in one order; [`envoy`] says the same in Envoy's messages.
//!
//! | module | what |
//! |---|---|
//! | [`locality`] | which endpoints are nearer to who asks |
//! | [`backend`] | a port of a Service, where requests go |
//! | [`model`] | rules of a port, in our own words |
//! | [`read`] | objects of the Gateway API and Istio's become rules |
//! | [`traffic`] | what holds for connections |
//! | [`external_auth`] | who is asked whether a request may pass |
//! | [`policy`] | what a TrafficPolicy asks for |
//! | [`backend_tls`] | TLS of their own that endpoints speak |
//! | [`order`] | which rule comes first, and for which host names |
//! | [`discovery`] | how endpoints are found |
//! | [`cover`] | whether a rule leaves another one no request |
//! | [`shadow`] | which rule that is, among many |
//! | [`words`] | rules in words |
//! | [`policy_words`] | policies in words |
//! | [`protocol`] | what a port speaks |
//! | [`telemetry`] | what is logged and traced of requests |
//! | [`envoy`] | rules, ports and endpoints as Envoy's messages |

pub(crate) mod backend;
pub(crate) mod backend_tls;
pub(crate) mod cover;
pub(crate) mod discovery;
pub(crate) mod envoy;
pub(crate) mod external_auth;
pub(crate) mod locality;
pub(crate) mod model;
pub(crate) mod order;
pub(crate) mod policy;
pub(crate) mod policy_words;
pub(crate) mod protocol;
pub(crate) mod read;
pub(crate) mod shadow;
pub(crate) mod telemetry;
pub(crate) mod traffic;
pub(crate) mod words;
