//! What the proxy knows of the mesh: workloads, services and policies.
//!
//! ```text
//! wire ── parse ──> Workload, Service, Policy ──> Store (control's, mutable) ── snapshot ──> Mesh (immutable)
//!                                                          Mesh::outbound, Mesh::inbound <── event loops ──┘
//! ```
//!
//! A resource is checked once, in [`parse`]; what is in a [`Mesh`] is well-formed. The [`Store`] publishes a snapshot
//! after each answer of the controller; snapshots share everything that did not change ([`cow`]).
//!
//! Only addresses in the proxy's own network are indexed: an address in another one cannot be dialled from here.
//!
//! Start reading at [`Mesh::outbound`](resolve) and [`Mesh::inbound`](authorize).

mod authorize;
mod cow;
mod decision;
mod mesh;
mod parse;
mod resolve;
mod service;
mod store;
mod workload;

#[cfg(test)]
mod tests;

pub(crate) use authorize::Binding;
pub(crate) use decision::{Awaited, Denial, Inbound, MeshChange, Outbound};
pub(crate) use mesh::Mesh;
pub(crate) use parse::{ResourceError, mesh_ranges};
pub(crate) use service::Service;
pub(crate) use store::Store;
pub(crate) use workload::{Health, Workload};
