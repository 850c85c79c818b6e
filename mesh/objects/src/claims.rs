//! The addresses that are an object's own.

use std::net::IpAddr;

use crate::kinds::{Object, virtual_addresses};

/// The addresses that nobody else may have while the object is in force.
pub(crate) fn addresses(object: &Object) -> Vec<IpAddr> {
    match object {
        Object::Service(service) => virtual_addresses(service),
        Object::Pod(pod) => pod.own_addresses().to_vec(),
        _ => Vec::new(),
    }
}
