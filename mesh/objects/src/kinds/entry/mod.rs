//! Istio's ServiceEntry and WorkloadEntry: hosts and workloads beside the cluster's own.
//!
//! Each is read place by place: what is wrong is left out and said, with its field, and the rest of the object holds. What
//! is left out leads nowhere, so that nothing arrives where it was not meant to.
//!
//! | module | what |
//! |---|---|
//! | `service_entry` | hosts, with their addresses, ports and endpoints |
//! | `port` | a port of a ServiceEntry |
//! | `export` | which namespaces see the hosts |
//! | `workload_entry` | a workload that is no pod |
//! | `endpoint` | where an endpoint of a ServiceEntry, or a WorkloadEntry, is |
//! | `reading` | JSON, place by place |

mod endpoint;
mod export;
mod port;
mod reading;
mod service_entry;
#[cfg(test)]
mod tests;
mod workload_entry;

pub use endpoint::{EntryEndpoint, EntryHost, EntryLocality};
pub use export::Export;
pub use port::EntryPort;
pub use service_entry::{Resolution, ServiceEntry};
pub use workload_entry::WorkloadEntry;
