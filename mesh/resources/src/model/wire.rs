//! How objects are called on the wire.

use std::net::IpAddr;

use culvert_objects::ObjectName;

use super::settings::Settings;

/// The resource name of a pod's Workload.
pub(super) fn pod_uid(settings: &Settings, name: &ObjectName) -> String {
    format!("{}//Pod/{}/{}", settings.cluster_id, name.namespace, name.name)
}

/// The resource name of a WorkloadEntry's Workload.
pub(super) fn workload_entry_uid(settings: &Settings, name: &ObjectName) -> String {
    let (cluster, namespace, name) = (&settings.cluster_id, &name.namespace, &name.name);
    format!("{cluster}/networking.istio.io/WorkloadEntry/{namespace}/{name}")
}

/// The resource name of the Workload of an endpoint that a ServiceEntry lists.
pub(super) fn service_entry_uid(settings: &Settings, name: &ObjectName, host: &str) -> String {
    let (cluster, namespace, name) = (&settings.cluster_id, &name.namespace, &name.name);
    format!("{cluster}/networking.istio.io/ServiceEntry/{namespace}/{name}/{host}")
}

/// The resource name of a host that is served in a namespace.
pub(super) fn host_name(namespace: &str, host: &str) -> String {
    format!("{namespace}/{host}")
}

/// A workload's trust domain; the usual one goes without saying.
pub(super) fn trust_domain(settings: &Settings) -> String {
    match settings.trust_domain.as_str() {
        "cluster.local" => String::new(),
        other => other.to_owned(),
    }
}

/// The resource name of a Service.
pub(super) fn service_name(settings: &Settings, name: &ObjectName) -> String {
    host_name(&name.namespace, &hostname(settings, name))
}

/// The Service of a resource's name; none if it is no Service's.
pub(super) fn service_of(settings: &Settings, resource: &str) -> Option<ObjectName> {
    let (namespace, host) = resource.split_once('/')?;
    let rest = host.strip_suffix(&*settings.cluster_domain)?.strip_suffix(".svc.")?;
    let name = rest.strip_suffix(namespace)?.strip_suffix('.')?;
    Some(ObjectName::new(namespace, name))
}

/// The name by which a Service is looked up.
pub(super) fn hostname(settings: &Settings, name: &ObjectName) -> String {
    format!("{}.{}.svc.{}", name.name, name.namespace, settings.cluster_domain)
}

/// The Service of Kubernetes whose name a host is.
pub(super) fn object_of_host(settings: &Settings, host: &str) -> Option<ObjectName> {
    let name = host
        .strip_suffix(settings.cluster_domain.as_str())?
        .strip_suffix(".svc.")?;
    let (service, namespace) = name.split_once('.')?;
    let is_plain = !service.is_empty() && !namespace.is_empty() && !namespace.contains('.') && service != "*";
    is_plain.then(|| ObjectName::new(namespace, service))
}

/// An address as the wire has it: four or sixteen bytes.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A port number; what is none was refused when the object was read.
pub(super) fn port(port: i32) -> u32 {
    u16::try_from(port).unwrap_or_default().into()
}
