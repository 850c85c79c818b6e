//! EndpointSlice: the addresses of a Service whose endpoints are written by hand, and the pods that it refers to.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::key::Key;
use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::name::ObjectName;
use crate::problem::Problem;
use crate::values::{host_address, port_number};

/// Says whose endpoints a slice has.
const SERVICE: &str = "kubernetes.io/service-name";
/// Labels that are read.
const LABELS: [&str; 1] = [SERVICE];

/// The Service that the slice belongs to, in the slice's namespace.
pub fn service_of_slice(name: &ObjectName, slice: &EndpointSlice) -> Option<ObjectName> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE)?;
    Some(ObjectName::new(name.namespace.clone(), service.as_str()))
}

/// The pod that an endpoint of the slice refers to. A slice cannot reach into another namespace.
pub fn referenced_pod(slice: &ObjectName, endpoint: &Endpoint) -> Option<ObjectName> {
    let reference = endpoint
        .target_ref
        .as_ref()
        .filter(|r| r.kind.as_deref() == Some("Pod"))?;
    let namespace = reference.namespace.as_deref().unwrap_or(&slice.namespace);
    let name = reference.name.as_deref().unwrap_or_default();
    (*namespace == *slice.namespace).then(|| ObjectName::new(slice.namespace.clone(), name))
}

impl KindSpec for EndpointSlice {
    fn with_defaults(self) -> Self {
        defaults::endpoint_slice(self)
    }

    fn prune(mut self) -> Self {
        let labels = prune::only(self.metadata.labels.take(), &LABELS);
        Self {
            metadata: ObjectMeta {
                labels,
                ..prune::name(&mut self.metadata)
            },
            address_type: self.address_type,
            endpoints: self.endpoints.into_iter().map(endpoint).collect(),
            ports: self.ports,
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let family = self.address_type.as_str();
        if !matches!(family, "IPv4" | "IPv6" | "FQDN") {
            return Err(Problem::of_field(
                "addressType",
                format!("{family:?} is none of IPv4, IPv6, FQDN"),
            ));
        }
        for (index, port) in self.ports.iter().flatten().enumerate() {
            if let Some(number) = port.port {
                port_number(&format!("ports[{index}].port"), number)?;
            }
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let addresses = format!("endpoints[{index}].addresses");
            if endpoint.addresses.is_empty() {
                return Err(Problem::of_field(&addresses, "an endpoint without address".to_owned()));
            }
            for (nth, text) in endpoint.addresses.iter().enumerate().filter(|_| family != "FQDN") {
                let field = format!("{addresses}[{nth}]");
                if host_address(&field, text)?.is_ipv4() != (family == "IPv4") {
                    return Err(Problem::of_field(&field, format!("{text} is not an {family} address")));
                }
            }
        }
        Ok(())
    }

    fn keys(&self, name: &ObjectName) -> Vec<Key> {
        let mut keys: Vec<Key> = service_of_slice(name, self).iter().map(Key::slice_of).collect();
        for endpoint in &self.endpoints {
            if let Some(pod) = referenced_pod(name, endpoint) {
                keys.push(Key::slice_to(&pod));
            } else {
                let addresses = endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok());
                keys.extend(addresses.map(Key::slice_at));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn heap(&self) -> usize {
        let endpoint =
            |e: &Endpoint| size_of_val(e) + e.addresses.iter().map(|a| size_of_val(a) + a.len()).sum::<usize>();
        self.endpoints.iter().map(endpoint).sum()
    }
}

fn endpoint(endpoint: Endpoint) -> Endpoint {
    Endpoint {
        addresses: endpoint.addresses,
        conditions: endpoint.conditions.map(|conditions| EndpointConditions {
            ready: conditions.ready,
            serving: conditions.serving,
            terminating: conditions.terminating,
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
