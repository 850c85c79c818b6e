//! The classes of Gateways that become waypoints. The controller makes them where the cluster has the kind, so that an installation
//! does not depend on who brings the Gateway API, and when.

use culvert_deploy::waypoint::Proxy;
use serde_json::{Value, json};

use crate::cluster::manager::MANAGER;

/// The name by which objects of the Gateway API say that they are this controller's.
pub(in crate::cluster) const CONTROLLER: &str = "culvert.dev/controller";

/// A class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Our own proxy.
    Culvert,
    /// Envoy.
    Envoy,
}

impl Class {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Culvert, Self::Envoy];

    /// The class of a name; none if it is another's.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Its name in the cluster.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Culvert => "culvert-waypoint",
            Self::Envoy => "culvert-envoy",
        }
    }

    /// The program of its waypoints.
    pub(super) fn proxy(self) -> Proxy {
        match self {
            Self::Culvert => Proxy::Culvert,
            Self::Envoy => Proxy::Envoy,
        }
    }

    /// The object.
    pub(super) fn object(self) -> Value {
        let description = match self {
            Self::Culvert => "Waypoints of the mesh: Culvert's own layer 7 proxy",
            Self::Envoy => "Waypoints of the mesh: Envoy",
        };
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": { "name": self.name(), "labels": { "culvert.dev/managed-by": MANAGER } },
            "spec": { "controllerName": CONTROLLER, "description": description },
        })
    }
}
