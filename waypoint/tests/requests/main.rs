//! Requests through a waypoint: clients and endpoints are real, in tunnels over loopback; what the controller would say is said by the
//! test.

mod carry;
mod envoy;
mod mesh;
