//! The snapshot that event loops read.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use culvert_policy::Policy;
use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::{Service, Workload, cow::CowMap, service::Endpoints};
use crate::pod::Pod;

/// Everything that is known of the mesh at one moment. Clones share their contents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mesh {
    pub(super) generation: u64,
    /// Grows with each change of policies, or of which bind a workload.
    pub(super) policy_generation: u64,
    pub(super) on_demand: bool,
    pub(super) synced: bool,
    /// Ranges in which nothing is reached in plaintext because it is unknown.
    pub(super) ranges: Arc<[IpNet]>,
    /// Some of the ranges are the controller's word.
    pub(super) ranges_are_told: bool,
    /// What must be reached before anything is known, because the controller may depend on it: the API server.
    pub(super) bootstrap: Option<SocketAddr>,
    /// The proxy's own network.
    pub(super) network: Arc<str>,
    /// By uid.
    pub(super) workloads: CowMap<Arc<str>, Arc<Workload>>,
    /// By address in the proxy's own network, the likeliest owner first (see [`Workload::precedence`]).
    pub(super) owners: CowMap<IpAddr, Arc<[Arc<Workload>]>>,
    /// By `namespace/hostname`.
    pub(super) services: CowMap<Arc<str>, Arc<Service>>,
    /// By virtual address in the proxy's own network, by name.
    pub(super) virtual_addresses: CowMap<IpAddr, Arc<[Arc<Service>]>>,
    /// Virtual ranges, the longest prefix first.
    pub(super) virtual_ranges: Arc<Vec<(IpNet, Arc<Service>)>>,
    /// By `namespace/hostname`, whether the service is known or not.
    pub(super) endpoints: CowMap<Arc<str>, Arc<Endpoints>>,
    /// Addresses that were asked for and answered. With no owner, nobody in the mesh has them.
    pub(super) answered: CowMap<IpAddr, ()>,
    /// Addresses of resources that were refused and never had before, with the resource's name. Whoever is there may be
    /// in the mesh, so nothing goes there in plaintext.
    pub(super) refused_addresses: Arc<FxHashMap<IpAddr, Arc<str>>>,
    /// By `namespace/name`.
    pub(super) policies: CowMap<Arc<str>, Bound>,
    /// Those that bind by namespace, and under the empty name those that bind everywhere. Ordered by name.
    pub(super) scoped: Arc<FxHashMap<Arc<str>, Vec<Bound>>>,
}

/// A policy, or the knowledge that there is one which cannot be used.
#[derive(Clone, Debug)]
pub(super) enum Bound {
    Usable(Arc<Policy>),
    /// Received, refused, and never had before: whom it binds is denied, since nobody knows what it would have said.
    Refused(Arc<str>),
}

impl Mesh {
    /// Grows with each snapshot.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Grows with each change of policies, or of which bind a workload.
    pub(crate) fn policy_generation(&self) -> u64 {
        self.policy_generation
    }

    /// Whether what is used must be subscribed.
    pub(crate) fn on_demand(&self) -> bool {
        self.on_demand
    }

    /// The mesh's ranges, and whether they are the controller's word.
    pub(crate) fn ranges(&self) -> (&[IpNet], bool) {
        (&self.ranges, self.ranges_are_told)
    }

    /// Whether the controller has said everything that it says at first.
    pub(crate) fn synced(&self) -> bool {
        self.synced
    }

    /// The workload at an address, if the mesh knows one. None at a node's address: pods on the node's network share it with
    /// each other, with the node's own programs and with what is masqueraded, so whoever it is would be a guess.
    pub(crate) fn workload_at(&self, address: IpAddr) -> Option<Arc<Workload>> {
        let first = self.owners_of(address).first();
        first.filter(|workload| !workload.host_network).cloned()
    }

    /// Whether to ask who is at the address from which a connection comes, so that the next one's line and metrics can say
    /// it. Only for addresses of the mesh, and for peers that have proved to be of it (`proven`): strangers have as many
    /// addresses as they like.
    pub(crate) fn is_worth_asking(&self, source: IpAddr, proven: bool) -> bool {
        let source = source.to_canonical();
        self.synced
            && self.on_demand
            && !self.answered.contains(&source)
            && self.owners_of(source).is_empty()
            && (proven || self.is_in_ranges(source))
    }

    pub(super) fn is_in_ranges(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    /// What the mesh knows about a pod of this node.
    pub(crate) fn workload_of(&self, pod: &Pod) -> Option<&Arc<Workload>> {
        pod.addresses
            .iter()
            .flat_map(|address| self.owners_of(*address))
            .find(|workload| *workload.name == *pod.name && *workload.namespace == *pod.namespace)
    }

    pub(super) fn owners_of(&self, address: IpAddr) -> &[Arc<Workload>] {
        self.owners.get(&address.to_canonical()).map_or(&[], |owners| owners)
    }

    /// All workloads, in no order.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter().map(|(_, workload)| workload)
    }

    /// All services with the uids of their endpoints, in no order.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&Arc<Service>, Vec<&Arc<str>>)> {
        self.services.iter().map(|(name, service)| {
            let endpoints = self.endpoints.get(name).map_or(&[][..], |endpoints| &endpoints.list);
            (
                service,
                endpoints.iter().map(|endpoint| &endpoint.workload.uid).collect(),
            )
        })
    }

    /// All usable policies, in no order.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter().filter_map(|(_, bound)| match bound {
            Bound::Usable(policy) => Some(policy),
            Bound::Refused(_) => None,
        })
    }

    /// Policies that were refused and have no earlier version.
    pub(crate) fn refused_policies(&self) -> impl Iterator<Item = &Arc<str>> {
        self.policies.iter().filter_map(|(_, bound)| match bound {
            Bound::Usable(_) => None,
            Bound::Refused(name) => Some(name),
        })
    }

    /// How many workloads, services and policies there are.
    pub(crate) fn sizes(&self) -> [usize; 3] {
        [self.workloads.len(), self.services.len(), self.policies.len()]
    }
}
