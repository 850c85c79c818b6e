//! Where a connection that a pod of this node opens should go.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    Health, Mesh, Service, Workload,
    choice::{Choice, Target},
    decision::{Awaited, Denial, Endpoint, Named, Outbound, Tried},
    pod::Pod,
    service::{Closeness, Here, Mode},
    through::Dialled,
    waypoint::HBONE_PORT,
};

impl Mesh {
    /// Decides about a connection of `pod` to `destination`. `tried` are targets at which it failed before: they are
    /// chosen again only where there is nothing else.
    pub fn outbound(&self, pod: &Pod, destination: SocketAddr, tried: &[SocketAddr]) -> Outbound {
        self.outbound_past(
            pod,
            destination,
            Tried {
                targets: tried,
                names: &[],
            },
        )
    }

    /// As [`outbound`](Self::outbound), where endpoints may have failed that are known by their DNS names.
    pub fn outbound_past(&self, pod: &Pod, destination: SocketAddr, tried: Tried<'_>) -> Outbound {
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        if !self.synced {
            return self.before_configuration(destination);
        }
        let address = destination.ip();
        if let Some(service) = self.service_at(pod, address) {
            return self.to_service(pod, service, destination, tried);
        }
        if let Some(workload) = self.owners_of(address).first() {
            let dialled = Dialled {
                pod,
                what: &workload.uid,
                to: destination,
                service: None,
            };
            let through = self.through(dialled, workload.waypoints_for(destination.port()), tried);
            return through.unwrap_or_else(|| self.to_owner(workload, destination, None));
        }
        if let Some(service) = self
            .service_around(pod, address)
            .filter(|_| !self.may_be_of_the_mesh(address))
        {
            // A pod of its own may have the address.
            if self.is_unasked(address) {
                return Outbound::Pending(Awaited::Answer(address));
            }
            return self.to_service(pod, service, destination, tried);
        }
        self.to_stranger(pod, destination, None)
    }

    /// Nothing is known yet. What the controller may need to come up must not wait for it: the API server, and whatever is
    /// certainly not of the mesh (a resolver outside the cluster, for example).
    fn before_configuration(&self, destination: SocketAddr) -> Outbound {
        let outside = !self.ranges.is_empty() && !self.is_in_ranges(destination.ip()) && !is_private(destination.ip());
        if outside || self.bootstrap == Some(destination) {
            return direct(destination, None, None);
        }
        Outbound::Pending(Awaited::Configuration)
    }

    /// To an address that a known workload has, by whatever way it was found.
    fn to_owner(&self, owner: &Arc<Workload>, target: SocketAddr, service: Option<&Arc<Service>>) -> Outbound {
        // A node's address does not say which of those who share it is meant.
        if owner.host_network && !owner.hbone && service.is_none() {
            return direct(target, None, None);
        }
        tunnel_or_direct(owner, target, service)
    }

    /// To an endpoint of a service. The object that made it an endpoint may be another than the one that has the address:
    /// who has the address decides who must answer, and whether it is encrypted.
    fn to_endpoint(&self, endpoint: &Arc<Workload>, target: SocketAddr, service: &Arc<Service>) -> Outbound {
        let address = target.ip();
        let owner = self.owners_of(address).first().filter(|_| !endpoint.host_network);
        let owner = owner.unwrap_or(endpoint);
        let may_be_of_a_pod = !owner.hbone && !owner.is_pod && !owner.host_network;
        if may_be_of_a_pod && self.is_unasked(address) {
            return Outbound::Pending(Awaited::Answer(address));
        }
        self.to_owner(owner, target, Some(service))
    }

    /// To an address that no known workload owns: in plaintext, but only once it is sure that it is not of the mesh.
    fn to_stranger(&self, pod: &Pod, destination: SocketAddr, service: Option<Arc<str>>) -> Outbound {
        let address = destination.ip();
        if let Some(name) = self.refused_addresses.get(&address) {
            return unsupported(format!("what the controller says of {name} was refused"));
        }
        // Also outside of the ranges: network plug-ins give pods addresses that the controller finds in no range.
        if self.is_unasked(address) {
            return Outbound::Pending(Awaited::Answer(address));
        }
        // On its way, or gone. The first will come; the second must not be followed in plaintext.
        if self.is_in_ranges(address) {
            return Outbound::Pending(Awaited::Owner(address));
        }
        if self.ranges.is_empty() && is_private(address) {
            return Outbound::Pending(Awaited::OwnerOrRanges(address));
        }
        if service.is_none() && self.is_registry_only(pod) {
            return Outbound::Deny(Denial::NotInRegistry {
                address,
                namespace: Arc::clone(&pod.namespace),
            });
        }
        direct(destination, None, service)
    }

    /// Whether the pod reaches nothing but what is known here.
    fn is_registry_only(&self, pod: &Pod) -> bool {
        self.registry_only.contains(&*pod.namespace)
    }

    fn is_unasked(&self, address: IpAddr) -> bool {
        self.on_demand && !self.answered.contains(&address)
    }

