//! Service: its addresses and ports, which pods it selects, and how they are chosen.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::key::Key;
use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::name::ObjectName;
use crate::problem::Problem;
use crate::values::{host_address, port_number};
use crate::waypoint;

/// The one kind of session affinity there is.
const CLIENT_IP: &str = "ClientIP";

/// The labels that the Service asks of its pods; none where it asks for nothing.
pub fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref().filter(|spec| !is_external(spec))?;
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// Whether its endpoints are written by hand.
pub fn has_no_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| !is_external(spec)) && selector(service).is_none()
}

/// Whether it is only a name for something elsewhere.
pub fn is_external(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName")
}

/// The addresses that are its own.
pub fn virtual_addresses(service: &Service) -> Vec<IpAddr> {
    let texts = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    texts.filter_map(|text| text.parse().ok()).collect()
}

impl KindSpec for Service {
    type Wire = Self;

    fn with_defaults(wire: Self) -> Self {
        defaults::service(wire)
    }

    fn check(wire: &Self) -> Result<(), Problem> {
        let Some(spec) = &wire.spec else { return Ok(()) };
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            let at = |field: &str| format!("spec.ports[{index}].{field}");
            port_number(&at("port"), port.port)?;
            if let Some(IntOrString::Int(target)) = port.target_port {
                port_number(&at("targetPort"), target)?;
            }
        }
        let none = |ip: &str| ip.is_empty() || ip == "None";
        if let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !none(ip)) {
            host_address("spec.clusterIP", ip)?;
        }
        let all = spec.cluster_ips.iter().flatten().enumerate();
        for (index, ip) in all.filter(|(_, ip)| !none(ip)) {
            host_address(&format!("spec.clusterIPs[{index}]"), ip)?;
        }
        Ok(())
    }

    fn keep(mut wire: Self) -> Self {
        Self {
            metadata: ObjectMeta {
                annotations: prune::annotations(wire.metadata.annotations.take()),
                labels: prune::only(wire.metadata.labels.take(), &waypoint::LABELS),
                deletion_timestamp: None,
                ..prune::identity(&mut wire.metadata)
            },
            spec: wire.spec.map(spec),
            status: None,
        }
    }

    fn name(&self) -> ObjectName {
        prune::namespaced(&self.metadata)
    }

    fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    fn label(&self, key: &str) -> Option<&str> {
        prune::label(&self.metadata, key)
    }

    /// A pod that it selects has all its labels, so that one of them is enough to find it.
    fn keys(&self, name: &ObjectName) -> Vec<Key> {
        let first = selector(self).and_then(|selector| selector.iter().next());
        let key = first.map(|(label, value)| Key::selector(&name.namespace, label, value));
        let own = virtual_addresses(self).into_iter();
        own.map(|address| Key::virtual_range(address.into()))
            .chain(key)
            .collect()
    }

    fn heap(&self) -> usize {
        let spec = self.spec.as_ref();
        let ports: usize = spec
            .iter()
            .flat_map(|s| s.ports.iter().flatten())
            .map(size_of_val)
            .sum();
        prune::metadata_bytes(&self.metadata) + ports + prune::map_bytes(spec.and_then(|s| s.selector.as_ref()))
    }
}

fn spec(spec: ServiceSpec) -> ServiceSpec {
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
