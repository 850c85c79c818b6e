//! Control's own, changing copy of the mesh, from which snapshots are taken.

mod services;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use culvert_policy::{Policy, Scope};
use culvert_proto::{security, workload as proto};
use ipnet::IpNet;
use prost::Message as _;

use crate::{
    Mesh, MeshChange, ResourceError, Service, Workload,
    mesh::Bound,
    parse::Parser,
    service::{Member, Members, single},
};

/// How many changes pass between two searches for texts that nothing uses any more.
const SWEEP_EVERY: u32 = 10_000;

/// Takes resources in, one at a time, and keeps the indexes of a [`Mesh`].
#[derive(Debug)]
pub struct Store {
    mesh: Mesh,
    parser: Parser,
    changes: u32,
    /// Since the last snapshot.
    change: MeshChange,
}

impl Store {
    /// An empty store. `network` is the proxy's own, `trust_domain` that of workloads that do not name theirs.
    pub fn new(network: &str, trust_domain: &str, on_demand: bool) -> Self {
        let mesh = Mesh {
            on_demand,
            network: network.into(),
            ..Mesh::default()
        };
        Self {
            mesh,
            parser: Parser::new(trust_domain),
            changes: 0,
            change: MeshChange::default(),
        }
    }

    /// From now on, unknown addresses in these ranges are waited for instead of being taken for outside the mesh. `told` if
    /// some are the controller's word.
    pub fn claim(&mut self, ranges: &[IpNet], told: bool) {
        self.mesh.ranges = ranges.into();
        self.mesh.ranges_are_told = told;
        self.change.everything = true;
    }

    /// From now on, pods of these namespaces reach nothing but what is known.
    pub fn set_registry_only(&mut self, namespaces: impl IntoIterator<Item = String>) {
        let namespaces = namespaces.into_iter().map(String::into_boxed_str).collect();
        self.mesh.registry_only = Arc::new(namespaces);
        self.change.everything = true;
    }

    /// This may be reached before anything is known.
    pub fn set_bootstrap(&mut self, destination: Option<SocketAddr>) {
        self.mesh.bootstrap = destination;
    }

