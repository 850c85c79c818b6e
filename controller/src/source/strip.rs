//! What of each object is kept: what the model reads, and nothing else.
//!
//! Two purposes. Memory: a pod as the API server tells it has tens of kilobytes (environments, volumes, who managed
//! which field), of which the mesh needs one or two. And quiet: an object that changed in what is not kept (a node's
//! heartbeat, a probe's time) is equal to its predecessor, and nothing follows from it.

use std::collections::BTreeMap;

use culvert_objects::{EndpointSlice, Namespace, Node, Pod, Service, ServiceAccount};
use culvert_proto::CLIENT_IP;
use k8s_openapi::api::core::v1::{
    Container, ObjectReference, PodCondition, PodSpec, PodStatus, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Annotations that the model reads, on whatever object.
const ANNOTATIONS: [&str; 3] = [
    "ambient.istio.io/redirection",
    "sidecar.istio.io/status",
    "networking.istio.io/traffic-distribution",
];
/// One whose presence counts, and whose value is a long list.
const PRESENCE: &str = "sidecar.istio.io/status";
/// Labels of a node that say where it is.
const PLACES: [&str; 3] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
];
/// Labels of a slice: whose endpoints it has, and who keeps it.
const SLICE: [&str; 2] = ["kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"];

/// A kind whose objects can be reduced to what the model reads.
pub(crate) trait Strip {
    /// The object with what is kept.
    fn strip(self) -> Self;
}

impl Strip for Pod {
    fn strip(self) -> Self {
        let labels = self.metadata.labels;
        let owners = self.metadata.owner_references.into_iter().flatten();
        let owner = owners
            .filter(|o| o.controller == Some(true))
            .take(1)
            .map(|o| OwnerReference {
                api_version: String::new(),
                uid: String::new(),
                block_owner_deletion: None,
                ..o
            });
        let owners: Vec<OwnerReference> = owner.collect();
        Self {
            metadata: ObjectMeta {
                labels,
                generate_name: self.metadata.generate_name,
                owner_references: (!owners.is_empty()).then_some(owners),
                annotations: annotations(self.metadata.annotations),
                ..identity(
                    self.metadata.namespace,
                    self.metadata.name,
                    self.metadata.uid,
                    self.metadata.creation_timestamp,
                    self.metadata.deletion_timestamp,
                )
            },
            spec: self.spec.map(pod_spec),
            status: self.status.map(pod_status),
        }
    }
}

fn pod_spec(spec: PodSpec) -> PodSpec {
    let stays = |c: &Container| c.restart_policy.as_deref() == Some("Always");
    let beside: Vec<Container> = spec
        .init_containers
        .into_iter()
        .flatten()
        .filter(stays)
        .filter_map(container)
        .collect();
    PodSpec {
        containers: spec.containers.into_iter().filter_map(container).collect(),
        init_containers: (!beside.is_empty()).then_some(beside),
        node_name: spec.node_name,
        host_network: spec.host_network.filter(|on| *on),
        service_account_name: spec.service_account_name,
        ..PodSpec::default()
    }
}

/// A container that has ports with names, since those alone are looked up.
fn container(container: Container) -> Option<Container> {
    let mut ports = container.ports.unwrap_or_default();
    ports.retain(|port| port.name.is_some());
    for port in &mut ports {
        (port.host_ip, port.host_port) = (None, None);
    }
    (!ports.is_empty()).then(|| Container {
        ports: Some(ports),
        restart_policy: container.restart_policy,
        ..Container::default()
    })
}

fn pod_status(status: PodStatus) -> PodStatus {
    let ready = status.conditions.into_iter().flatten().filter(|c| c.type_ == "Ready");
    let ready: Vec<PodCondition> = ready
        .map(|c| PodCondition {
            type_: c.type_,
            status: c.status,
            ..PodCondition::default()
        })
        .collect();
    PodStatus {
        phase: status.phase,
        pod_ip: status.pod_ip,
        pod_ips: status.pod_ips,
        start_time: status.start_time,
        conditions: (!ready.is_empty()).then_some(ready),
        ..PodStatus::default()
    }
}

impl Strip for Service {
    fn strip(self) -> Self {
        Self {
            metadata: ObjectMeta {
                annotations: annotations(self.metadata.annotations),
                ..identity(
                    self.metadata.namespace,
                    self.metadata.name,
                    self.metadata.uid,
                    self.metadata.creation_timestamp,
                    None,
                )
            },
            spec: self.spec.map(service_spec),
            status: None,
        }
    }
}

