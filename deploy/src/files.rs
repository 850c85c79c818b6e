//! The texts.

use serde::Deserialize as _;
use serde_json::Value;

use crate::{Component, Document, Error};

/// A file of manifests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    /// Below `deploy/`.
    pub(crate) path: &'static str,
    pub(crate) text: &'static str,
}

macro_rules! file {
    ($path:literal) => {
        File {
            path: $path,
            text: include_str!(concat!("../", $path)),
        }
    };
}

/// In the order of `daemonset/kustomization.yaml`.
pub(crate) const BASE: &[File] = &[
    file!("daemonset/namespace.yaml"),
    file!("daemonset/quota.yaml"),
    file!("daemonset/config.yaml"),
    file!("daemonset/controller-rbac.yaml"),
    file!("daemonset/controller.yaml"),
    file!("daemonset/node-rbac.yaml"),
    file!("daemonset/node.yaml"),
];

/// Kinds of objects that a cluster may lack.
pub(crate) const CRDS: &[File] = &[
    file!("crds/culvert.dev.yaml"),
    file!("crds/networking.istio.io.yaml"),
    file!("crds/security.istio.io.yaml"),
];

/// Dashboards of Grafana.
pub(crate) const DASHBOARDS: &[File] = &[
    file!("dashboards/traffic.json"),
    file!("dashboards/nodes.json"),
    file!("dashboards/controller.json"),
    file!("dashboards/waypoints.json"),
    file!("dashboards/dns.json"),
];

/// What the Prometheus Operator takes.
pub(crate) const OPERATOR: &[File] = &[file!("dashboards/monitors.yaml"), file!("dashboards/alerts.yaml")];

/// What the controller makes of a Gateway.
pub(crate) const WAYPOINT: File = file!("waypoint/waypoint.yaml");

/// What a component adds, and what it changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ComponentFiles {
    pub(crate) resources: &'static [File],
    pub(crate) patches: &'static [File],
}

impl Component {
    pub(crate) fn files(self) -> ComponentFiles {
        let (resources, patches): (&[File], &[File]) = match self {
            Self::GivenCa => (&[], &[file!("components/given-ca/controller.yaml")]),
            Self::HoldNodes => (
                &[file!("components/hold-nodes/rbac.yaml")],
                &[
                    file!("components/hold-nodes/node.yaml"),
                    file!("components/hold-nodes/controller.yaml"),
                ],
            ),
            Self::LocalImages => (
                &[],
                &[
                    file!("components/local-images/node.yaml"),
                    file!("components/local-images/controller.yaml"),
                ],
            ),
            Self::NetworkPolicy => (&[file!("components/network-policy/policy.yaml")], &[]),
            Self::Selinux => (&[], &[file!("components/selinux/node.yaml")]),
            Self::SingleReplica => (
                &[],
                &[
                    file!("components/single-replica/controller.yaml"),
                    file!("components/single-replica/budget.yaml"),
                ],
            ),
        };
        ComponentFiles { resources, patches }
    }
}

impl File {
    pub(crate) fn documents(&self) -> Result<Vec<Document>, Error> {
        self.values()?
            .into_iter()
            .map(|value| Document::new(value).map_err(|reason| self.error(reason)))
            .collect()
    }

    fn values(&self) -> Result<Vec<Value>, Error> {
        serde_yaml_ng::Deserializer::from_str(self.text)
            .map(|document| Value::deserialize(document).map_err(|error| self.error(error)))
            .collect()
    }

    pub(crate) fn error(&self, reason: impl ToString) -> Error {
        Error::File {
            file: self.path,
            reason: reason.to_string(),
        }
    }
}
