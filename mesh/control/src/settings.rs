//! Who calls the controller, how it is reached, and by what each proves itself to the other.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use culvert_identity::SpiffeId;
use culvert_proto::discovery::Node;
use culvert_state::{Pod, Workload};
use ipnet::IpNet;

/// What stays the same while a proxy runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose proxy this is.
    pub caller: Caller,
    /// The controller's address, `https://host:port`; without a port, 443.
    pub controller: String,
    /// The name that its certificate must have, where it differs from the host in the address.
    pub controller_name: Option<String>,
    /// Where it is, for when its name cannot be resolved.
    pub controller_host: Option<IpAddr>,
    /// The cluster's name in workload uids and telemetry.
    pub cluster_id: String,
    /// The trust domain of workloads of which the controller does not say it.
    pub trust_domain: String,
    /// Ranges that belong to the mesh, beside those that the controller tells.
    pub mesh_ranges: Vec<IpNet>,
    /// The API server, which may be reached before the controller has answered.
    pub api_server: Option<SocketAddr>,
    /// Subscribe to addresses as they are asked for, rather than to the whole mesh.
    pub on_demand: bool,
}

/// What may change while a proxy runs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The bearer token that proves to the controller who calls.
    pub token: String,
    /// PEM roots by which the controller's certificate is checked, and peers' beside those that the controller tells.
    pub roots: Vec<u8>,
}

impl fmt::Debug for Secrets {
    /// Without the token, which no log should show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = self.roots.len();
        f.debug_struct("Secrets")
            .field("root_bytes", &roots)
            .finish_non_exhaustive()
    }
}

/// Whose proxy this is. The controller knows it by the token; what is said here decides how it is asked.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A node's proxy: it acts for the pods of the node.
    Node {
        /// As Pods' `spec.nodeName`.
        name: Arc<str>,
    },
    /// A workload, for itself alone.
    Workload {
        /// What it is for.
        role: Role,
        /// Itself.
        pod: Arc<Pod>,
    },
}

/// What a workload's proxy is for, under the names that Istio's control plane gives node types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The layer 7 proxy of services and workloads.
    Waypoint,
    /// At the edge of the mesh.
    Gateway,
}

impl Caller {
    /// Who this says that it is in the first request of a stream, in the form that Istio's control plane reads.
    pub(crate) fn describe(&self, cluster_id: &str) -> Node {
        let (kind, address, name, namespace, node) = match self {
            Self::Node { name } => (
                "ztunnel",
                Ipv4Addr::LOCALHOST.into(),
                format!("culvert-ztunnel-{name}"),
                "culvert-system",
                name,
            ),
            Self::Workload { role, pod } => (
                match role {
                    Role::Waypoint => "waypoint",
                    Role::Gateway => "router",
                },
                pod.addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into()),
                pod.name.to_string(),
                &*pod.namespace,
                &pod.node,
            ),
        };
        let mut fields = BTreeMap::from([("NODE_NAME", &**node), ("CLUSTER_ID", cluster_id)]);
        if let Self::Workload { pod, .. } = self {
            fields.extend([
                ("NAMESPACE", &*pod.namespace),
                ("SERVICE_ACCOUNT", pod.identity.service_account()),
            ]);
        }
        let text = |value: &str| prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue(value.to_owned())),
        };
        Node {
            id: format!("{kind}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"),
            metadata: Some(prost_types::Struct {
                fields: fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), text(value)))
                    .collect(),
            }),
            ..Default::default()
        }
    }

    /// What a certificate request has to name, so that the authority signs for this identity. A workload names none: it
    /// gets its own.
    pub(crate) fn impersonates<'a>(&self, identity: &'a SpiffeId) -> Option<&'a SpiffeId> {
        match self {
            Self::Node { .. } => Some(identity),
            Self::Workload { .. } => None,
        }
    }

    /// Whether the controller sends this workload by itself, subscribed or not.
    pub(crate) fn is_sent(&self, workload: &Workload) -> bool {
        match self {
            Self::Node { name } => workload.node == *name,
            Self::Workload { pod, .. } => workload.name == pod.name && workload.namespace == pod.namespace,
        }
    }
}

/// Takes the address of a controller from a command line: `https://HOST:PORT`. With any other scheme the token would be sent in the open.
///
/// # Errors
/// When it is none, in words for whoever gave it.
pub fn controller_address(text: &str) -> Result<String, String> {
    let uri: Option<tonic::transport::Uri> = text.parse().ok();
    let is_address = uri.is_some_and(|uri| {
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        uri.scheme_str() == Some("https") && has_host && matches!(uri.path(), "" | "/")
    });
    if is_address {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no address of a controller: https://HOST:PORT"))
    }
}

#[cfg(test)]
mod tests {
    use super::controller_address;

    #[test]
    fn a_controller_is_reached_by_tls_or_the_address_is_refused_and_quoted() {
        for good in [
            "https://culvert-controller.culvert-system.svc:15012",
            "https://[::1]:1",
            "https://a",
        ] {
            assert_eq!(controller_address(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "junk",
            "127.0.0.1:15012",
            "http://127.0.0.1:15012",
            "https://",
            "https://a b:1",
            "https://a:1/x",
        ] {
            let error = controller_address(bad).unwrap_err();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }
}
