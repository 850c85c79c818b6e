//! How objects are called on the wire.

use std::net::IpAddr;

use culvert_objects::ObjectName;

use super::settings::Settings;

/// The resource name of a pod's Workload.
pub(super) fn pod_uid(settings: &Settings, name: &ObjectName) -> String {
    format!("{}//Pod/{}/{}", settings.cluster_id, name.namespace, name.name)
}

/// The resource name of a Service.
pub(super) fn service_name(settings: &Settings, name: &ObjectName) -> String {
    format!("{}/{}", name.namespace, hostname(settings, name))
}

/// The name by which a Service is looked up.
pub(super) fn hostname(settings: &Settings, name: &ObjectName) -> String {
    format!("{}.{}.svc.{}", name.name, name.namespace, settings.cluster_domain)
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