    fn to_service(&self, pod: &Pod, service: &Arc<Service>, destination: SocketAddr, tried: Tried<'_>) -> Outbound {
        let name = &service.name;
        if service.port(destination.port()).is_some() {
            let dialled = Dialled {
                pod,
                what: name,
                to: destination,
                service: Some(service),
            };
            if let Some(through) = self.through(dialled, &service.waypoints, tried) {
                return through;
            }
        }
        // What is not on the list is reached as without the service, where that is allowed.
        let is_listed = service.port(destination.port()).is_some() || !self.is_registry_only(pod);
        if service.balancing.mode == Mode::Passthrough && is_listed {
            return match self.owners_of(destination.ip()).first() {
                Some(owner) => self.to_owner(owner, destination, Some(service)),
                None => self.to_stranger(pod, destination, Some(name.clone())),
            };
        }
        let Some(port) = service.port(destination.port()) else {
            return Outbound::Deny(Denial::NoPort {
                service: name.clone(),
                port: destination.port(),
            });
        };
        let here = match self.here(pod, service) {
            Ok(here) => here,
            Err(awaited) => return Outbound::Pending(awaited),
        };
        let choice = Choice {
            mesh: self,
            service,
            port,
            here,
            pod,
            dialled: destination.ip(),
            is_waypoint: false,
        };
        let anew = choice.of_healthiest(tried);
        let again = || choice.of_healthiest(Tried::default()).filter(|_| !tried.is_empty());
        match anew.or_else(again) {
            Some((endpoint, Target::Address(target))) => self.to_endpoint(&endpoint.workload, target, service),
            Some((endpoint, Target::Name(host, port))) => Outbound::Resolve(Named {
                host: Arc::clone(host),
                port,
                workload: Arc::clone(&endpoint.workload),
                service: Arc::clone(service),
            }),
            None => self.why_no_endpoint(name),
        }
    }

    /// Where a pod is, as far as the choice among a service's endpoints depends on it.
    pub(crate) fn here<'m>(&'m self, pod: &'m Pod, service: &Service) -> Result<Here<'m>, Awaited> {
        if let Some(own) = self.workload_of(pod) {
            return Ok(Here::Workload(own));
        }
        // What is known of this node itself is enough for "on the same node" alone.
        let by_node = |closeness: &Closeness| *closeness == Closeness::Node;
        let balancing = &service.balancing;
        match pod.addresses.first() {
            Some(own) if balancing.mode == Mode::Strict && !balancing.preference.iter().all(by_node) => {
                Err(Awaited::Own(*own))
            }
            _ => Ok(Here::Node(&pod.node)),
        }
    }

    /// Decides about a connection of `pod` to an endpoint that is known by its name, and has turned out to have this address. Who
    /// writes names decides nothing about who has the address: a service or a pod of the mesh is reached as such, and an address
    /// of the mesh at which nobody is known not at all.
    pub fn resolved(&self, pod: &Pod, named: &Named, address: IpAddr, tried: Tried<'_>) -> Outbound {
        let target = SocketAddr::new(address.to_canonical(), named.port);
        let address = target.ip();
        if let Some(service) = self.service_at(pod, address) {
            return match self.to_service(pod, service, target, tried) {
                Outbound::Resolve(_) => unsupported(format!(
                    "{} leads to {}, whose endpoints are known by their DNS names, too",
                    named.host, service.name
                )),
                decision => decision,
            };
        }
        if !self.owners_of(address).is_empty() {
            return self.to_endpoint(&named.workload, target, &named.service);
        }
        match self.to_stranger(pod, target, Some(named.service.name.clone())) {
            Outbound::Direct { .. } => self.to_owner(&named.workload, target, Some(&named.service)),
            decision => decision,
        }
    }

    fn why_no_endpoint(&self, service: &Arc<str>) -> Outbound {
        let endpoints = self.endpoints.get(service).map_or(&[][..], |endpoints| &endpoints.list);
        let out_of_reach = endpoints
            .iter()
            .map(|endpoint| &endpoint.workload)
            .find(|w| w.health != Health::NotReady && !self.reachable(w));
        let Some(workload) = out_of_reach else {
            return Outbound::Deny(Denial::NoEndpoint(service.clone()));
        };
        unsupported(match &workload.network_gateway {
            Some(gateway) => {
                let network = &workload.network;
                format!(
                    "{} is in network {network}, reached through gateway {gateway}",
                    workload.uid
                )
            }
            None => format!(
                "{} is in network {} and has no address in this one",
                workload.uid, workload.network
            ),
        })
    }

    pub(crate) fn reachable(&self, workload: &Workload) -> bool {
        workload.network == self.network && !workload.addresses.is_empty()
    }
}

fn tunnel_or_direct(workload: &Arc<Workload>, target: SocketAddr, service: Option<&Arc<Service>>) -> Outbound {
    let name = service.map(|service| service.name.clone());
    if !workload.hbone {
        return direct(target, Some(workload.clone()), name);
    }
    Outbound::Tunnel {
        endpoint: Endpoint {
            tunnel: SocketAddr::new(target.ip(), HBONE_PORT),
            authority: target.into(),
            identities: workload.who_may_answer(service.map(|service| &*service.identities)),
            workload: workload.clone(),
            waypoint: None,
        },
        service: name,
    }
}

fn direct(destination: SocketAddr, workload: Option<Arc<Workload>>, service: Option<Arc<str>>) -> Outbound {
    Outbound::Direct {
        destination,
        workload,
        service,
    }
}

/// Whether only networks of one's own have such addresses (RFC 1918, RFC 6598, RFC 4193). Not link-local ones: clouds serve
/// their metadata there.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || (first == 100 && second & 0b1100_0000 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn unsupported(reason: String) -> Outbound {
    Outbound::Deny(Denial::Unsupported(reason.into()))
}
