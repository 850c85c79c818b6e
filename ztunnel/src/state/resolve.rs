//! Where a connection that a pod of this node opens should go.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use culvert_identity::SpiffeId;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Mesh, Service, Workload,
    service::{Closeness, Endpoint, Mode, ServicePort},
};
use crate::seam::{Ask, Denial, Outbound, Pod};

/// Where a peer's node takes tunnels in.
const HBONE_PORT: u16 = 15008;

/// How often endpoints are drawn before they are all looked at. Endpoints that cannot be used are rare.
const DRAWS: usize = 8;

impl Mesh {
    /// Decides about a connection of `pod` to `destination`. Records what is missing in `asks` before it answers
    /// [`Outbound::Pending`].
    pub(crate) fn outbound(&self, pod: &Pod, destination: SocketAddr, asks: &UnboundedSender<Ask>) -> Outbound {
        if !self.synced {
            return Outbound::Pending;
        }
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        if let Some(service) = self.service_at(pod, destination) {
            return self.to_service(pod, service, destination, asks);
        }
        if let Some(workload) = self.owners_of(destination.ip()).first() {
            if let Some(waypoint) = &workload.waypoint {
                return unsupported(format!("{} is reached through waypoint {waypoint}", workload.uid));
            }
            return tunnel_or_direct(workload, destination, None);
        }
        self.to_stranger(destination, None, asks)
    }

    /// To an address that no known workload owns: in clear, but only once it is sure that it is nobody of the mesh.
    fn to_stranger(&self, destination: SocketAddr, service: Option<Arc<str>>, asks: &UnboundedSender<Ask>) -> Outbound {
        if let Some(name) = self.refused_addresses.get(&destination.ip()) {
            return unsupported(format!("what the controller says of {name} was refused"));
        }
        if self.on_demand && !self.answered.contains(&destination.ip()) {
            // Control outlives the loops; should it not, the connection times out like any other.
            let _ = asks.send(Ask::Address(destination.ip()));
            return Outbound::Pending;
        }
        if self.ranges.iter().any(|range| range.contains(&destination.ip())) {
            // Of the mesh, but not known: on its way, or gone. The first will come; the second must not go in clear.
            return Outbound::Pending;
        }
        direct(destination, None, service)
    }

    /// The service with this virtual address: one of the pod's own namespace before the owner of a hostname before the
    /// others, by name.
    fn service_at(&self, pod: &Pod, destination: SocketAddr) -> Option<&Arc<Service>> {
        let visible = |service: &&Arc<Service>| !service.private || *service.namespace == *pod.namespace;
        let rank = |service: &&Arc<Service>| (*service.namespace != *pod.namespace, !service.canonical);
        if let Some(services) = self.virtual_addresses.get(&destination.ip()) {
            return services.iter().filter(visible).min_by_key(rank);
        }
        let covering = self
            .virtual_ranges
            .iter()
            .filter(|(net, _)| net.contains(&destination.ip()));
        covering.map(|(_, service)| service).find(visible)
    }

    fn to_service(
        &self,
        pod: &Pod,
        service: &Arc<Service>,
        destination: SocketAddr,
        asks: &UnboundedSender<Ask>,
    ) -> Outbound {
        let name = &service.name;
        if let Some(waypoint) = &service.waypoint {
            return unsupported(format!("{name} is reached through waypoint {waypoint}"));
        }
        if service.balancing.mode == Mode::Passthrough {
            return match self.owners_of(destination.ip()).first() {
                Some(workload) => tunnel_or_direct(workload, destination, Some(service)),
                None => self.to_stranger(destination, Some(name.clone()), asks),
            };
        }
        let Some(port) = service.port(destination.port()) else {
            return Outbound::Deny(Denial::NoPort {
                service: name.clone(),
                port: destination.port(),
            });
        };
        let own = self.workload_of(pod);
        if own.is_none() && service.balancing.mode == Mode::Strict {
            return Outbound::Pending;
        }
        let chosen = self.choose(service, port, own, pod);
        let address = chosen.and_then(|(endpoint, _)| endpoint.workload.address_like(destination.ip()));
        match (chosen, address) {
            (Some((endpoint, target)), Some(address)) => {
                tunnel_or_direct(&endpoint.workload, SocketAddr::new(address, target), Some(service))
            }
            _ => self.why_no_endpoint(name),
        }
    }

    fn why_no_endpoint(&self, service: &Arc<str>) -> Outbound {
        let endpoints = self.endpoints.get(service).map_or(&[][..], |endpoints| &endpoints.list);
        let out_of_reach = endpoints
            .iter()
            .map(|endpoint| &endpoint.workload)
            .find(|w| w.healthy && !self.reachable(w));
        let Some(workload) = out_of_reach else {
            return Outbound::Deny(Denial::NoEndpoint(service.clone()));
        };
        unsupported(match (&workload.hostname, &workload.network_gateway) {
            (Some(hostname), _) if workload.addresses.is_empty() => {
                format!("{} is known by its DNS name {hostname} alone", workload.uid)
            }
            (_, Some(gateway)) => {
                let network = &workload.network;
                format!(
                    "{} is in network {network}, reached through gateway {gateway}",
                    workload.uid
                )
            }
            _ => format!(
                "{} is in network {} and has no address in this one",
                workload.uid, workload.network
            ),
        })
    }

    fn reachable(&self, workload: &Workload) -> bool {
        workload.network == self.network && !workload.addresses.is_empty()
    }