fn service_spec(spec: ServiceSpec) -> ServiceSpec {
    let ports = spec.ports.map(|ports| {
        let port = |port| ServicePort {
            node_port: None,
            ..port
        };
        ports.into_iter().map(port).collect()
    });
    ServiceSpec {
        type_: spec.type_,
        cluster_ip: spec.cluster_ip,
        cluster_ips: spec.cluster_ips,
        ports,
        selector: spec.selector,
        internal_traffic_policy: spec.internal_traffic_policy,
        traffic_distribution: spec.traffic_distribution,
        publish_not_ready_addresses: spec.publish_not_ready_addresses.filter(|on| *on),
        ip_families: spec.ip_families,
        session_affinity: spec.session_affinity.filter(|kind| kind == CLIENT_IP),
        ..ServiceSpec::default()
    }
}

impl Strip for EndpointSlice {
    fn strip(self) -> Self {
        Self {
            metadata: ObjectMeta {
                labels: only(self.metadata.labels, &SLICE),
                ..identity(self.metadata.namespace, self.metadata.name, None, None, None)
            },
            address_type: self.address_type,
            endpoints: self.endpoints.into_iter().map(endpoint).collect(),
            ports: self.ports,
        }
    }
}

fn endpoint(endpoint: Endpoint) -> Endpoint {
    Endpoint {
        addresses: endpoint.addresses,
        conditions: endpoint.conditions.map(|conditions| EndpointConditions {
            ready: conditions.ready,
            ..EndpointConditions::default()
        }),
        target_ref: endpoint.target_ref.map(|reference| ObjectReference {
            kind: reference.kind,
            namespace: reference.namespace,
            name: reference.name,
            uid: reference.uid,
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

impl Strip for Namespace {
    fn strip(self) -> Self {
        let metadata = self.metadata;
        Self {
            metadata: ObjectMeta {
                labels: metadata.labels,
                annotations: annotations(metadata.annotations),
                ..identity(None, metadata.name, metadata.uid, None, metadata.deletion_timestamp)
            },
            ..Self::default()
        }
    }
}

impl Strip for Node {
    fn strip(self) -> Self {
        Self {
            metadata: ObjectMeta {
                labels: only(self.metadata.labels, &PLACES),
                ..identity(None, self.metadata.name, self.metadata.uid, None, None)
            },
            ..Self::default()
        }
    }
}

impl Strip for ServiceAccount {
    fn strip(self) -> Self {
        Self {
            metadata: identity(self.metadata.namespace, self.metadata.name, None, None, None),
            ..Self::default()
        }
    }
}

type Time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn identity(
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
) -> ObjectMeta {
    ObjectMeta {
        namespace,
        name,
        uid,
        creation_timestamp,
        deletion_timestamp,
        ..ObjectMeta::default()
    }
}

fn annotations(all: Option<BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
    let mut kept = only(all, &ANNOTATIONS)?;
    if let Some(value) = kept.get_mut(PRESENCE) {
        *value = String::new();
    }
    Some(kept)
}

fn only(all: Option<BTreeMap<String, String>>, keys: &[&str]) -> Option<BTreeMap<String, String>> {
    let mut all = all?;
    all.retain(|key, _| keys.contains(&key.as_str()));
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use culvert_objects::{Directory, ObjectName, Objects};

    use super::*;
    use crate::model::{Model, Settings};

    fn stripped<T: Strip + Clone>(all: &mut BTreeMap<ObjectName, Arc<T>>) {
        for object in all.values_mut() {
            *object = Arc::new(T::clone(object).strip());
        }
    }

    /// Over the golden cases, which have every field that counts.
    #[test]
    fn nothing_that_the_model_reads_is_taken_away() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let model = |objects: &Objects| {
            let mut model = Model::new(Settings::default());
            model.update(objects);
            model.addresses().clone()
        };
        let mut cases = 0;
        for case in std::fs::read_dir(&golden).unwrap().map(|entry| entry.unwrap().path()) {
            if !case.is_dir() {
                continue;
            }
            cases += 1;
            let both = tempfile::TempDir::new().unwrap();
            std::fs::copy(golden.join("base.yaml"), both.path().join("base.yaml")).unwrap();
            std::fs::copy(case.join("input.yaml"), both.path().join("input.yaml")).unwrap();
            let mut objects: Objects = Objects::clone(&Directory::open(both.path()).unwrap().loaded().objects);
            let whole = model(&objects);
            stripped(&mut objects.namespaces);
            stripped(&mut objects.pods);
            stripped(&mut objects.services);
            stripped(&mut objects.service_accounts);
            stripped(&mut objects.endpoint_slices);
            stripped(&mut objects.nodes);
            let kept = model(&objects);
            for (name, address) in &whole {
                assert_eq!(kept.get(name), Some(address), "{}: {name}", case.display());
            }
            assert_eq!(kept.len(), whole.len(), "{}", case.display());
        }
        assert_eq!(cases, 12);
    }
}
