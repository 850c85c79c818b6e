//! The snapshot that event loops read.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use culvert_policy::Policy;
use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{Service, Workload, cow::CowMap, pod::Pod, service::Members};

/// Everything that is known of the mesh at one moment. Clones share their contents.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    pub(crate) generation: u64,
    /// Grows with each change of policies, or of which bind a workload.
    pub(crate) policy_generation: u64,
    pub(crate) on_demand: bool,
    pub(crate) synced: bool,
    /// Ranges in which nothing is reached in plaintext because it is unknown.
    pub(crate) ranges: Arc<[IpNet]>,
    /// Some of the ranges are the controller's word.
    pub(crate) ranges_are_told: bool,
    /// Namespaces whose pods reach nothing but what is known here.
    pub(crate) registry_only: Arc<FxHashSet<Box<str>>>,
    /// What must be reached before anything is known, because the controller may depend on it: the API server.
    pub(crate) bootstrap: Option<SocketAddr>,
    /// The proxy's own network.
    pub(crate) network: Arc<str>,
    /// By uid.
    pub(crate) workloads: CowMap<Arc<str>, Arc<Workload>>,
    /// By address in the proxy's own network, the likeliest owner first (see [`Workload::precedence`]).
    pub(crate) owners: CowMap<IpAddr, Arc<[Arc<Workload>]>>,
    /// By `namespace/hostname`.
    pub(crate) services: CowMap<Arc<str>, Arc<Service>>,
    /// By virtual address in the proxy's own network, by name.
    pub(crate) virtual_addresses: CowMap<IpAddr, Arc<[Arc<Service>]>>,
    /// Virtual ranges, the longest prefix first.
    pub(crate) virtual_ranges: Arc<Vec<(IpNet, Arc<Service>)>>,
    /// By `namespace/hostname`, whether the service is known or not.
    pub(crate) endpoints: CowMap<Arc<str>, Arc<Members>>,
    /// Addresses that were asked for and answered. With no owner, nobody in the mesh has them.
    pub(crate) answered: CowMap<IpAddr, ()>,
    /// By host name in lower case (`*.example.com` among them), by the resource's name.
    pub(crate) hosts: CowMap<Arc<str>, Arc<[Arc<Service>]>>,
    /// Host names, in lower case, that were asked for and answered. With no service, nobody in the mesh has them.
    pub(crate) answered_hosts: CowMap<Arc<str>, ()>,
    /// Addresses of resources that were refused and never had before, with the resource's name. Whoever is there may be
    /// in the mesh, so nothing goes there in plaintext.
    pub(crate) refused_addresses: Arc<FxHashMap<IpAddr, Arc<str>>>,
    /// By `namespace/name`.
    pub(crate) policies: CowMap<Arc<str>, Bound>,
    /// Those that bind by namespace, and under the empty name those that bind everywhere. Ordered by name.
    pub(crate) scoped: Arc<FxHashMap<Arc<str>, Vec<Bound>>>,
}

/// A policy, or the knowledge that there is one which cannot be used.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    Usable(Arc<Policy>),
    /// Received, refused, and never had before: whom it binds is denied, since nobody knows what it would have said.
    Refused(Arc<str>),
}

impl Mesh {
    /// Grows with each snapshot.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Grows with each change of policies, or of which bind a workload.
    pub fn policy_generation(&self) -> u64 {
        self.policy_generation
    }

    /// Whether what is used must be subscribed.
    pub fn on_demand(&self) -> bool {
        self.on_demand
    }

    /// The mesh's ranges, and whether they are the controller's word.
    pub fn ranges(&self) -> (&[IpNet], bool) {
        (&self.ranges, self.ranges_are_told)
    }

    /// Namespaces whose pods reach nothing but what is known here, in no order.
    pub fn registry_only(&self) -> impl Iterator<Item = &str> {
        self.registry_only.iter().map(|namespace| &**namespace)
    }

    /// Whether the controller has said everything that it says at first.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// The workload at an address, if the mesh knows one. None at a node's address: pods on the node's network share it with
    /// each other, with the node's own programs and with what is masqueraded, so whoever it is would be a guess.
    pub fn workload_at(&self, address: IpAddr) -> Option<Arc<Workload>> {
        let first = self.owners_of(address).first();
        first.filter(|workload| !workload.host_network).cloned()
    }

    /// Whether to ask who is at the address from which a connection comes, so that the next one's line and metrics can say
    /// it. Only for addresses of the mesh, and for peers that have proved to be of it (`proven`): strangers have as many
    /// addresses as they like.
    pub fn is_worth_asking(&self, source: IpAddr, proven: bool) -> bool {
        let source = source.to_canonical();
        self.synced
            && self.on_demand
            && !self.answered.contains(&source)
            && self.owners_of(source).is_empty()
            && (proven || self.is_in_ranges(source))
    }

    pub(crate) fn is_in_ranges(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    /// What the mesh knows about a pod of this node.
    pub fn workload_of(&self, pod: &Pod) -> Option<&Arc<Workload>> {
        pod.addresses
            .iter()
            .flat_map(|address| self.owners_of(*address))
            .find(|workload| *workload.name == *pod.name && *workload.namespace == *pod.namespace)
    }

    pub(crate) fn owners_of(&self, address: IpAddr) -> &[Arc<Workload>] {
        self.owners.get(&address.to_canonical()).map_or(&[], |owners| owners)
    }

    /// All workloads, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter().map(|(_, workload)| workload)
    }

    /// All services with the uids of their endpoints, in no order.
    pub fn services(&self) -> impl Iterator<Item = (&Arc<Service>, Vec<&Arc<str>>)> {
        self.services.iter().map(|(name, service)| {
            let endpoints = self.endpoints.get(name).map_or(&[][..], |endpoints| &endpoints.list);
            (
                service,
                endpoints.iter().map(|endpoint| &endpoint.workload.uid).collect(),
            )
        })
    }

    /// All usable policies, in no order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter().filter_map(|(_, bound)| match bound {
            Bound::Usable(policy) => Some(policy),
            Bound::Refused(_) => None,
        })
    }

    /// Policies that were refused and have no earlier version.
    pub fn refused_policies(&self) -> impl Iterator<Item = &Arc<str>> {
        self.policies.iter().filter_map(|(_, bound)| match bound {
            Bound::Usable(_) => None,
            Bound::Refused(name) => Some(name),
        })
    }

    /// How many workloads, services and policies there are.
    pub fn sizes(&self) -> [usize; 3] {
        [self.workloads.len(), self.services.len(), self.policies.len()]
    }
}
