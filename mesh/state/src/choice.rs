//! The choice of an endpoint of a service for one connection.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use crate::{
    Health, Mesh, Service, Workload,
    decision::Tried,
    pod::Pod,
    service::{Closeness, Here, Member, Members, Mode, ServicePort},
};

/// How often endpoints are drawn before they are all looked at. Endpoints that cannot be used are rare.
const DRAWS: usize = 8;

/// The choice of an endpoint for one connection.
pub(crate) struct Choice<'m> {
    pub(crate) mesh: &'m Mesh,
    pub(crate) service: &'m Service,
    pub(crate) port: ServicePort,
    pub(crate) here: Here<'m>,
    pub(crate) pod: &'m Pod,
    /// The virtual address.
    pub(crate) dialled: IpAddr,
    /// The service is a waypoint's: only those are of use who take tunnels in, and whose address is known.
    pub(crate) is_waypoint: bool,
}

/// How an endpoint is reached.
#[derive(Clone, Copy)]
pub(crate) enum Target<'m> {
    Address(SocketAddr),
    /// By its DNS name, at this port.
    Name(&'m Arc<str>, u16),
}

/// An endpoint, and how it is reached.
pub(crate) type Chosen<'m> = (&'m Member, Target<'m>);

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
    pub(crate) fn of_healthiest(&self, tried: Tried<'_>) -> Option<Chosen<'m>> {
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
        if self.is_waypoint && !workload.hbone {
            return None;
        }
        if self.mesh.reachable(workload) {
            let address = workload.address_like(self.dialled)?;
            return Some(Target::Address(SocketAddr::new(address, port)));
        }
        let is_here = !self.is_waypoint && workload.is_named() && workload.network == self.mesh.network;
        let host = workload.hostname.as_ref().filter(|_| is_here)?;
        Some(Target::Name(host, port))
    }

    /// The endpoint that each connection of the pod's gets, as long as nothing changes: where a pod stays with its endpoint, or where there
    /// is but one to choose, which is ready and has not failed lately.
    pub(crate) fn sole(&self) -> Option<Chosen<'m>> {
        let balancing = &self.service.balancing;
        let admit = |workload: &Workload| balancing.allow_unhealthy || workload.health == Health::Ready;
        if balancing.sticky {
            return self.choose(admit, Tried::default());
        }
        let endpoints = self.mesh.endpoints.get(&self.service.name)?;
        let candidates: Vec<Chosen<'_>> = match self.is_close() {
            true => self.closest(endpoints, admit, Tried::default()),
            false => self.usable(endpoints, &admit, Tried::default()).take(2).collect(),
        };
        match candidates[..] {
            [sole] if sole.0.workload.trouble.level() == 0 => Some(sole),
            _ => None,
        }
    }

    /// Whether it matters how far away an endpoint is.
    fn is_close(&self) -> bool {
        let balancing = &self.service.balancing;
        matches!(balancing.mode, Mode::Strict | Mode::Failover) && !balancing.preference.is_empty()
    }

    /// How an endpoint is reached that may be chosen.
    fn usable_target(
        &self,
        endpoint: &'m Member,
        admit: impl Fn(&Workload) -> bool,
        tried: Tried<'_>,
    ) -> Option<Target<'m>> {
        let target = self.target(endpoint).filter(|_| admit(&endpoint.workload))?;
        (!tried.contain(target)).then_some(target)
    }

    fn usable(
        &self,
        endpoints: &'m Members,
        admit: impl Fn(&Workload) -> bool,
        tried: Tried<'_>,
    ) -> impl Iterator<Item = Chosen<'m>> {
        let all = endpoints.list.iter();
        all.filter_map(move |endpoint| Some((endpoint, self.usable_target(endpoint, &admit, tried)?)))
    }

    /// Of those that may be chosen, the ones that are closest, where that matters.
    fn closest(&self, endpoints: &'m Members, admit: impl Fn(&Workload) -> bool, tried: Tried<'_>) -> Vec<Chosen<'m>> {
        let balancing = &self.service.balancing;
        let is_close = self.is_close();
        let mut candidates: Vec<Chosen<'_>> = Vec::with_capacity(endpoints.list.len());
        let mut closest = 0;
        for (endpoint, target) in self.usable(endpoints, admit, tried) {
            let rank = if is_close {
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
        candidates
    }

    /// Of two endpoints drawn at random, by weight, the one with less trouble and then fewer connections from this node;
    /// where a service keeps its clients with an endpoint, that of the pod.
    fn choose(&self, admit: impl Fn(&Workload) -> bool, tried: Tried<'_>) -> Option<Chosen<'m>> {
        let endpoints = self.mesh.endpoints.get(&self.service.name)?;
        let balancing = &self.service.balancing;
        if !self.is_close() && !balancing.sticky && endpoints.weighted == 0 {
            let draw = || {
                (0..DRAWS).find_map(|_| {
                    let endpoint = &endpoints.list[below(endpoints.list.len() as u64)? as usize];
                    let target = self.usable_target(endpoint, &admit, tried)?;
                    Some((endpoint, target))
                })
            };
            if let (Some(one), Some(other)) = (draw(), draw()) {
                return Some(less_loaded(one, other));
            }
        }
        let candidates = self.closest(endpoints, admit, tried);
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

/// A number below `limit`, drawn from a sequence of this thread's own (xorshift64*); none if the limit is 0.
pub(crate) fn below(limit: u64) -> Option<u64> {
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
