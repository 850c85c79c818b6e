//! Services: what they are; `forwarder.rs` carries connections to them where there is no mesh.

use crate::pod::Pod;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// What a service is to be: a builder.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ports: Vec<Value>,
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl ServiceSpec {
    /// A service with no port yet that selects nothing yet.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ports: Vec::new(),
            selector: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// Adds a TCP port with the same number as the pods' port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.port_to(port, port)
    }

    /// Adds a TCP port in front of another port of the pods.
    #[must_use]
    pub fn port_to(mut self, port: u16, target: u16) -> Self {
        self.ports.push(serde_json::json!({
            "name": format!("tcp-{port}"), "port": port, "targetPort": target, "protocol": "TCP",
        }));
        self
    }

    /// Adds a port as Kubernetes' JSON has it.
    #[must_use]
    pub fn port_object(mut self, port: Value) -> Self {
        self.ports.push(port);
        self
    }

    /// Selects the pods of its namespace that have this label.
    #[must_use]
    pub fn selector(mut self, key: &str, value: &str) -> Self {
        self.selector.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a label to the service itself.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// A service that exists.
#[derive(Debug, Clone)]
pub struct Service {
    pub(crate) spec: ServiceSpec,
    pub(crate) number: u8,
}

impl Service {
    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.spec.namespace
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The virtual IPv4 address.
    pub fn ip4(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, 0, self.number)
    }

    /// The virtual IPv6 address.
    pub fn ip6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0xc01e, 0xffff, 0, 0, 0, 0, self.number.into())
    }

    /// Both virtual addresses, IPv4 first: `spec.clusterIPs`.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ip4().into(), self.ip6().into()]
    }

    /// Whether `pod` backs the service.
    pub(crate) fn selects(&self, pod: &Pod) -> bool {
        let labels = &pod.0.spec.labels;
        pod.namespace() == self.spec.namespace
            && !self.spec.selector.is_empty()
            && self
                .spec
                .selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// What the forwarders need to know: where to listen, and which pods' ports are behind it.
pub(crate) fn table(services: &[Service], pods: &[Pod]) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let mut table = BTreeMap::new();
    for service in services {
        for port in &service.spec.ports {
            let Some(number) = port["port"].as_u64().and_then(|number| u16::try_from(number).ok()) else {
                continue;
            };
            for (family, address) in service.addresses().into_iter().enumerate() {
                let backing = pods.iter().filter(|pod| service.selects(pod));
                let ends = backing.filter_map(|pod| {
                    Some(SocketAddr::new(
                        pod.addresses()[family],
                        target_port(port, number, pod)?,
                    ))
                });
                table.insert(SocketAddr::new(address, number), ends.collect());
            }
        }
    }
    table
}

/// `targetPort`: a number, the name of a container's port, or the service's port where there is none.
fn target_port(port: &Value, number: u16, pod: &Pod) -> Option<u16> {
    let as_port = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    match &port["targetPort"] {
        Value::Null => Some(number),
        Value::String(name) => {
            let containers = pod.0.spec.containers.iter();
            let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
            ports
                .find(|port| port["name"] == name.as_str())
                .and_then(|port| as_port(&port["containerPort"]))
        }
        number => as_port(number),
    }
}
