//! Which service a host name belongs to, and the addresses that it leads to.
//!
//! Host names here are in lower case and without a final dot.

use std::{net::IpAddr, sync::Arc};

use crate::{Health, Mesh, Service, Workload, virtual_address::rank};

impl Mesh {
    /// Whether the controller may have something to say of this host name that is not known here yet.
    pub fn is_host_unasked(&self, host: &str) -> bool {
        !self.synced || self.on_demand && !self.answered_hosts.contains(host)
    }

    /// The service of this host name that pods of a namespace mean, among those that are admitted: one of their own namespace
    /// before the owner of the name before the others, by name.
    pub fn service_of_host(
        &self,
        namespace: &str,
        host: &str,
        admit: impl Fn(&Service) -> bool,
    ) -> Option<&Arc<Service>> {
        let services = self.hosts.get(host)?.iter();
        let meant = services.filter(|service| service.is_seen_in(namespace) && admit(service));
        meant.min_by_key(|service| rank(service, namespace))
    }

    /// The virtual addresses of a service in the proxy's own network, without its ranges.
    pub fn virtual_addresses<'m>(&'m self, service: &'m Service) -> impl Iterator<Item = IpAddr> + 'm {
        let own = service.addresses.iter().filter(|(network, _)| *network == self.network);
        own.filter(|(_, net)| net.prefix_len() == net.max_prefix_len())
            .map(|(_, net)| net.addr())
    }

    /// The addresses of a service's endpoints that can be dialled from here and may be used: of a service without a virtual
    /// address, its name leads to these. A workload has one of each family there.
    pub fn endpoint_addresses<'m>(&'m self, service: &'m Service) -> impl Iterator<Item = IpAddr> + 'm {
        self.usable_endpoints(service).flat_map(|workload| {
            let of_family = |v4: bool| workload.addresses.iter().find(move |address| address.is_ipv4() == v4);
            of_family(true).into_iter().chain(of_family(false)).copied()
        })
    }

    /// The endpoint of a service with this name, if it may be used.
    pub fn endpoint_named<'m>(&'m self, service: &'m Service, name: &str) -> Option<&'m Arc<Workload>> {
        self.usable_endpoints(service).find(|workload| *workload.name == *name)
    }

    fn usable_endpoints<'m>(&'m self, service: &'m Service) -> impl Iterator<Item = &'m Arc<Workload>> {
        let endpoints = self.endpoints.get(&service.name);
        let endpoints = endpoints.map_or(&[][..], |endpoints| &endpoints.list).iter();
        let usable = |workload: &Workload| {
            let is_healthy = workload.health == Health::Ready || service.balancing.allow_unhealthy;
            is_healthy && workload.network == self.network
        };
        endpoints
            .map(|endpoint| &endpoint.workload)
            .filter(move |workload| usable(workload))
    }
}
