//! The Services behind each waypoint, which may be one of two, as the first round made them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use culvert_proto::ADDRESS_TYPE;
use culvert_proto::workload::gateway_address::Destination;
use culvert_proto::workload::{Service, address};
use culvert_xds::server::Resources as _;

use crate::snapshot::Snapshot;

/// Resource names of Services by the host of each waypoint that they are behind.
#[derive(Debug, Default)]
pub(in crate::model) struct Behind {
    by_host: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    hosts: HashMap<Arc<str>, Vec<Arc<str>>>,
}

impl Behind {
    /// The Services behind a waypoint.
    pub(in crate::model) fn of(&self, host: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_host.get(host).into_iter().flatten()
    }

    /// All that a snapshot says of it.
    pub(in crate::model) fn of_all(snapshot: &Snapshot) -> Self {
        let mut behind = Self::default();
        for (name, _) in snapshot.all(ADDRESS_TYPE).into_iter().flatten() {
            if is_service(name) {
                behind.update(name, snapshot);
            }
        }
        behind
    }

    /// Takes in that a Service is another, new or gone. Returns the hosts of the waypoints that it was and is behind.
    pub(in crate::model) fn update(&mut self, name: &Arc<str>, snapshot: &Snapshot) -> Vec<Arc<str>> {
        let is = service(snapshot, name).map_or_else(Vec::new, |service| waypoint_hosts(&service));
        let was = self.hosts.remove(name).unwrap_or_default();
        for host in &was {
            if let Some(services) = self.by_host.get_mut(host) {
                services.remove(name);
                if services.is_empty() {
                    self.by_host.remove(host);
                }
            }
        }
        for host in &is {
            self.by_host
                .entry(Arc::clone(host))
                .or_default()
                .insert(Arc::clone(name));
        }
        if !is.is_empty() {
            self.hosts.insert(Arc::clone(name), is.clone());
        }
        was.into_iter().chain(is).collect()
    }
}

/// Whether a resource of type Address is a Service, by its name: `namespace/hostname`, while a Workload's has more parts.
pub(in crate::model) fn is_service(name: &str) -> bool {
    name.bytes().filter(|byte| *byte == b'/').count() == 1
}

/// A Service of the first round.
pub(super) fn service(snapshot: &Snapshot, name: &str) -> Option<Service> {
    match snapshot.address(name)?.r#type? {
        address::Type::Service(service) => Some(service),
        address::Type::Workload(_) => None,
    }
}

/// The hosts of the waypoints that a Service is behind: the first, then its canary.
pub(super) fn waypoint_hosts(service: &Service) -> Vec<Arc<str>> {
    let weighted = service.weighted_waypoints.iter();
    let weighted = weighted.filter_map(|one| one.destination.as_ref());
    let mut hosts: Vec<Arc<str>> = Vec::new();
    for gateway in service.waypoint.iter().chain(weighted) {
        if let Some(Destination::Hostname(name)) = &gateway.destination
            && !hosts.iter().any(|known| **known == *name.hostname)
        {
            hosts.push(name.hostname.as_str().into());
        }
    }
    hosts
}
