//! Services, reachable without kube-proxy: see the picture in `lib.rs`.

use crate::pod::Pod;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What a service is to be: a builder.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ports: Vec<serde_json::Value>,
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

    /// Adds a TCP port that is the pods' port too.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.port_to(port, port)
    }

    /// Adds a TCP port in front of another port of the pods: works in the mesh alone.
    #[must_use]
    pub fn port_to(mut self, port: u16, target: u16) -> Self {
        self.ports.push(serde_json::json!({
            "name": format!("tcp-{port}"), "port": port, "targetPort": target, "protocol": "TCP",
        }));
        self
    }

    /// Adds a port as Kubernetes' JSON has it.
    #[must_use]
    pub fn port_object(mut self, port: serde_json::Value) -> Self {
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
