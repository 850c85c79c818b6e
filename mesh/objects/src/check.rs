//! What an API server would refuse: names that would read as something else within a resource name or a SPIFFE ID,
//! addresses and ports that are none.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::document::Problem;
use crate::objects::Object;

/// Checks one object by itself.
pub(crate) fn object(object: &Object) -> Result<(), Problem> {
    let metadata = object.metadata();
    let name = metadata.name.as_deref().unwrap_or_default();
    let label = matches!(object, Object::Namespace(_) | Object::Service(_));
    if !(if label { is_label(name) } else { is_subdomain(name) }) {
        return Err(problem(
            "metadata.name",
            format!("{name:?} is not a name: lower-case letters, digits, '-'"),
        ));
    }
    if object.is_namespaced() {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        if !is_label(namespace) {
            return Err(problem(
                "metadata.namespace",
                format!("{namespace:?} is not the name of a namespace"),
            ));
        }
    }
    match object {
        Object::Pod(pod) => check_pod(pod),
        Object::Service(service) => check_service(service),
        Object::EndpointSlice(slice) => check_slice(slice),
        _ => Ok(()),
    }
}

fn check_pod(pod: &Pod) -> Result<(), Problem> {
    let account = crate::enrolment::service_account(pod);
    if !is_subdomain(account) {
        return Err(problem(
            "spec.serviceAccountName",
            format!("{account:?} is not the name of a service account"),
        ));
    }
    let Some(status) = &pod.status else { return Ok(()) };
    if let Some(ip) = &status.pod_ip {
        host_address("status.podIP", ip)?;
    }
    for (index, ip) in status.pod_ips.iter().flatten().enumerate() {
        host_address(&format!("status.podIPs[{index}].ip"), &ip.ip)?;
    }
    Ok(())
}

fn check_service(service: &Service) -> Result<(), Problem> {
    let Some(spec) = &service.spec else { return Ok(()) };
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
    for (index, ip) in spec
        .cluster_ips
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, ip)| !none(ip))
    {
        host_address(&format!("spec.clusterIPs[{index}]"), ip)?;
    }
    Ok(())
}

fn check_slice(slice: &EndpointSlice) -> Result<(), Problem> {
    let family = slice.address_type.as_str();
    if !matches!(family, "IPv4" | "IPv6" | "FQDN") {
        return Err(problem(
            "addressType",
            format!("{family:?} is none of IPv4, IPv6, FQDN"),
        ));
    }
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        if let Some(number) = port.port {
            port_number(&format!("ports[{index}].port"), number)?;
        }
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        for (nth, text) in endpoint.addresses.iter().enumerate().filter(|_| family != "FQDN") {
            let field = format!("endpoints[{index}].addresses[{nth}]");
            if host_address(&field, text)?.is_ipv4() != (family == "IPv4") {
                return Err(problem(&field, format!("{text} is not an {family} address")));
            }
        }
    }
    Ok(())
}

/// An address that one host or pod can have.
fn host_address(field: &str, text: &str) -> Result<IpAddr, Problem> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| problem(field, format!("{text:?} is not an IP address")))?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || mapped {
        return Err(problem(
            field,
            format!("{text} cannot be the address of a pod or service"),
        ));
    }
    Ok(address)
}

fn port_number(field: &str, number: i32) -> Result<(), Problem> {
    match u16::try_from(number) {
        Ok(1..) => Ok(()),
        _ => Err(problem(field, format!("{number} is not a port (1 to 65535)"))),
    }
}

fn problem(field: &str, message: String) -> Problem {
    Problem {
        line: None,
        field: Some(field.to_owned()),
        message,
    }
}

/// RFC 1123 label.
fn is_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// RFC 1123 subdomain: labels with dots between. Kubernetes limits the whole alone, not each label as DNS does.
fn is_subdomain(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.bytes().all(allowed);
    text.len() <= 253 && text.split('.').all(label)
}
