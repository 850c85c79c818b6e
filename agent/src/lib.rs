//! The per-node agent: finds out which pods of its node take part in the mesh, captures their connections, and hands them
//! to the node's proxy.
//!
//! The way of a pod through the rooms, each of which knows only those after it:
//! ```text
//! source ──what should be──> enrolment ──what is──> kernel (programs, maps, pins)
//!                                      └──────────> handover (namespaces and sockets to the proxy)
//! ```
//! [`monitoring`] shows it all. Start reading at [`enrolment`].

pub mod cri;
pub mod enrolment;
pub mod events;
pub mod gate;
pub mod handover;
pub mod kernel;
pub mod leaving;
mod legs_page;
pub mod lock;
pub mod monitoring;
mod same_node_metrics;
mod same_node_page;
pub mod source;
pub mod taint;
