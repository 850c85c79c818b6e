//! Pod: what it is called and labelled, where it runs, which addresses it has, and how it is.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod as Wire, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

use super::key::Key;
use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::enrolment::{PodFacts, pod_addresses, service_account};
use crate::labels::{Labels, shared};
use crate::name::ObjectName;
use crate::pool::Pool;
use crate::problem::Problem;
use crate::values::{host_address, is_subdomain, port_number};
use crate::waypoint;

/// Label and value of the pods that serve a node, in the mesh's own namespace.
const AGENT: (&str, &str) = ("app.kubernetes.io/name", "culvert-node");

static PORTS: LazyLock<Pool<[NamedPort]>> = LazyLock::new(Pool::new);
static OWNERS: LazyLock<Pool<Owner>> = LazyLock::new(Pool::new);

/// A pod: what is read of it. There are more of them than of all other objects together, so what several have in common is
/// shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Namespace and name.
    pub name: ObjectName,
    /// Tells it from others of the same name, before and after.
    pub uid: Box<str>,
    /// All its labels.
    pub labels: Labels,
    /// Those annotations that are read.
    pub annotations: Labels,
    /// The service account that it runs as.
    pub service_account: Arc<str>,
    /// The node that it runs on; empty before that is decided.
    pub node: Arc<str>,
    /// The primary address first. Empty before it has one.
    pub addresses: Box<[IpAddr]>,
    /// Its containers' TCP ports.
    pub ports: Arc<[NamedPort]>,
    /// What keeps it running, as a ReplicaSet.
    pub owner: Option<Arc<Owner>>,
    /// Since when it runs, or else since when it is there.
    pub since: Option<Time>,
    /// Whether its name was generated, so that it is one of several.
    pub is_generated: bool,
    /// Whether it shares its node's network.
    pub is_host_network: bool,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// Whether all its containers have ended for good.
    pub has_ended: bool,
    /// Whether its condition `Ready` is true.
    pub is_ready: bool,
}

/// A TCP port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedPort {
    /// Its name within the pod; empty if it has none.
    pub name: Arc<str>,
    /// 1 to 65535.
    pub number: u16,
}

/// The controller of a pod, by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// As in YAML.
    pub kind: Box<str>,
    /// Name within the pod's namespace.
    pub name: Box<str>,
}

/// Whether the pod is labelled as a node's agent. Whether it is one depends on its namespace.
pub fn is_agent(pod: &Pod) -> bool {
    pod.labels.get(AGENT.0) == Some(AGENT.1)
}

impl Pod {
    /// The Gateway that it is a proxy of, if it is one's.
    pub fn gateway(&self) -> Option<ObjectName> {
        let name = self.labels.get(waypoint::GATEWAY).filter(|name| !name.is_empty())?;
        Some(ObjectName::new(&*self.name.namespace, name))
    }

    /// The addresses that are its own: pods on the host's network share theirs, and pods that have ended have given them back.
    pub fn own_addresses(&self) -> &[IpAddr] {
        if self.is_host_network || self.has_ended {
            return &[];
        }
        &self.addresses
    }
}

impl From<&Owner> for Arc<Owner> {
    fn from(owner: &Owner) -> Self {
        Self::new(owner.clone())
    }
}

impl KindSpec for Pod {
    type Wire = Wire;

    fn with_defaults(wire: Wire) -> Wire {
        defaults::pod(wire)
    }

    fn check(wire: &Wire) -> Result<(), Problem> {
        let account = service_account(wire);
        if !is_subdomain(account) {
            return Err(Problem::of_field(
                "spec.serviceAccountName",
                format!("{account:?} is not the name of a service account"),
            ));
        }
        let containers = wire.spec.iter().flat_map(|spec| spec.containers.iter().enumerate());
        for (index, container) in containers {
            for (nth, port) in container.ports.iter().flatten().enumerate() {
                port_number(
                    &format!("spec.containers[{index}].ports[{nth}].containerPort"),
                    port.container_port,
                )?;
            }
        }
        let Some(status) = &wire.status else { return Ok(()) };
        if let Some(ip) = &status.pod_ip {
            host_address("status.podIP", ip)?;
        }
        for (index, ip) in status.pod_ips.iter().flatten().enumerate() {
            host_address(&format!("status.podIPs[{index}].ip"), &ip.ip)?;
        }
        Ok(())
    }

    fn keep(wire: Wire) -> Self {
        let addresses = pod_addresses(&wire).into();
        let (metadata, spec, status) = (wire.metadata, wire.spec.as_ref(), wire.status.as_ref());
        let text = |of: Option<&String>| shared(of.map(String::as_str).unwrap_or_default());
        let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
        let started = status.and_then(|status| status.start_time.clone());
        let phase = status.and_then(|status| status.phase.as_deref());
        Self {
            name: prune::namespaced(&metadata),
            uid: metadata.uid.unwrap_or_default().into(),
            labels: Labels::of(metadata.labels.as_ref()),
            annotations: prune::kept_annotations(metadata.annotations),
            service_account: text(spec.and_then(|spec| spec.service_account_name.as_ref())),
            node: text(spec.and_then(|spec| spec.node_name.as_ref())),
            addresses,
            ports: PORTS.share(spec.map(ports).unwrap_or_default().as_slice()),
            owner: metadata.owner_references.iter().flatten().find_map(owner),
            since: started.or(metadata.creation_timestamp),
            is_generated: metadata.generate_name.is_some_and(|name| !name.is_empty()),
            is_host_network: spec.is_some_and(|spec| spec.host_network == Some(true)),
            is_deleted: metadata.deletion_timestamp.is_some(),
            has_ended: matches!(phase, Some("Succeeded" | "Failed")),
            is_ready: conditions
                .into_iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        }
    }

    fn name(&self) -> ObjectName {
        self.name.clone()
    }

    fn uid(&self) -> Option<&str> {
        Some(&self.uid)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    fn keys(&self, _name: &ObjectName) -> Vec<Key> {
        let mut keys: Vec<Key> = self.own_addresses().iter().copied().map(Key::pod_of).collect();
        if is_agent(self) && !self.node.is_empty() {
            keys.push(Key::agent_on(&self.node));
        }
        keys.extend(self.gateway().as_ref().map(Key::gateway));
        keys
    }

    fn heap(&self) -> usize {
        self.name.name.len() + self.uid.len() + size_of_val(&*self.addresses)
    }
}

impl PodFacts for Pod {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key)
    }

    fn is_host_network(&self) -> bool {
        self.is_host_network
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.to_vec()
    }

    fn service_account(&self) -> &str {
        &self.service_account
    }
}

/// Those of the containers first, then those of the containers that start before them and stay.
fn ports(spec: &PodSpec) -> Vec<NamedPort> {
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let beside = spec.init_containers.iter().flatten().filter(stays);
    let all = spec.containers.iter().chain(beside);
    let all = all.flat_map(|container| container.ports.iter().flatten());
    all.filter_map(tcp_port).collect()
}

fn tcp_port(port: &ContainerPort) -> Option<NamedPort> {
    port.protocol
        .as_deref()
        .is_none_or(|protocol| protocol == "TCP")
        .then_some(())?;
    Some(NamedPort {
        name: shared(port.name.as_deref().unwrap_or_default()),
        number: u16::try_from(port.container_port).ok()?,
    })
}

fn owner(reference: &OwnerReference) -> Option<Arc<Owner>> {
    (reference.controller == Some(true)).then(|| {
        OWNERS.share(&Owner {
            kind: reference.kind.as_str().into(),
            name: reference.name.as_str().into(),
        })
    })
}
