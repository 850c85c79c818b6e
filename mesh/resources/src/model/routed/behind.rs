//! The Services behind each waypoint, as the first round made them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use culvert_proto::ADDRESS_TYPE;
use culvert_proto::workload::gateway_address::Destination;
use culvert_proto::workload::{Service, address};
use culvert_xds::server::Resources as _;

use crate::snapshot::Snapshot;

/// Resource names of Services by the host of the waypoint that they are behind.
#[derive(Debug, Default)]
pub(in crate::model) struct Behind {
    by_host: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    hosts: HashMap<Arc<str>, Arc<str>>,
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
        let host = service(snapshot, name).and_then(|service| waypoint_host(&service));
        let was = self.hosts.remove(name);
        if let Some(was) = &was
            && let Some(services) = self.by_host.get_mut(was)
        {
            services.remove(name);
            if services.is_empty() {
                self.by_host.remove(was);
            }
        }
        if let Some(host) = &host {
            self.hosts.insert(Arc::clone(name), Arc::clone(host));
            self.by_host
                .entry(Arc::clone(host))
                .or_default()
                .insert(Arc::clone(name));
        }
        was.into_iter().chain(host).collect()
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

/// The host of the waypoint that a Service is behind.
pub(super) fn waypoint_host(service: &Service) -> Option<Arc<str>> {
    match service.waypoint.as_ref()?.destination.as_ref()? {
        Destination::Hostname(name) => Some(name.hostname.as_str().into()),
        Destination::Address(_) => None,
    }
}
