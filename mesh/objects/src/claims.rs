//! The addresses that are an object's own.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use crate::kinds::Object;

/// The addresses that nobody else may have while the object is in force.
pub(crate) fn addresses(object: &Object) -> Vec<IpAddr> {
    match object {
        Object::Service(service) => service_addresses(service),
        Object::Pod(pod) => pod.own_addresses().to_vec(),
        _ => Vec::new(),
    }
}

/// The virtual addresses of a Service.
pub(crate) fn service_addresses(service: &Service) -> Vec<IpAddr> {
    let texts = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    texts.filter_map(|text| text.parse().ok()).collect()
}
