//! The kinds of objects that the mesh reads: one line in the table below, and one file that implements [`KindSpec`]. Those of
//! which nothing is served have a line in the second half of the table, and their names in [`crate::known`].
//!
//! Everything else about a kind follows from these two: where it is listed, what is kept of an object, what refuses it, by
//! which keys others find it, and where it is held. Whatever goes through all kinds goes through [`Kind::ALL`].

use std::fmt;
use std::sync::Arc;

use k8s_openapi::Metadata as _;
use serde_json::Value;

use crate::check::{self, Naming};
use crate::known::{self, Known};
use crate::name::ObjectName;
use crate::persistent::PersistentMap;
use crate::problem::Problem;

#[macro_use]
mod table;

mod backend_tls;
mod binding;
mod config_map;
mod endpoint_slice;
mod entry;
mod hosts;
mod key;
mod loose;
mod namespace;
mod node;
mod pod;
mod prune;
mod security;
mod selector;
mod service;
mod service_account;
mod service_cidr;
mod spec;
mod unserved;
mod written;

pub use backend_tls::named_authorities;
pub use binding::{Binding, Target};
pub use config_map::ConfigMap;
pub use endpoint_slice::{Endpoint, EndpointSlice, PodReference, SlicePort, referenced_pod, service_of_slice};
pub use entry::{EntryEndpoint, EntryHost, EntryLocality, EntryPort, Export, Resolution, ServiceEntry, WorkloadEntry};
pub use k8s_openapi::api::{
    core::v1::{Namespace, Service, ServiceAccount},
    networking::v1::ServiceCIDR,
};
pub use key::Key;
pub use node::Node;
pub use pod::{NamedPort, Owner, Pod, is_agent};
pub use security::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
pub use selector::Selector;
pub use service::{has_no_selector, is_external, selector, virtual_addresses};
pub use spec::KindSpec;
use unserved::Marker;
pub use unserved::Unserved;
pub use written::{
    BackendTLSPolicy, DestinationRule, GRPCRoute, Gateway, GatewayClass, HTTPRoute, Reference, ReferenceGrant,
    TCPRoute, TLSRoute, Telemetry, TrafficPolicy, VirtualService, Written,
};

/// Whether a cluster has the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Every cluster has it. Nothing is served before its objects are known.
    Required,
    /// It may be absent, or come and go: then there are no objects of it.
    Optional,
    /// Every cluster has it, and objects of the names that [`Descriptor::names`] has are followed alone.
    Named,
}

/// What there is to know about a kind without its type.
#[derive(Debug)]
pub struct Descriptor {
    /// The kind.
    pub kind: Kind,
    /// As in YAML. Two kinds may have the same: see [`Kind::name`].
    pub name: &'static str,
    /// As it is called where it must not be taken for another.
    pub title: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Versions within the group that are read: the first is the one to ask for, unless a cluster has others only.
    pub versions: &'static [&'static str],
    /// As in the API server's paths.
    pub plural: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether a cluster has it.
    pub presence: Presence,
    /// Whether the metadata is all that is read.
    pub metadata_only: bool,
    /// What is known of it, if nothing of it is served.
    pub unserved: Option<&'static Known>,
    read: fn(Value) -> Result<Object, Problem>,
}

impl Descriptor {
    /// The version to ask for.
    pub fn version(&self) -> &'static str {
        self.versions.first().copied().unwrap_or_default()
    }

    /// The names of the objects that are followed; none where all are.
    pub fn names(&self) -> &'static [&'static str] {
        match self.presence {
            Presence::Named => &config_map::NAMES,
            Presence::Required | Presence::Optional => &[],
        }
    }

    /// `group/version`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            return self.version().to_owned();
        }
        format!("{}/{}", self.group, self.version())
    }

    /// Whether an object of it may keep somebody out of what it binds.
    pub fn may_restrict(&self) -> bool {
        known::find(self.group, self.name).is_some_and(|known| !known.never_restricts())
    }

    /// Whether nobody may take its objects for absent without being sure: they may keep somebody out, or say where connections
    /// go and whether they are encrypted.
    pub fn is_relied_on(&self) -> bool {
        self.may_restrict() || known::find(self.group, self.name).is_some_and(Known::is_served)
    }

    /// Whether objects of this `apiVersion` and `kind` are read as objects of this kind.
    fn reads(&self, api_version: &str, kind: &str) -> bool {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.name == kind && self.group == group && self.versions.contains(&version)
    }

    /// Reads an object from an API server's JSON, checks it, and keeps of it what is read.
    ///
    /// # Errors
    /// Where it is not what the kind's type says, or is what an API server would refuse.
    pub fn read(&self, value: Value) -> Result<Object, Problem> {
        (self.read)(value)
    }
}

