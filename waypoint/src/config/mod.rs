//! From Envoy's messages to values that are made valid once: what a resource says and is not served is refused, by field.
//!
//! | file | reads |
//! |---|---|
//! | `listener` | `SCOPE/inbound`: which filter chain takes a connection |
//! | `http_chain` | an HttpConnectionManager |
//! | `filters` | an HTTP filter, and filters of connections |
//! | `cluster` | a Cluster |
//! | `discovery` | of a Cluster, how its endpoints are found |
//! | `balancing` | of a Cluster, how an endpoint is chosen |
//! | `keepalive` | of a Cluster, how connections are tried that say nothing |
//! | `transport` | of a Cluster, how endpoints are spoken to inside of the tunnel |
//! | `endpoint_tls` | of that, TLS |
//! | `health_check` | of a Cluster, how endpoints are asked whether they serve |
//! | `endpoints` | a ClusterLoadAssignment |
//! | `tcp_chain` | a TcpProxy |
//! | `server_names` | which chain takes a connection of TLS |
//! | `observing` | what is to be known of requests |
//! | `metrics` | of a chain, what is counted otherwise |
//! | `values` | numbers and times |
//! | `said` | by what two messages are known to say the same |
//! | `retirement` | how connections hear that their chain is in force no longer |
//! | `refusal` | how something is refused |
//!
//! Route configurations are read by `culvert_http`.

pub mod balancing;
pub mod cluster;
pub mod discovery;
mod endpoint_tls;
pub mod endpoints;
pub mod filters;
pub mod health_check;
pub mod http_chain;
pub mod keepalive;
pub mod listener;
pub mod metrics;
pub mod observing;
pub mod refusal;
pub mod retirement;
mod said;
pub mod server_names;
pub mod tcp_chain;
pub mod transport;
mod values;
