//! Pod: what it is called and labelled, where it runs, which addresses it has, and how it is.

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::key::Key;
use super::prune;
use super::spec::KindSpec;
use crate::claims;
use crate::defaults;
use crate::enrolment::{pod_addresses, service_account};
use crate::name::ObjectName;
use crate::problem::Problem;
use crate::values::{host_address, is_subdomain, port_number};

/// Label and value of the pods that serve a node, in the mesh's own namespace.
const AGENT: (&str, &str) = ("app.kubernetes.io/name", "culvert-node");

/// Whether the pod is labelled as a node's agent. Whether it is one depends on its namespace.
pub fn is_agent(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(AGENT.0))
        .is_some_and(|value| value == AGENT.1)
}

impl KindSpec for Pod {
    fn with_defaults(self) -> Self {
        defaults::pod(self)
    }

    fn prune(mut self) -> Self {
        let owners = self.metadata.owner_references.take().into_iter().flatten();
        let owner = owners.filter(|owner| owner.controller == Some(true)).take(1);
        let owners: Vec<OwnerReference> = owner
            .map(|owner| OwnerReference {
                api_version: String::new(),
                uid: String::new(),
                block_owner_deletion: None,
                ..owner
            })
            .collect();
        Self {
            metadata: ObjectMeta {
                labels: self.metadata.labels.take(),
                generate_name: self.metadata.generate_name.take(),
                owner_references: (!owners.is_empty()).then_some(owners),
                annotations: prune::annotations(self.metadata.annotations.take()),
                ..prune::identity(&mut self.metadata)
            },
            spec: self.spec.map(spec),
            status: self.status.map(status),
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let account = service_account(self);
        if !is_subdomain(account) {
            return Err(Problem::of_field(
                "spec.serviceAccountName",
                format!("{account:?} is not the name of a service account"),
            ));
        }
        let containers = self.spec.iter().flat_map(|spec| spec.containers.iter().enumerate());
        for (index, container) in containers {
            for (nth, port) in container.ports.iter().flatten().enumerate() {
                port_number(
                    &format!("spec.containers[{index}].ports[{nth}].containerPort"),
                    port.container_port,
                )?;
            }
        }
        let Some(status) = &self.status else { return Ok(()) };
        if let Some(ip) = &status.pod_ip {
            host_address("status.podIP", ip)?;
        }
        for (index, ip) in status.pod_ips.iter().flatten().enumerate() {
            host_address(&format!("status.podIPs[{index}].ip"), &ip.ip)?;
        }
        Ok(())
    }

    fn keys(&self, _name: &ObjectName) -> Vec<Key> {
        let addresses = claims::claimed_by_pod(self);
        let mut keys: Vec<Key> = addresses.into_iter().map(Key::pod_of).collect();
        if is_agent(self) {
            let node = self.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            keys.extend(node.map(Key::agent_on));
        }
        keys
    }

    fn heap(&self) -> usize {
        let containers = self
            .spec
            .iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let containers: usize = containers
            .map(|c| size_of_val(c) + c.ports.iter().flatten().map(size_of_val).sum::<usize>())
            .sum();
        let conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        containers + conditions.map(size_of_val).sum::<usize>() + 16 * pod_addresses(self).len()
    }
}

fn spec(spec: PodSpec) -> PodSpec {
    let stays = |c: &Container| c.restart_policy.as_deref() == Some("Always");
    let beside: Vec<Container> = spec
        .init_containers
        .into_iter()
        .flatten()
        .filter(stays)
        .filter_map(container)
        .collect();
    let mut containers: Vec<Container> = spec.containers.into_iter().filter_map(container).collect();
    containers.shrink_to_fit();
    PodSpec {
        containers,
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

fn status(status: PodStatus) -> PodStatus {
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
