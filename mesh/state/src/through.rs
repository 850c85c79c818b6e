//! Connections that are to pass a waypoint: at which of its endpoints, and what if there is none.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    Mesh, Service, Workload,
    choice::{Choice, Target, below},
    decision::{Awaited, Denial, Endpoint, NoWaypoint, Outbound, Tried},
    pod::Pod,
    waypoint::{Waypoint, WaypointAt, WeightedWaypoint},
};

/// A connection for which waypoints are named.
#[derive(Clone, Copy)]
pub(crate) struct Dialled<'m> {
    /// Who opens it.
    pub(crate) pod: &'m Pod,
    /// What names the waypoints: a service's name, or a workload's uid.
    pub(crate) what: &'m Arc<str>,
    /// Where to, as dialled.
    pub(crate) to: SocketAddr,
    /// The service that was dialled, if it was one.
    pub(crate) service: Option<&'m Arc<Service>>,
}

/// What was found of one waypoint.
enum Found<'m> {
    /// Where it takes tunnels in, and its service if it has one.
    Endpoint(&'m Arc<Workload>, SocketAddr, Option<&'m Service>),
    /// It is not known yet.
    Unasked(Awaited),
    Nothing(NoWaypoint),
}

impl Mesh {
    /// Decides about a connection for which waypoints are named. None if there are none, or the pod is one of them itself: it goes
    /// straight there.
    pub(crate) fn through<'m>(
        &'m self,
        dialled: Dialled<'m>,
        waypoints: &'m [WeightedWaypoint],
        tried: Tried<'_>,
    ) -> Option<Outbound> {
        let first = waypoints.first()?;
        if waypoints.iter().any(|one| self.is_of(dialled.pod, &one.waypoint)) {
            return None;
        }
        let order = in_order(waypoints);
        let mut missing = (order.is_empty()).then_some((&first.waypoint, NoWaypoint::NoWeight));
        // Where it failed before is better than nowhere.
        let rounds = [Some(tried), (!tried.is_empty()).then(Tried::default)];
        for tried in rounds.into_iter().flatten() {
            for waypoint in &order {
                match self.endpoint_of(dialled, waypoint, tried) {
                    Found::Endpoint(workload, tunnel, own) => {
                        return Some(tunnel_to(dialled, waypoint, workload, tunnel, own));
                    }
                    Found::Unasked(awaited) => return Some(Outbound::Pending(awaited)),
                    Found::Nothing(why) => drop(missing.get_or_insert((waypoint, why))),
                }
            }
        }
        let (waypoint, why) = missing.unwrap_or((&first.waypoint, NoWaypoint::NoEndpoint));
        Some(Outbound::Deny(Denial::NoWaypoint {
            what: Arc::clone(dialled.what),
            waypoint: waypoint.to_string().into(),
            why,
        }))
    }

    /// Whether the pod is an endpoint of the waypoint: what it opens has passed it already.
    fn is_of(&self, pod: &Pod, waypoint: &Waypoint) -> bool {
        let is_in = |service: &str| {
            let own = self.workload_of(pod);
            own.is_some_and(|own| own.services.iter().any(|membership| *membership.service == *service))
        };
        match &waypoint.at {
            WaypointAt::Service { name, .. } => is_in(name),
            WaypointAt::Address { address, .. } => {
                let services = self.virtual_addresses.get(address);
                let is_in_one = services.is_some_and(|services| services.iter().any(|service| is_in(&service.name)));
                is_in_one || pod.addresses.iter().any(|own| own.to_canonical() == *address)
            }
        }
    }

    fn endpoint_of<'m>(&'m self, dialled: Dialled<'m>, waypoint: &'m Waypoint, tried: Tried<'_>) -> Found<'m> {
        match &waypoint.at {
            WaypointAt::Service { name, host } => match self.services.get(name) {
                Some(service) => self.endpoint_in(dialled, service, waypoint.port, tried),
                None if self.is_host_unasked(host) => Found::Unasked(Awaited::Host(Arc::clone(host))),
                None => Found::Nothing(NoWaypoint::Unknown),
            },
            WaypointAt::Address { network, .. } if *network != self.network => Found::Nothing(NoWaypoint::OtherNetwork),
            WaypointAt::Address { address, .. } => {
                if let Some(service) = self
                    .virtual_addresses
                    .get(address)
                    .and_then(|services| services.first())
                {
                    return self.endpoint_in(dialled, service, waypoint.port, tried);
                }
                let target = SocketAddr::new(*address, waypoint.port);
                match self.owners_of(*address).first() {
                    Some(owner) if !owner.hbone || tried.targets.contains(&target) => {
                        Found::Nothing(NoWaypoint::NoEndpoint)
                    }
                    Some(owner) => Found::Endpoint(owner, target, None),
                    None if self.on_demand && !self.answered.contains(address) => {
                        Found::Unasked(Awaited::Answer(*address))
                    }
                    None => Found::Nothing(NoWaypoint::Unknown),
                }
            }
        }
    }

    fn endpoint_in<'m>(
        &'m self,
        dialled: Dialled<'m>,
        service: &'m Arc<Service>,
        port: u16,
        tried: Tried<'_>,
    ) -> Found<'m> {
        let Some(port) = service.port(port) else {
            return Found::Nothing(NoWaypoint::NoPort(port));
        };
        let here = match self.here(dialled.pod, service) {
            Ok(here) => here,
            Err(awaited) => return Found::Unasked(awaited),
        };
        let choice = Choice {
            mesh: self,
            service,
            port,
            here,
            pod: dialled.pod,
            dialled: dialled.to.ip(),
            is_waypoint: true,
        };
        match choice.of_healthiest(tried) {
            Some((endpoint, Target::Address(target))) => Found::Endpoint(&endpoint.workload, target, Some(service)),
            Some((_, Target::Name(..))) | None => Found::Nothing(NoWaypoint::NoEndpoint),
        }
    }
}

fn tunnel_to(
    dialled: Dialled<'_>,
    waypoint: &Waypoint,
    workload: &Arc<Workload>,
    tunnel: SocketAddr,
    own: Option<&Service>,
) -> Outbound {
    Outbound::Tunnel {
        endpoint: Endpoint {
            tunnel,
            authority: dialled.to.into(),
            identities: workload.who_may_answer(own.map(|service| &*service.identities)),
            workload: Arc::clone(workload),
            waypoint: Some(waypoint.at.clone()),
        },
        service: dialled.service.map(|service| Arc::clone(&service.name)),
    }
}

/// One drawn by weight, then the others that have one: where one cannot be used, another one is better than none.
fn in_order(waypoints: &[WeightedWaypoint]) -> Vec<&Waypoint> {
    let mut weighted: Vec<&WeightedWaypoint> = waypoints.iter().filter(|one| one.weight > 0).collect();
    let total = weighted.iter().map(|one| u64::from(one.weight)).sum();
    if let Some(mut ticket) = below(total) {
        let drawn = weighted.iter().position(|one| {
            let weight = u64::from(one.weight);
            let hit = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            hit
        });
        weighted[..=drawn.unwrap_or(0)].rotate_right(1);
    }
    weighted.into_iter().map(|one| &one.waypoint).collect()
}
