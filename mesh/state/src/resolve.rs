//! Where a connection that a pod of this node opens should go.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use culvert_identity::SpiffeId;

use crate::{
    Health, Mesh, Service, Workload,
    decision::{Awaited, Denial, Endpoint, Named, Outbound, Tried},
    pod::Pod,
    service::{Closeness, Here, Member, Mode, ServicePort},
};

/// Where a peer's node takes tunnels in.
const HBONE_PORT: u16 = 15008;

/// How often endpoints are drawn before they are all looked at. Endpoints that cannot be used are rare.
const DRAWS: usize = 8;

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
            return self.to_owner(workload, destination, None);
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
        if let (Some(waypoint), None) = (&owner.waypoint, service) {
            return unsupported(format!("{} is reached through waypoint {waypoint}", owner.uid));
        }
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
        if let Some(waypoint) = &service.waypoint {
            return unsupported(format!("{name} is reached through waypoint {waypoint}"));
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
        let here = match self.workload_of(pod) {
            Some(own) => Here::Workload(own),
            None => Here::Node(&pod.node),
        };
        // What is known of this node itself is enough for "on the same node" alone.
        let by_node = |closeness: &Closeness| *closeness == Closeness::Node;
        let balancing = &service.balancing;
        if let (Here::Node(_), Mode::Strict, Some(own)) = (here, balancing.mode, pod.addresses.first())
            && !balancing.preference.iter().all(by_node)
        {
            return Outbound::Pending(Awaited::Own(*own));
        }
        let choice = Choice {
            mesh: self,
            service,
            port,
            here,
            pod,
            dialled: destination.ip(),
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

    fn reachable(&self, workload: &Workload) -> bool {
        workload.network == self.network && !workload.addresses.is_empty()
    }
}

/// The choice of an endpoint for one connection.
struct Choice<'m> {
    mesh: &'m Mesh,
    service: &'m Service,
    port: ServicePort,
    here: Here<'m>,
    pod: &'m Pod,
    /// The virtual address.
    dialled: IpAddr,
}

/// How an endpoint is reached.
#[derive(Clone, Copy)]
enum Target<'m> {
    Address(SocketAddr),
    /// By its DNS name, at this port.
    Name(&'m Arc<str>, u16),
}

/// An endpoint, and how it is reached.
type Chosen<'m> = (&'m Member, Target<'m>);

impl Tried<'_> {
    fn contain(&self, target: Target<'_>) -> bool {
        match target {
            Target::Address(address) => self.targets.contains(&address),
            Target::Name(host, _) => self.names.contains(host),
        }
    }
}

impl<'m> Choice<'m> {
    /// An endpoint that is ready; where there is none, one that is about to end and still serves, as kube-proxy does.
    fn of_healthiest(&self, tried: Tried<'_>) -> Option<Chosen<'m>> {
        if self.service.balancing.allow_unhealthy {
            return self.of_untroubled(|_| true, tried);
        }
        [Health::Ready, Health::Terminating]
            .into_iter()
            .find_map(|health| self.of_untroubled(|workload| workload.health == health, tried))
    }

    /// One that has not failed lately, though it be farther away; where there is none, the one with the least trouble. Who
    /// stays with an endpoint does so as long as that is there.
    fn of_untroubled(&self, admit: impl Fn(&Workload) -> bool, tried: Tried<'_>) -> Option<Chosen<'m>> {
        let is_untroubled = |workload: &Workload| admit(workload) && workload.trouble.level() == 0;
        let untroubled = (!self.service.balancing.sticky).then(|| self.choose(is_untroubled, tried));
        untroubled.flatten().or_else(|| self.choose(&admit, tried))
    }

    /// How an endpoint is reached, if it can be from here.
    fn target(&self, endpoint: &'m Member) -> Option<Target<'m>> {
        let workload = &endpoint.workload;
        let port = endpoint.target(self.port)?;
        if self.mesh.reachable(workload) {
            let address = workload.address_like(self.dialled)?;
            return Some(Target::Address(SocketAddr::new(address, port)));
        }
        let is_here = workload.is_named() && workload.network == self.mesh.network;
        let host = workload.hostname.as_ref().filter(|_| is_here)?;
        Some(Target::Name(host, port))
    }

    /// Of two endpoints drawn at random, by weight, the one with less trouble and then fewer connections from this node;
    /// where a service keeps its clients with an endpoint, that of the pod.
    fn choose(&self, admit: impl Fn(&Workload) -> bool, tried: Tried<'_>) -> Option<Chosen<'m>> {
        let endpoints = self.mesh.endpoints.get(&self.service.name)?;
        let balancing = &self.service.balancing;
        let usable = |endpoint: &'m Member| {
            let workload = &endpoint.workload;
            let target = self.target(endpoint).filter(|_| admit(workload))?;
            (!tried.contain(target)).then_some(target)
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
        let mut candidates: Vec<Chosen<'_>> = Vec::with_capacity(endpoints.list.len());
        let mut closest = 0;
        for endpoint in &endpoints.list {
            let Some(target) = usable(endpoint) else { continue };
            let rank = if close {
                let shared = |closeness: &&Closeness| closeness.shared(self.here, &endpoint.workload);
                balancing.preference.iter().take_while(shared).count()
            } else {
                0
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
            let rank = |(endpoint, _): &Chosen<'_>| {
                // Nobody has a weight, so all have the same.
                let weight = if total == 0 { 1 } else { endpoint.workload.weight };
                affinity(self.pod, &endpoint.workload) * f64::from(weight)
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

/// By recent failures: an endpoint that refuses has no connection open, and would win by that. Then by connections per
/// weight, cross-multiplied; the first at equality, so that an idle service is drawn by weight alone.
fn less_loaded<'m>(one: Chosen<'m>, other: Chosen<'m>) -> Chosen<'m> {
    let trouble = |(endpoint, _): Chosen<'_>| endpoint.workload.trouble.level();
    let open = |(endpoint, _): Chosen<'_>| u64::from(endpoint.workload.open.load(Ordering::Relaxed));
    let weight = |(endpoint, _): Chosen<'_>| u64::from(endpoint.workload.weight.max(1));
    let (mine, others) = (trouble(one), trouble(other));
    if others < mine || (others == mine && open(other) * weight(one) < open(one) * weight(other)) {
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
        endpoint: Endpoint {
            tunnel: SocketAddr::new(target.ip(), HBONE_PORT),
            authority: target.into(),
            identities,
            workload: workload.clone(),
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
