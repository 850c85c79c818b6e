//! What a proxy knows of the mesh: workloads, services and policies; where a connection goes, and whether it may.
//!
//! ```text
//! wire ── parse ──> Workload, Service, Policy ──> Store (control's, mutable) ── snapshot ──> Mesh (immutable)
//!                                                          Mesh::outbound, Mesh::inbound <── event loops ──┘
//! ```
//!
//! A resource is checked once, in `parse`; what is in a [`Mesh`] is well-formed. The [`Store`] publishes a snapshot
//! after each answer of the controller; snapshots share everything that did not change (`cow`).
//!
//! Only addresses in the proxy's own network are indexed: an address in another one cannot be dialled from here.
//!
//! Start reading at [`Mesh::outbound`] (`resolve`, and `through` where it passes a waypoint; `choice` has the choice of an endpoint, `sole` whether there is one) and [`Mesh::inbound`] (`authorize`); what a name leads to is in `names`.

#![forbid(unsafe_code)]

mod authorize;
mod choice;
mod cow;
mod decision;
mod error;
mod extension;
mod mesh;
mod names;
mod parse;
mod pod;
mod resolve;
mod service;
mod sole;
mod store;
mod through;
mod virtual_address;
mod waypoint;
mod workload;

#[cfg(test)]
mod tests;

pub use authorize::Binding;
pub use decision::{Awaited, Denial, Endpoint, Inbound, MeshChange, Named, NoWaypoint, Outbound, Tried};
pub use error::ResourceError;
pub use mesh::Mesh;
pub use parse::MeshSettings;
pub use pod::Pod;
pub use service::{Balancing, Closeness, Families, Mode, Service, ServicePort};
pub use store::Store;
pub use waypoint::{Waypoint, WaypointAt, WeightedWaypoint};
pub use workload::{Health, Locality, Membership, Trouble, Workload};