    /// Of two endpoints drawn at random, by weight, the one with fewer connections from this node; where a service keeps its
    /// clients with an endpoint, that of `pod`.
    fn choose(
        &self,
        service: &Service,
        port: ServicePort,
        own: Option<&Arc<Workload>>,
        pod: &Pod,
    ) -> Option<(&Endpoint, u16)> {
        let endpoints = self.endpoints.get(&service.name)?;
        let balancing = &service.balancing;
        let usable = |endpoint: &Endpoint| {
            let workload = &endpoint.workload;
            if (!workload.healthy && !balancing.allow_unhealthy) || !self.reachable(workload) {
                return None;
            }
            endpoint.target(port)
        };
        let close = matches!(balancing.mode, Mode::Strict | Mode::Failover) && !balancing.preference.is_empty();
        if !close && !balancing.sticky && endpoints.weighted == 0 {
            let draw = || {
                (0..DRAWS).find_map(|_| {
                    let endpoint = &endpoints.list[below(endpoints.list.len() as u64)? as usize];
                    usable(endpoint).map(|target| (endpoint, target))
                })
            };
            if let (Some(one), Some(other)) = (draw(), draw()) {
                return Some(less_loaded(one, other));
            }
        }
        let mut candidates: Vec<(&Endpoint, u16)> = Vec::with_capacity(endpoints.list.len());
        let mut closest = 0;
        for endpoint in &endpoints.list {
            let Some(target) = usable(endpoint) else { continue };
            let rank = match own {
                Some(own) if close => {
                    let shared = |closeness: &&Closeness| closeness.shared(own, &endpoint.workload);
                    balancing.preference.iter().take_while(shared).count()
                }
                _ => 0,
            };
            if balancing.mode == Mode::Strict && rank < balancing.preference.len() {
                continue;
            }
            if rank > closest {
                candidates.clear();
                closest = rank;
            }
            if rank == closest {
                candidates.push((endpoint, target));
            }
        }
        let total: u64 = candidates
            .iter()
            .map(|(endpoint, _)| u64::from(endpoint.workload.weight))
            .sum();
        if balancing.sticky {
            let rank = |(endpoint, _): &(&Endpoint, u16)| {
                // Nobody has a weight, so all have the same.
                let weight = if total == 0 { 1 } else { endpoint.workload.weight };
                affinity(pod, &endpoint.workload) * f64::from(weight)
            };
            return candidates
                .into_iter()
                .max_by(|one, other| rank(one).total_cmp(&rank(other)));
        }
        let draw = || match below(total) {
            Some(mut ticket) => candidates.iter().copied().find(|(endpoint, _)| {
                let weight = u64::from(endpoint.workload.weight);
                let hit = ticket < weight;
                ticket = ticket.saturating_sub(weight);
                hit
            }),
            // Nobody has a weight, so all have the same.
            None => candidates.get(below(candidates.len() as u64)? as usize).copied(),
        };
        Some(less_loaded(draw()?, draw()?))
    }
}

/// How much a pod belongs to an endpoint, to be multiplied by the endpoint's weight: highest random weight (Thaler and
/// Ravishankar, 1998). Every proxy comes to the same result and none remembers anything; an endpoint that comes or goes moves its
/// own clients alone.
fn affinity(pod: &Pod, workload: &Workload) -> f64 {
    // Without a key of its own it is the same everywhere; the hash of `rustc_hash` is too uneven.
    let mut hasher = DefaultHasher::new();
    (&*pod.uid, &*workload.uid).hash(&mut hasher);
    // In (0, 1): the upper bits, which are the best mixed, as many as the mantissa holds.
    let even = ((hasher.finish() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    -even.ln().recip()
}

/// By connections per weight, cross-multiplied; the first at equality, so that an idle service is drawn by weight alone.
fn less_loaded<'m>(one: (&'m Endpoint, u16), other: (&'m Endpoint, u16)) -> (&'m Endpoint, u16) {
    let open = |(endpoint, _): (&Endpoint, u16)| u64::from(endpoint.workload.open.load(Ordering::Relaxed));
    let weight = |(endpoint, _): (&Endpoint, u16)| u64::from(endpoint.workload.weight.max(1));
    if open(other) * weight(one) < open(one) * weight(other) {
        other
    } else {
        one
    }
}

fn tunnel_or_direct(workload: &Arc<Workload>, target: SocketAddr, service: Option<&Arc<Service>>) -> Outbound {
    let name = service.map(|service| service.name.clone());
    if !workload.hbone {
        return direct(target, Some(workload.clone()), name);
    }
    let identities = match service {
        Some(service) if !service.identities.is_empty() => {
            let own: &[SpiffeId] = &workload.identities;
            own.iter().chain(&service.identities).cloned().collect()
        }
        _ => workload.identities.clone(),
    };
    Outbound::Tunnel {
        node: SocketAddr::new(target.ip(), HBONE_PORT),
        authority: target,
        identities,
        workload: workload.clone(),
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

fn unsupported(reason: String) -> Outbound {
    Outbound::Deny(Denial::Unsupported(reason.into()))
}

/// A number below `limit`, drawn from a sequence of this thread's own (xorshift64*); none if the limit is 0.
fn below(limit: u64) -> Option<u64> {
    thread_local! {
        // An even seed of 0 would stay 0 for ever.
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    let random = STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    });
    // The high half of a product is as even as the limit is small against 2^64.
    (limit > 0).then(|| ((u128::from(random) * u128::from(limit)) >> 64) as u64)
}
