//! EndpointSlice: the addresses of a Service whose endpoints are written by hand, and the pods that it refers to.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint as WireEndpoint, EndpointPort, EndpointSlice as Wire};

use super::key::Key;
use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::labels::shared;
use crate::name::ObjectName;
use crate::pool::Pool;
use crate::problem::Problem;
use crate::values::{host_address, port_number};

/// Says whose endpoints a slice has.
const SERVICE: &str = "kubernetes.io/service-name";

static PORTS: LazyLock<Pool<[SlicePort]>> = LazyLock::new(Pool::new);

/// An endpoint slice: what is read of it. There is one for every hundred endpoints of every Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: ObjectName,
    /// The name of the Service that it belongs to, in its own namespace.
    pub service: Option<Arc<str>>,
    /// Whether its endpoints are names rather than addresses. None of them is kept then.
    pub is_of_names: bool,
    /// The ports that all its endpoints serve: those of TCP.
    pub ports: Arc<[SlicePort]>,
    /// Its endpoints.
    pub endpoints: Box<[Endpoint]>,
}

/// A TCP port of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlicePort {
    /// The name of the Service's port; may be empty.
    pub name: Arc<str>,
    /// Where the endpoints serve it; none means wherever.
    pub number: Option<u16>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Its addresses, of which all are the same host's.
    pub addresses: Box<[IpAddr]>,
    /// Whether it is ready; nothing said means that it is.
    pub ready: Option<bool>,
    /// Whether it serves; nothing said means that it does if it is ready.
    pub serving: Option<bool>,
    /// Whether it is about to end.
    pub terminating: Option<bool>,
    /// The pod that it refers to.
    pub pod: Option<Box<PodReference>>,
}

/// A reference to a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodReference {
    /// The pod's namespace, if it is said; else the slice's.
    pub namespace: Option<Arc<str>>,
    /// The pod's name.
    pub name: Box<str>,
    /// If it is said: that very pod, and not a later one of the same name.
    pub uid: Option<Box<str>>,
}

/// The Service that the slice belongs to, in the slice's namespace.
pub fn service_of_slice(name: &ObjectName, slice: &EndpointSlice) -> Option<ObjectName> {
    let service = Arc::clone(slice.service.as_ref()?);
    Some(ObjectName::new(Arc::clone(&name.namespace), service))
}

/// The pod that an endpoint of the slice refers to. A slice cannot reach into another namespace.
pub fn referenced_pod(slice: &ObjectName, endpoint: &Endpoint) -> Option<ObjectName> {
    let reference = endpoint.pod.as_ref()?;
    let namespace = reference.namespace.as_ref().unwrap_or(&slice.namespace);
    (*namespace == slice.namespace).then(|| ObjectName::new(Arc::clone(&slice.namespace), &*reference.name))
}

impl KindSpec for EndpointSlice {
    type Wire = Wire;

    fn with_defaults(wire: Wire) -> Wire {
        defaults::endpoint_slice(wire)
    }

    fn check(wire: &Wire) -> Result<(), Problem> {
        let family = wire.address_type.as_str();
        if !matches!(family, "IPv4" | "IPv6" | "FQDN") {
            return Err(Problem::of_field(
                "addressType",
                format!("{family:?} is none of IPv4, IPv6, FQDN"),
            ));
        }
        for (index, port) in wire.ports.iter().flatten().enumerate() {
            if let Some(number) = port.port {
                port_number(&format!("ports[{index}].port"), number)?;
            }
        }
        for (index, endpoint) in wire.endpoints.iter().enumerate() {
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

    fn keep(wire: Wire) -> Self {
        let service = wire.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE));
        let is_of_names = wire.address_type == "FQDN";
        let ports: Vec<SlicePort> = wire.ports.iter().flatten().filter_map(port).collect();
        let endpoints = wire.endpoints.into_iter().filter(|_| !is_of_names);
        Self {
            name: prune::namespaced(&wire.metadata),
            service: service.map(|service| shared(service)),
            is_of_names,
            ports: PORTS.share(ports.as_slice()),
            endpoints: endpoints.map(endpoint).collect(),
        }
    }

    fn name(&self) -> ObjectName {
        self.name.clone()
    }

    fn label(&self, _key: &str) -> Option<&str> {
        None
    }

    fn keys(&self, name: &ObjectName) -> Vec<Key> {
        let mut keys: Vec<Key> = service_of_slice(name, self).iter().map(Key::slice_of).collect();
        for endpoint in &self.endpoints {
            if let Some(pod) = referenced_pod(name, endpoint) {
                keys.push(Key::slice_to(&pod));
            } else {
                keys.extend(endpoint.addresses.iter().copied().map(Key::endpoint_at));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn heap(&self) -> usize {
        let reference = |pod: &PodReference| size_of_val(pod) + pod.name.len() + pod.uid.as_deref().map_or(0, str::len);
        let endpoint = |endpoint: &Endpoint| {
            size_of_val(endpoint) + size_of_val(&*endpoint.addresses) + endpoint.pod.as_deref().map_or(0, reference)
        };
        self.name.name.len() + self.endpoints.iter().map(endpoint).sum::<usize>()
    }
}

fn port(port: &EndpointPort) -> Option<SlicePort> {
    let is_tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    is_tcp.then(|| SlicePort {
        name: shared(port.name.as_deref().unwrap_or_default()),
        number: port.port.and_then(|number| u16::try_from(number).ok()),
    })
}

fn endpoint(wire: WireEndpoint) -> Endpoint {
    let conditions = wire.conditions.unwrap_or_default();
    let addresses = wire.addresses.iter().filter_map(|text| text.parse().ok());
    Endpoint {
        addresses: addresses.collect(),
        ready: conditions.ready,
        serving: conditions.serving,
        terminating: conditions.terminating,
        pod: wire.target_ref.and_then(pod_reference),
    }
}

fn pod_reference(reference: ObjectReference) -> Option<Box<PodReference>> {
    (reference.kind.as_deref() == Some("Pod")).then(|| {
        Box::new(PodReference {
            namespace: reference.namespace.map(|namespace| shared(&namespace)),
            name: reference.name.unwrap_or_default().into(),
            uid: reference.uid.map(Into::into),
        })
    })
}
