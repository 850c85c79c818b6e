//! What is derived as a whole.

use std::sync::Arc;

use culvert_objects::{Finding, Kind, ObjectName};

use super::route_status::RouteStatus;
use crate::snapshot::Resource;

/// One unit of derivation: it is derived again as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Unit {
    /// A pod's Workload.
    Pod(ObjectName),
    /// A Service.
    Service(ObjectName),
    /// The Workloads of a slice's addresses.
    Slice(ObjectName),
    /// The Services and Workloads of a ServiceEntry.
    ServiceEntry(ObjectName),
    /// A WorkloadEntry's Workload.
    WorkloadEntry(ObjectName),
    /// An AuthorizationPolicy.
    Policy(ObjectName),
    /// A PeerAuthentication.
    PeerAuthentication(ObjectName),
    /// An object of a kind that is not served and may restrict somebody.
    Restriction(Kind, ObjectName),
    /// The mesh as a whole.
    Mesh,
    /// A ConfigMap that configures the mesh: what of it is not in force.
    MeshConfig(ObjectName),
    /// A Gateway that is a waypoint. This and those below are derived of what those above are derived to.
    Waypoint(ObjectName),
    /// A policy for waypoints by itself.
    WaypointPolicy(Kind, ObjectName),
    /// A route object by itself.
    Route(Kind, ObjectName),
    /// The rules of a Service's ports, by the Service's resource name.
    Routes(Arc<str>),
    /// A Service's ports as backends.
    Clusters(Arc<str>),
    /// Where they are.
    Endpoints(Arc<str>),
}

impl Unit {
    /// Whether it is derived of what others are derived to.
    pub(super) fn is_second(&self) -> bool {
        matches!(
            self,
            Self::Waypoint(_)
                | Self::WaypointPolicy(..)
                | Self::Route(..)
                | Self::Routes(_)
                | Self::Clusters(_)
                | Self::Endpoints(_)
        )
    }

    /// What is derived of a Service that was derived, by its resource's name.
    pub(super) fn of_service(name: &Arc<str>) -> [Self; 3] {
        [
            Self::Routes(Arc::clone(name)),
            Self::Clusters(Arc::clone(name)),
            Self::Endpoints(Arc::clone(name)),
        ]
    }

    /// What is derived of an object by itself.
    pub(super) fn of(kind: Kind, name: &ObjectName) -> Vec<Self> {
        let route = || Self::Route(kind, name.clone());
        let restriction = || Self::Restriction(kind, name.clone());
        match kind {
            // They may have a filter that would keep somebody out.
            Kind::HTTPRoute | Kind::GRPCRoute => vec![route(), restriction()],
            Kind::AuthorizationPolicy => vec![Self::Policy(name.clone()), Self::WaypointPolicy(kind, name.clone())],
            Kind::RequestAuthentication => vec![restriction(), Self::WaypointPolicy(kind, name.clone())],
            Kind::TCPRoute
            | Kind::TLSRoute
            | Kind::UDPRoute
            | Kind::ListenerSet
            | Kind::XBackendTrafficPolicy
            | Kind::XTelemetryPolicy
            | Kind::VirtualService
            | Kind::DestinationRule
            | Kind::Telemetry
            | Kind::TrafficPolicy
            | Kind::BackendTLSPolicy => {
                vec![route()]
            }
            Kind::Gateway => vec![Self::Waypoint(name.clone())],
            _ => Self::of_one(kind, name).into_iter().collect(),
        }
    }

    fn of_one(kind: Kind, name: &ObjectName) -> Option<Self> {
        match kind {
            Kind::Pod => Some(Self::Pod(name.clone())),
            Kind::Service => Some(Self::Service(name.clone())),
            Kind::PeerAuthentication => Some(Self::PeerAuthentication(name.clone())),
            Kind::ServiceEntry => Some(Self::ServiceEntry(name.clone())),
            Kind::WorkloadEntry => Some(Self::WorkloadEntry(name.clone())),
            Kind::EndpointSlice => Some(Self::Slice(name.clone())),
            Kind::ConfigMap => Some(Self::MeshConfig(name.clone())),
            _ if kind.descriptor().unserved.is_some() && !kind.descriptor().metadata_only => {
                Some(Self::Restriction(kind, name.clone()))
            }
            _ => None,
        }
    }
}

/// What is remembered of what became of a unit: resources by type and name, and findings.
#[derive(Debug, Default)]
pub(super) struct Product {
    pub(super) resources: Box<[(&'static str, Arc<str>)]>,
    pub(super) findings: Box<[Arc<Finding>]>,
}

/// What became of a unit.
#[derive(Debug, Default)]
pub(super) struct Derived {
    pub(super) resources: Vec<Resource>,
    pub(super) findings: Vec<Finding>,
    /// What a route comes to, as conditions say it.
    pub(super) status: Option<RouteStatus>,
}