    /// Addresses of which something else is known than at the last snapshot.
    pub fn changed_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.change.addresses.iter().copied()
    }

    /// Where the next snapshot differs from the last one. Begins anew.
    pub fn take_change(&mut self) -> MeshChange {
        std::mem::take(&mut self.change)
    }

    /// The present state, under the next generation.
    pub fn snapshot(&mut self) -> Arc<Mesh> {
        if self.changes >= SWEEP_EVERY {
            self.changes = 0;
            self.parser.shared.sweep();
        }
        self.mesh.generation += 1;
        Arc::new(self.mesh.clone())
    }

    /// From now on decisions are made: the controller's first answers are in.
    pub fn set_synced(&mut self) {
        self.mesh.synced = true;
        self.change.everything = true;
    }

    /// An ask for this address has been answered, with resources or by saying that there are none.
    pub fn set_answered(&mut self, address: IpAddr) {
        self.mesh.answered.insert(address, ());
        self.change.addresses.insert(address);
    }

    /// Host names, in lower case, of which something else is known than at the last snapshot.
    pub fn changed_hosts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.change.hosts.iter()
    }

    /// An ask for this host name, in lower case, has been answered, with resources or by saying that there are none.
    pub fn set_host_answered(&mut self, host: &Arc<str>) {
        self.mesh.answered_hosts.insert(Arc::clone(host), ());
        self.change.hosts.insert(Arc::clone(host));
    }

    /// The host name is no longer subscribed, so what is unknown of it has to be asked for again.
    pub fn forget_host(&mut self, host: &str) {
        self.mesh.answered_hosts.remove(host);
    }

    /// Whether a service has the host name, which is in lower case.
    pub fn knows_host(&self, host: &str) -> bool {
        self.mesh.hosts.contains(host)
    }

    /// The address is no longer subscribed, so what is unknown of it has to be asked for again.
    pub fn forget_answer(&mut self, address: IpAddr) {
        self.mesh.answered.remove(&address);
    }

    /// The resources at `gone` addresses and of `gone_hosts`, and what those brought, that no address and no host name leads to
    /// which is still subscribed. Not those that the controller sends by itself (`is_sent`).
    pub fn unsubscribed(
        &self,
        (gone, gone_hosts): (&[IpAddr], &[Arc<str>]),
        is_subscribed: impl Fn(IpAddr) -> bool,
        is_host_subscribed: impl Fn(&str) -> bool,
        is_sent: impl Fn(&Workload) -> bool,
    ) -> Vec<Arc<str>> {
        let mesh = &self.mesh;
        let stays = |service: &Service| {
            let own = service.addresses.iter().filter(|(network, _)| *network == mesh.network);
            let mut addresses = own.map(|(_, net)| single(net));
            // Ranges and wildcards are asked for all at once.
            addresses.any(|address| address.is_none_or(&is_subscribed))
                || service.hostname.starts_with("*.")
                || is_host_subscribed(&service.hostname.to_ascii_lowercase())
        };
        let at_addresses = gone.iter().filter_map(|address| mesh.virtual_addresses.get(address));
        let of_hosts = gone_hosts.iter().filter_map(|host| mesh.hosts.get(host));
        let mut services: Vec<&Arc<Service>> = at_addresses
            .chain(of_hosts)
            .flat_map(|services| services.iter())
            .filter(|service| !stays(service))
            .collect();
        services.sort_by(|one, other| one.name.cmp(&other.name));
        services.dedup_by(|one, other| one.name == other.name);
        let goes = |name: &Arc<str>| services.binary_search_by(|service| service.name.cmp(name)).is_ok();
        let endpoints = services
            .iter()
            .filter_map(|service| mesh.endpoints.get(&service.name))
            .flat_map(|endpoints| &endpoints.list)
            .map(|endpoint| &endpoint.workload);
        let mut workloads: Vec<&Arc<Workload>> = gone
            .iter()
            .flat_map(|address| mesh.owners_of(*address))
            .chain(endpoints)
            .filter(|workload| {
                let held = |name: &Arc<str>| mesh.services.contains(name) && !goes(name);
                !is_sent(workload)
                    && !workload.addresses.iter().any(|address| is_subscribed(*address))
                    && !workload.services.iter().any(|membership| held(&membership.service))
            })
            .collect();
        workloads.sort_by(|one, other| one.uid.cmp(&other.uid));
        workloads.dedup_by(|one, other| one.uid == other.uid);
        let names = services.iter().map(|service| &service.name);
        names
            .chain(workloads.iter().map(|workload| &workload.uid))
            .cloned()
            .collect()
    }

    /// Whether anything has the address.
    pub fn knows(&self, address: IpAddr) -> bool {
        !self.mesh.owners_of(address).is_empty() || self.mesh.virtual_addresses.contains(&address)
    }

    /// Takes in a resource of type `istio.workload.Address`, as new or in place of the one with its name.
    ///
    /// # Errors
    /// When something is wrong with it. Then an earlier version stays in force; where there was none, nothing is sent in
    /// clear to its addresses until it is replaced or removed.
    pub fn put_address(&mut self, name: &str, bytes: &[u8]) -> Result<(), ResourceError> {
        self.changes += 1;
        let address = proto::Address::decode(bytes).map_err(|error| ResourceError::Decode(error.to_string()))?;
        match address.r#type {
            Some(proto::address::Type::Workload(wire)) => match self.parser.workload(name, &wire) {
                Ok(workload) => {
                    self.accept(name);
                    self.put_workload(workload);
                }
                Err(error) => {
                    // What is known to stand outside may be reached in plaintext, whatever else is wrong with it.
                    let outside = wire.tunnel_protocol == proto::TunnelProtocol::None as i32;
                    if !outside && *wire.network == *self.mesh.network && !self.mesh.workloads.contains(name) {
                        self.refuse(name, wire.addresses.iter().map(|address| &**address));
                    }
                    return Err(error);
                }
            },
            Some(proto::address::Type::Service(wire)) => match self.parser.service(name, &wire) {
                Ok(service) => {
                    self.accept(name);
                    self.remove_service(name);
                    self.put_service(service);
                }
                Err(error) => {
                    self.change.hosts.insert(wire.hostname.to_ascii_lowercase().into());
                    if !self.mesh.services.contains(name) {
                        let own = wire.addresses.iter().filter(|one| *one.network == *self.mesh.network);
                        let single: Vec<_> = own
                            .filter(|one| one.length.is_none())
                            .map(|one| &*one.address)
                            .collect();
                        self.refuse(name, single);
                    }
                    return Err(error);
                }
            },
            None => return Err(ResourceError::Empty),
        }
        Ok(())
    }

    /// Forgets a workload or service. A name that is not known is no error.
    pub fn remove_address(&mut self, name: &str) {
        self.changes += 1;
        self.accept(name);
        if let Some(workload) = self.mesh.workloads.remove(name) {
            self.unlink(&workload);
        } else {
            self.remove_service(name);
        }
    }

    /// Remembers where a resource is that cannot be used. What is no address is left out: nothing can be sent to it.
    fn refuse<'a>(&mut self, name: &str, addresses: impl IntoIterator<Item = &'a [u8]>) {
        self.accept(name);
        let name: Arc<str> = name.into();
        let parsed = addresses.into_iter().filter_map(|bytes| {
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
        });
        let refused = Arc::make_mut(&mut self.mesh.refused_addresses);
        for address in parsed.map(|address| address.to_canonical()) {
            self.change.addresses.insert(address);
            refused.insert(address, Arc::clone(&name));
        }
    }

    /// Forgets that a resource was refused.
    fn accept(&mut self, name: &str) {
        if self.mesh.refused_addresses.values().any(|refused| **refused == *name) {
            let changed = &mut self.change.addresses;
            Arc::make_mut(&mut self.mesh.refused_addresses).retain(|address, refused| {
                let stays = **refused != *name;
                if !stays {
                    changed.insert(*address);
                }
                stays
            });
        }
    }

    /// Takes in a resource of type `istio.security.Authorization`.
    ///
    /// # Errors
    /// When it cannot be enforced. An earlier version stays in force; where there was none, whom it would bind is denied
    /// until it is replaced or removed.
    pub fn put_policy(&mut self, name: &str, bytes: &[u8]) -> Result<(), ResourceError> {
        self.changes += 1;
        let (wire, refused_scope);
        let parsed = match security::Authorization::decode(bytes) {
            Ok(decoded) => {
                wire = decoded;
                // A scope that is unknown here may be a wider one.
                refused_scope = Scope::from_proto(wire.scope).unwrap_or(Scope::Global);
                let own = format!("{}/{}", wire.namespace, wire.name);
                if own == name {
                    Policy::from_proto_sharing(&wire, &mut self.parser.shared).map_err(Into::into)
                } else {
                    Err(ResourceError::Name(own))
                }
            }
            Err(error) => {
                refused_scope = Scope::Global;
                Err(ResourceError::Decode(error.to_string()))
            }
        };
        let namespace = name.split_once('/').map_or(name, |(namespace, _)| namespace);
        match parsed {
            Ok(policy) => {
                let scope = policy.scope();
                self.put_bound(name, scope, namespace, Bound::Usable(Arc::new(policy)));
                Ok(())
            }
            Err(error) => {
                if !matches!(self.mesh.policies.get(name), Some(Bound::Usable(_))) {
                    self.put_bound(name, refused_scope, namespace, Bound::Refused(name.into()));
                }
                Err(error)
            }
        }
    }

    /// Forgets a policy. A name that is not known is no error.
    pub fn remove_policy(&mut self, name: &str) {
        if self.mesh.policies.remove(name).is_some() {
            self.policies_changed();
            let scoped = Arc::make_mut(&mut self.mesh.scoped);
            scoped.retain(|_, bound| {
                bound.retain(|one| **one.name() != *name);
                !bound.is_empty()
            });
        }
    }

    fn put_bound(&mut self, name: &str, scope: Scope, namespace: &str, bound: Bound) {
        self.remove_policy(name);
        let key = match scope {
            Scope::Global => Some(""),
            Scope::Namespace => Some(namespace),
            Scope::WorkloadSelector => None,
        };
        if let Some(key) = key {
            let list = Arc::make_mut(&mut self.mesh.scoped).entry(key.into()).or_default();
            let place = list.partition_point(|one| **one.name() < *name);
            list.insert(place, bound.clone());
        }
        self.mesh.policies.insert(Arc::clone(bound.name()), bound);
        self.policies_changed();
    }

    fn policies_changed(&mut self) {
        self.mesh.policy_generation += 1;
        self.change.policies = true;
    }

    fn put_workload(&mut self, mut workload: Workload) {
        let old = self.mesh.workloads.remove(&*workload.uid);
        let bound = old.as_ref().map(|old| (&old.policies[..], old.application_tunnel));
        if bound.unwrap_or_default() != (&workload.policies[..], workload.application_tunnel) {
            self.policies_changed();
        }
        if let Some(old) = old {
            workload.open = old.open.clone();
            workload.trouble = old.trouble.clone();
            self.unlink(&old);
        }
        self.change.addresses.extend(&workload.addresses);
        let workload = Arc::new(workload);
        if workload.network == self.mesh.network {
            for address in &workload.addresses {
                let owners = self.mesh.owners.get(address).map_or(&[][..], |owners| owners);
                let place = owners.partition_point(|other| other.precedence() < workload.precedence());
                let (before, after) = owners.split_at(place);
                let owners = before.iter().chain([&workload]).chain(after).cloned().collect();
                self.mesh.owners.insert(*address, owners);
            }
        }
        for (slot, membership) in workload.services.iter().enumerate() {
            if self.mesh.endpoints.get(&*membership.service).is_none() {
                self.mesh.endpoints.insert(membership.service.clone(), Arc::default());
            }
            if let Some(endpoints) = self.mesh.endpoints.get_mut(&*membership.service) {
                Arc::make_mut(endpoints).push(Member {
                    workload: workload.clone(),
                    slot,
                });
            }
        }
        self.mesh.workloads.insert(workload.uid.clone(), workload);
    }

    fn unlink(&mut self, workload: &Arc<Workload>) {
        self.change.addresses.extend(&workload.addresses);
        for address in &workload.addresses {
            let Some(owners) = self.mesh.owners.get(address) else {
                continue;
            };
            let rest: Arc<[Arc<Workload>]> = owners.iter().filter(|o| !Arc::ptr_eq(o, workload)).cloned().collect();
            if rest.is_empty() {
                self.mesh.owners.remove(address);
            } else {
                self.mesh.owners.insert(*address, rest);
            }
        }
        for membership in &workload.services {
            let Some(endpoints) = self.mesh.endpoints.get_mut(&*membership.service) else {
                continue;
            };
            let endpoints = Arc::make_mut(endpoints);
            endpoints.remove(workload);
            if endpoints.list.is_empty() {
                self.mesh.endpoints.remove(&*membership.service);
            }
        }
    }
}

impl Workload {
    /// Who owns an address that several claim: one of its own before one that shares its node's, one that must be reached
    /// in a tunnel before one that need not, a pod before an object that merely names its address, a ready one before one
    /// that is on its way out, and at last by name, so that it does not depend on the order of arrival.
    fn precedence(&self) -> (bool, bool, bool, bool, &str) {
        (
            self.host_network,
            !self.hbone,
            !self.is_pod,
            !self.is_ready(),
            &self.uid,
        )
    }
}

impl Members {
    fn push(&mut self, endpoint: Member) {
        self.weighted += usize::from(endpoint.workload.weight != 1);
        self.list.push(endpoint);
    }

    fn remove(&mut self, workload: &Arc<Workload>) {
        if let Some(place) = self
            .list
            .iter()
            .position(|endpoint| Arc::ptr_eq(&endpoint.workload, workload))
        {
            self.weighted -= usize::from(workload.weight != 1);
            self.list.swap_remove(place);
        }
    }
}

impl Bound {
    pub(crate) fn name(&self) -> &Arc<str> {
        match self {
            Self::Usable(policy) => policy.name(),
            Self::Refused(name) => name,
        }
    }
}
