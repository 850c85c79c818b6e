//! By what objects find one another, beside names.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::ObjectName;
use crate::persistent::hash_one;

/// An object is filed under its keys; who depends on objects asks by key, and is asked again when an object comes under
/// that key, changes, or goes.
///
/// A key is a hash of what it stands for. Two that are the same by chance make somebody look once too often, and no more:
/// who finds an object by key looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// The object of a name. Every object has this key.
    pub fn named(kind: &'static str, name: &ObjectName) -> Self {
        Self(hash_one(&("named", kind, name)))
    }

    /// Any object of a kind. Every object has this key.
    pub fn all(kind: &'static str) -> Self {
        Self(hash_one(&("all", kind)))
    }

    /// Services and policies of a namespace whose selector asks for this label.
    pub fn selector(namespace: &str, label: &str, value: &str) -> Self {
        Self(hash_one(&("selector", namespace, label, value)))
    }

    /// Objects of a kind that bind all pods of their namespace.
    pub fn all_in(kind: &'static str, namespace: &str) -> Self {
        Self(hash_one(&("all in", kind, namespace)))
    }

    /// Objects of a kind that bind some pods, and lie in a namespace.
    pub fn some_in(kind: &'static str, namespace: &str) -> Self {
        Self(hash_one(&("some in", kind, namespace)))
    }

    /// The pod of an address.
    pub fn pod_of(address: IpAddr) -> Self {
        Self(hash_one(&("pod of", address)))
    }

    /// The agent that serves a node.
    pub fn agent_on(node: &str) -> Self {
        Self(hash_one(&("agent on", node)))
    }

    /// Slices of a Service.
    pub fn slice_of(service: &ObjectName) -> Self {
        Self(hash_one(&("slice of", service)))
    }

    /// Objects of a namespace that would restrict somebody and are not enforced.
    pub fn restricting(namespace: &str) -> Self {
        Self(hash_one(&("restricting", namespace)))
    }

    /// Routes with a parent of this kind and name.
    pub fn parent(kind: &str, name: &ObjectName) -> Self {
        Self(hash_one(&("parent", kind, name)))
    }

    /// Routes that send requests, or copies of them, to a backend of this kind and name.
    pub fn backend(kind: &str, name: &ObjectName) -> Self {
        Self(hash_one(&("backend", kind, name)))
    }

    /// Policies for what stands behind an object of this kind and name.
    pub fn target(kind: &str, name: &ObjectName) -> Self {
        Self(hash_one(&("target", kind, name)))
    }

    /// Policies for any object of this kind.
    pub fn any_target(kind: &str) -> Self {
        Self(hash_one(&("any target", kind)))
    }

    /// Policies that name a provider of the mesh's configuration.
    pub fn provider(name: &str) -> Self {
        Self(hash_one(&("provider", name)))
    }

    /// A resource that was derived of objects.
    pub fn derived(name: &str) -> Self {
        Self(hash_one(&("derived", name)))
    }

    /// The Workloads of a Service that was derived, by its resource's name.
    pub fn workloads_of(service: &str) -> Self {
        Self(hash_one(&("workloads of", service)))
    }

    /// The derived Services that a waypoint is for, by the waypoint's own host.
    pub fn behind(host: &str) -> Self {
        Self(hash_one(&("behind", host)))
    }

    /// Slices with an endpoint that refers to a pod.
    pub fn slice_to(pod: &ObjectName) -> Self {
        Self(hash_one(&("slice to", pod)))
    }

    /// What names an endpoint by its address, rather than a pod: slices, ServiceEntries and the WorkloadEntry of it.
    pub fn endpoint_at(address: IpAddr) -> Self {
        Self(hash_one(&("endpoint at", address)))
    }

    /// Namespaces whose pods reach nothing but what the mesh knows.
    pub fn registry_only() -> Self {
        Self(hash_one(&"registry only"))
    }

    /// ServiceEntries with a host.
    pub fn host(host: &str) -> Self {
        Self(hash_one(&("host", host)))
    }

    /// VirtualServices and DestinationRules of a host, by its whole name.
    pub fn routed_host(host: &str) -> Self {
        Self(hash_one(&("routed host", host)))
    }

    /// VirtualServices and DestinationRules of a namespace that name a Service of it without a dot.
    pub fn routed_name(namespace: &str, name: &str) -> Self {
        Self(hash_one(&("routed name", namespace, name)))
    }

    /// VirtualServices and DestinationRules of hosts that begin with a star.
    pub fn routed_wildcards() -> Self {
        Self(hash_one(&"routed wildcards"))
    }

    /// VirtualServices that lead to a host, by its whole name.
    pub fn destination_host(host: &str) -> Self {
        Self(hash_one(&("destination host", host)))
    }

    /// VirtualServices of a namespace that lead to a Service of it, which they name without a dot.
    pub fn destination_name(namespace: &str, name: &str) -> Self {
        Self(hash_one(&("destination name", namespace, name)))
    }

    /// VirtualServices that leave something to this one.
    pub fn delegate(virtual_service: &ObjectName) -> Self {
        Self(hash_one(&("delegate", virtual_service)))
    }

    /// Services and ServiceEntries with a virtual address, as a range of one, or a range of them.
    pub fn virtual_range(range: IpNet) -> Self {
        Self(hash_one(&("virtual range", range.network(), range.prefix_len())))
    }

    /// The pods of a Gateway.
    pub fn gateway(gateway: &ObjectName) -> Self {
        Self(hash_one(&("gateway", gateway)))
    }
}