fn read<T: Held>(value: Value) -> Result<Arc<T>, Problem> {
    let wire: T::Wire = serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        let message = error.into_inner().to_string();
        Problem {
            line: None,
            field: (field != ".").then_some(field),
            message,
        }
    })?;
    made(wire)
}

/// An object that is made valid here, once and for all.
fn made<T: Held>(wire: T::Wire) -> Result<Arc<T>, Problem> {
    let kind = T::KIND;
    let naming = Naming {
        namespaced: kind.descriptor().namespaced,
        is_label: matches!(kind, Kind::Namespace | Kind::Service),
    };
    check::metadata(wire.metadata(), naming)?;
    T::check(&wire)?;
    Ok(Arc::new(T::keep(wire)))
}

kinds! {
    /// Namespaces, by [`ObjectName::cluster`]. Those that every cluster has (`default`, `kube-system`) are always there.
    namespaces: Namespace { "", "v1", "namespaces", false, Required, true }
    /// Nodes, by [`ObjectName::cluster`].
    nodes: Node { "", "v1", "nodes", false, Required, false }
    /// The ranges that services get their addresses from, by [`ObjectName::cluster`].
    service_cidrs: ServiceCIDR { "networking.k8s.io", "v1", "servicecidrs", false, Optional, false }
    /// Service accounts. Every namespace has one named `default`.
    service_accounts: ServiceAccount { "", "v1", "serviceaccounts", true, Required, true }
    /// Services.
    services: Service { "", "v1", "services", true, Required, false }
    /// Endpoint slices as written; none are made for services with selectors.
    endpoint_slices: EndpointSlice { "discovery.k8s.io", "v1", "endpointslices", true, Required, false }
    /// Pods in every phase, those that have ended included.
    pods: Pod { "", "v1", "pods", true, Required, false }
    /// Authorization policies of Istio, as written.
    authorization_policies: AuthorizationPolicy {
        "security.istio.io", "v1" or "v1beta1", "authorizationpolicies", true, Optional, false
    }
    /// Peer authentications of Istio, as written.
    peer_authentications: PeerAuthentication {
        "security.istio.io", "v1" or "v1beta1", "peerauthentications", true, Optional, false
    }
    /// Request authentications of Istio, as written.
    request_authentications: RequestAuthentication {
        "security.istio.io", "v1" or "v1beta1", "requestauthentications", true, Optional, false
    }
    /// Hosts beside the cluster's Services.
    service_entries: ServiceEntry {
        "networking.istio.io", "v1" or "v1beta1" or "v1alpha3", "serviceentries", true, Optional, false
    }
    /// Workloads that are no pods.
    workload_entries: WorkloadEntry {
        "networking.istio.io", "v1" or "v1beta1" or "v1alpha3", "workloadentries", true, Optional, false
    }
    /// What holds for connections to a host of Istio's, as written.
    destination_rules: DestinationRule {
        "networking.istio.io", "v1" or "v1beta1" or "v1alpha3", "destinationrules", true, Optional, false
    }
    /// Routes of hosts in Istio's words, as written.
    virtual_services: VirtualService {
        "networking.istio.io", "v1" or "v1beta1" or "v1alpha3", "virtualservices", true, Optional, false
    }
    /// TLS of their own that endpoints speak, as written.
    backend_tls_policies: BackendTLSPolicy {
        "gateway.networking.k8s.io", "v1" or "v1alpha3" or "v1alpha2", "backendtlspolicies", true, Optional, false
    }
    /// Gateways of the Gateway API: those of Culvert's class are waypoints.
    gateways: Gateway { "gateway.networking.k8s.io", "v1" or "v1beta1" or "v1alpha2", "gateways", true, Optional, false }
    /// Whose the gateways of a class are, by [`ObjectName::cluster`].
    gateway_classes: GatewayClass { "gateway.networking.k8s.io", "v1" or "v1beta1" or "v1alpha2", "gatewayclasses", false, Optional, false }
    /// Routes of gRPC calls, as written.
    grpc_routes: GRPCRoute { "gateway.networking.k8s.io", "v1" or "v1alpha2", "grpcroutes", true, Optional, false }
    /// Routes of HTTP requests, as written.
    http_routes: HTTPRoute { "gateway.networking.k8s.io", "v1" or "v1beta1" or "v1alpha2", "httproutes", true, Optional, false }
    /// Who may refer to objects of another namespace, as written.
    reference_grants: ReferenceGrant { "gateway.networking.k8s.io", "v1" or "v1beta1" or "v1alpha2", "referencegrants", true, Optional, false }
    /// Routes of TCP connections, as written.
    tcp_routes: TCPRoute { "gateway.networking.k8s.io", "v1" or "v1alpha2", "tcproutes", true, Optional, false }
    /// Routes of TLS connections, as written.
    tls_routes: TLSRoute { "gateway.networking.k8s.io", "v1" or "v1alpha3" or "v1alpha2", "tlsroutes", true, Optional, false }
    /// What is logged and traced of requests, as written.
    telemetries: Telemetry { "telemetry.istio.io", "v1" or "v1alpha1", "telemetries", true, Optional, false }
    /// Limits, compression and health checks at waypoints, as written.
    traffic_policies: TrafficPolicy { "culvert.dev", "v1alpha1", "trafficpolicies", true, Optional, false }
    /// Configuration of the mesh as a whole, in configuration maps of certain names, and certificates, in those that policies name.
    config_maps: ConfigMap { "", "v1", "configmaps", true, Named, false }

    @unserved
    envoy_filters: EnvoyFilter = known::istio::ENVOY_FILTER;
    istio_gateways: IstioGateway = known::istio::GATEWAY;
    proxy_configs: ProxyConfig = known::istio::PROXY_CONFIG;
    sidecars: Sidecar = known::istio::SIDECAR;
    workload_groups: WorkloadGroup = known::istio::WORKLOAD_GROUP;
    traffic_extensions: TrafficExtension = known::istio::TRAFFIC_EXTENSION;
    wasm_plugins: WasmPlugin = known::istio::WASM_PLUGIN;
    listener_sets: ListenerSet = known::gateway_api::LISTENER_SET;
    udp_routes: UDPRoute = known::gateway_api::UDP_ROUTE;
    x_backends: XBackend = known::gateway_api::X_BACKEND;
    x_backend_traffic_policies: XBackendTrafficPolicy = known::gateway_api::X_BACKEND_TRAFFIC_POLICY;
    x_meshes: XMesh = known::gateway_api::X_MESH;
    x_telemetry_policies: XTelemetryPolicy = known::gateway_api::X_TELEMETRY_POLICY;
}

/// A kind by its type.
pub trait Held: KindSpec {
    /// The kind.
    const KIND: Kind;

    /// Where its objects are.
    fn map(objects: &Objects) -> &PersistentMap<ObjectName, Arc<Self>>;
}

impl Kind {
    /// What there is to know about it.
    pub fn descriptor(self) -> &'static Descriptor {
        &DESCRIPTORS[self as usize]
    }

    /// Its name, as in YAML. Where two kinds have the same, one has its group with it, as in `Gateway.networking.istio.io`.
    pub fn name(self) -> &'static str {
        let Descriptor { title, .. } = self.descriptor();
        title
    }

    /// The kind of a [`Kind::name`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Those that are followed in a cluster, some of them by the names of their objects.
    pub fn followed() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The part of a kind's objects that lies in one namespace.
pub fn in_namespace<'a, T>(
    objects: &'a PersistentMap<ObjectName, Arc<T>>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a ObjectName, &'a Arc<T>)> {
    objects
        .range_from(&ObjectName::new(namespace, ""))
        .take_while(move |(name, _)| *name.namespace == *namespace)
}

#[cfg(test)]
mod tests;
