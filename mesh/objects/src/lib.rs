//! Kubernetes objects from a directory of YAML, and what their labels mean to the mesh.
//!
//! The controller and the agent both read their world from here, so that the same binaries run without a cluster.
//! The way of a byte: [`Directory`] finds files and notices changes, `document` turns one file into objects and
//! findings, `kinds` knows what there is to do with an object of each kind (`defaults` adds what an API server would have
//! filled in, `check` refuses what it would have refused, and what is kept is what the mesh reads), and `merge` puts all
//! files together into one [`Objects`].
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
//! | an unknown value of the annotation that closes connections, or one on a pod | nothing is closed |
//! | an unknown value of the annotation that holds connections | none is held |
//! | an unknown value of the annotation that says what pods may reach | they reach nothing but what the mesh knows |
//! | an unknown word for how near endpoints should be | no endpoint is preferred |
//! | something wrong in one place of a ServiceEntry or a WorkloadEntry | that place leads nowhere; the rest of the object holds |
//! | a kind of Istio or of the Gateway API that is not served | the world is as without it: see [`known`] |
//! | a kind or version of theirs that nobody knows | it is left out |
//!
//! [`DISTRIBUTIONS`] is about Kubernetes itself: where its distributions keep their folders on a node.
//!
//! Objects from a cluster's API server have no files and documents; [`Assembly`] applies the same rules to them, one change
//! at a time.

#![forbid(unsafe_code)]

mod allocator;
mod assemble;
mod balancer;
mod check;
mod claims;
mod complaint;
mod defaults;
mod directory;
mod distributions;
mod dns_capture;
mod document;
mod enrolment;
mod fallback;
mod few;
mod finding;
mod heard;
mod hold;
mod kinds;
pub mod known;
mod labels;
mod merge;
pub mod mesh_config;
mod name;
mod network;
mod objects;
mod outbound;
mod persistent;
mod pool;
mod problem;
mod same_node;
mod severity;
mod traffic;
mod values;
mod walk;
mod watch;
mod waypoint;
mod yaml;

pub use allocator::Defaults;
pub use assemble::Assembly;
pub use balancer::{BALANCER_ANNOTATION, PEAK_EWMA};
pub use directory::{Directory, Loaded, OpenError};
pub use distributions::{DISTRIBUTIONS, Distribution};
pub use dns_capture::{BadDnsCapture, DNS_CAPTURE_ANNOTATION, DnsCapture, ISTIO_DNS_CAPTURE_ANNOTATION};
pub use document::{Document, Parsed, parse};
pub use enrolment::{
    CLOSE_ANNOTATION, Enrolment, PodFacts, UnknownLabelValue, closes_open_connections, enrolment, enrols,
    is_host_network, netns, pod_addresses, service_account,
};
pub use fallback::{BadFallback, FALLBACK_ANNOTATION, Fallback};
pub use few::Few;
pub use finding::{Finding, Findings};
pub use hold::{BadHold, HOLD_ANNOTATION, Hold};
pub use kinds::{
    AuthorizationPolicy, BackendTLSPolicy, Binding, ConfigMap, Descriptor, DestinationRule, Endpoint, EndpointSlice,
    EntryEndpoint, EntryHost, EntryLocality, EntryPort, Export, GRPCRoute, Gateway, GatewayClass, HTTPRoute, Held, Key,
    Kind, KindSpec, NamedPort, Node, Object, Objects, Owner, PeerAuthentication, Pod, PodReference, Presence,
    Reference, ReferenceGrant, RequestAuthentication, Resolution, Selector, ServiceEntry, SlicePort, TCPRoute,
    TLSRoute, Target, Telemetry, TrafficPolicy, Unserved, VirtualService, WorkloadEntry, Written, has_no_selector,
    in_namespace, is_agent, is_external, named_authorities, referenced_pod, selector, service_of_slice,
    virtual_addresses,
};
pub use labels::Labels;
pub use name::ObjectName;
pub use outbound::{OUTBOUND_ANNOTATION, OutboundPolicy, UnknownOutboundPolicy};
pub use persistent::PersistentMap;
pub use problem::Problem;
pub use same_node::{BadSameNode, SAME_NODE_ANNOTATION, SameNode};
pub use severity::Severity;
pub use traffic::{TRAFFIC_DISTRIBUTION, TrafficDistribution, UnknownTrafficDistribution};
pub use waypoint::{
    Asked, AskedCanary, BadWeight, USE_WAYPOINT, USE_WAYPOINT_CANARY, USE_WAYPOINT_CANARY_WEIGHT, WAYPOINT_FOR,
    canary_weight, is_gateways_own, waypoint, waypoint_canary,
};

/// The types of Kubernetes that [`Objects`] holds, so that users of this crate need not name their versions.
pub use kinds::{Namespace, Service, ServiceAccount, ServiceCIDR};
