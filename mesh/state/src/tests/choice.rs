//! Which endpoint may be chosen, against a list that is made by hand.

use std::{collections::BTreeSet, net::SocketAddr};

use culvert_proto::{HEALTH, TERMINATING, extension_of_text, workload as proto};
use proptest::prelude::*;

use super::{World, client, client_workload, member, service, session_affinity, workload};
use crate::Outbound;

const VIRTUAL: &str = "198.19.0.1:80";

/// An endpoint, as far as a choice depends on it.
#[derive(Clone, Debug)]
struct Given {
    /// 0 is ready, 1 about to end, 2 not ready.
    health: usize,
    /// How many parts of region, zone and subzone it shares with the client.
    close: usize,
    weight: u32,
    troubled: bool,
    tried: bool,
    open: u32,
}

/// How a service chooses.
#[derive(Clone, Copy, Debug)]
struct Way {
    mode: usize,
    allow_unhealthy: bool,
    sticky: bool,
}

fn given() -> impl Strategy<Value = Given> {
    let troubles = (prop::bool::weighted(0.3), prop::bool::weighted(0.3));
    (0_usize..3, 0_usize..4, 0_u32..4, troubles, 0_u32..3).prop_map(
        |(health, close, weight, (troubled, tried), open)| Given {
            health,
            close,
            weight,
            troubled,
            tried,
            open,
        },
    )
}

fn way() -> impl Strategy<Value = Way> {
    (0_usize..3, any::<bool>(), any::<bool>()).prop_map(|(mode, allow_unhealthy, sticky)| Way {
        mode,
        allow_unhealthy,
        sticky,
    })
}

fn address(index: usize) -> String {
    format!("198.18.0.{}", 10 + index)
}

fn target(index: usize) -> SocketAddr {
    format!("{}:8080", address(index)).parse().unwrap()
}

fn endpoint(index: usize, given: &Given) -> proto::Workload {
    let parts = ["north", "n1", "r1"];
    let part = |place: usize| if place < given.close { parts[place] } else { "elsewhere" }.to_owned();
    let mut wire = member(workload(&index.to_string(), &[&address(index)]), "cart", &[(80, 8080)]);
    wire.capacity = Some(given.weight);
    wire.locality = Some(proto::Locality {
        region: part(0),
        zone: part(1),
        subzone: part(2),
    });
    if given.health > 0 {
        wire.status = proto::WorkloadStatus::Unhealthy as i32;
    }
    if given.health == 1 {
        wire.extensions.push(extension_of_text(HEALTH, TERMINATING));
    }
    wire
}

fn cart(way: Way) -> proto::Service {
    use proto::load_balancing::{HealthPolicy, Mode, Scope};
    let mode = [Mode::UnspecifiedMode, Mode::Failover, Mode::Strict][way.mode];
    let health = match way.allow_unhealthy {
        true => HealthPolicy::AllowAll,
        false => HealthPolicy::OnlyHealthy,
    };
    let mut cart = service("cart", &["198.19.0.1"], &[(80, 8080)]);
    cart.load_balancing = Some(proto::LoadBalancing {
        routing_preference: [Scope::Region, Scope::Zone, Scope::Subzone]
            .map(|scope| scope as i32)
            .to_vec(),
        mode: mode as i32,
        health_policy: health as i32,
    });
    cart.extensions.extend(way.sticky.then(|| session_affinity("ClientIP")));
    cart
}

/// Those that may be chosen: of the first of these groups that has any.
fn may_be_chosen(all: &[Given], way: Way) -> BTreeSet<usize> {
    let places = || all.iter().enumerate();
    for with_tried in [false, true] {
        let healths: &[&[usize]] = if way.allow_unhealthy {
            &[&[0, 1, 2]]
        } else {
            &[&[0], &[1]]
        };
        for healths in healths {
            for with_trouble in [way.sticky, true] {
                let usable = places().filter(|(_, one)| {
                    healths.contains(&one.health)
                        && (with_tried || !one.tried)
                        && (with_trouble || !one.troubled)
                        && (way.mode < 2 || one.close == 3)
                });
                let usable: Vec<(usize, &Given)> = usable.collect();
                let closest = usable.iter().map(|(_, one)| one.close).max();
                let close = usable
                    .into_iter()
                    .filter(|(_, one)| way.mode == 0 || Some(one.close) == closest);
                let close: Vec<(usize, &Given)> = close.collect();
                let is_weighted = close.iter().any(|(_, one)| one.weight > 0);
                let chosen = close.into_iter().filter(|(_, one)| !is_weighted || one.weight > 0);
                let chosen: BTreeSet<usize> = chosen.map(|(place, _)| place).collect();
                if !chosen.is_empty() {
                    return chosen;
                }
            }
        }
    }
    BTreeSet::new()
}

proptest! {
    /// Whatever its endpoints are like, a connection goes to one of the best that there are, and nowhere only if there is none.
    #[test]
    fn a_connection_goes_to_one_of_the_best_endpoints_that_there_are(
        all in prop::collection::vec(given(), 0..6),
        way in way(),
    ) {
        let workloads: Vec<_> = all.iter().enumerate().map(|(index, one)| endpoint(index, one)).collect();
        let mut world = World::new(false).with(&workloads, &[cart(way)]);
        world.put(client_workload());
        let mesh = world.mesh();
        for (index, one) in all.iter().enumerate() {
            let workload = mesh.workload_at(target(index).ip()).unwrap();
            workload.open.store(one.open, std::sync::atomic::Ordering::Relaxed);
            if one.troubled {
                workload.trouble.note();
            }
        }
        let virtual_address: SocketAddr = VIRTUAL.parse().unwrap();
        let sole = mesh.sole_endpoint(&client(), virtual_address);
        let at_first: Vec<Given> = all.iter().map(|one| Given { tried: false, ..one.clone() }).collect();
        let choices: BTreeSet<SocketAddr> = may_be_chosen(&at_first, way).into_iter().map(target).collect();
        if let Some(sole) = sole {
            prop_assert!(way.sticky || choices == BTreeSet::from([sole]), "{:?} of {:?}", sole, choices);
            let chosen = mesh.outbound(&client(), virtual_address, &[]);
            let is_it = matches!(chosen, Outbound::Tunnel { endpoint, .. } if endpoint.target() == sole);
            prop_assert!(is_it);
        } else if let [one] = &all[..] {
            let is_amiss = one.troubled && !way.sticky || one.health > 0 && !way.allow_unhealthy;
            prop_assert!(is_amiss || choices.is_empty(), "there is no choice");
        }
        let tried: Vec<SocketAddr> = (0..all.len()).filter(|index| all[*index].tried).map(target).collect();
        let expected: BTreeSet<SocketAddr> = may_be_chosen(&all, way).into_iter().map(target).collect();
        for _ in 0..8 {
            match mesh.outbound(&client(), VIRTUAL.parse().unwrap(), &tried) {
                Outbound::Tunnel { endpoint, .. } => {
                    prop_assert!(expected.contains(&endpoint.target()), "{:?} of {:?}", endpoint.target(), expected);
                }
                Outbound::Deny(_) => prop_assert!(expected.is_empty(), "{:?}", expected),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
