//! Kubernetes objects from a directory of YAML, and what their labels mean to the mesh.
//!
//! The controller and the agent both read their world from here, so that the same binaries run without a cluster.
//! The way of a byte: [`Directory`] finds files and notices changes, `document` turns one file into objects and
//! findings, `defaults` adds what an API server would have filled in, `check` refuses what it would have refused, and
//! `merge` puts all files together into one immutable [`Objects`].
//!
//! Rules that hold for bad input; each is reported as a [`Finding`] that names file, document, object and field:
//!
//! | what | what holds |
//! |---|---|
//! | a document that does not parse, or an object an API server would refuse | the file keeps its last good state as a whole; if it never had one, its good documents count |
//! | a file that cannot be read | it keeps its last good state |
//! | the same object twice | the first by path, then document, counts |
//! | an address that two pods or services claim | the first by path, then document, counts; the other is left out |
//! | an object in a namespace that is not there | it is left out, as it could not exist in a cluster |
//! | a pod whose service account is not there | it stays; the controller signs no certificate for it |
//! | an unknown value of a label that enrols | it does not enrol |
//!
//! Objects that a cluster's API server tells of come without files and documents; [`assemble`] holds them to the same rules.

#![forbid(unsafe_code)]

mod assemble;
mod check;
mod defaults;
mod directory;
mod document;
mod enrolment;
mod finding;
mod merge;
mod objects;
mod walk;
mod watch;

pub use assemble::{assemble, check};
pub use defaults::Defaults;
pub use directory::{Directory, Loaded, OpenError};
pub use document::{Document, Parsed, parse};
pub use enrolment::{
    CLOSE_ANNOTATION, Enrolment, UnknownLabelValue, closes_open_connections, enrolment, is_host_network, netns,
    pod_addresses, service_account,
};
pub use finding::Finding;
pub use objects::{Object, ObjectName, Objects};

/// The Kubernetes types that [`Objects`] holds, so that users of this crate need not name their versions.
pub use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Node, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
