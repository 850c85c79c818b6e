//! Priorities and shares of localities.

use super::*;

/// Requests in percent of each locality, whose endpoints stand one after the other, four of them each.
fn localities(policy: Policy, weights: &[u32], hosts: &[Endpoint]) -> Vec<usize> {
    let settings = Settings {
        policy,
        panic_threshold: 0,
        slow_start: None,
        localities: Some(weights),
    };
    let balancer = Balancer::with(&settings, hosts, Instant::now());
    let hashed = matches!(policy, Policy::RingHash { .. } | Policy::Maglev { .. });
    let counts = counts(&balancer, hosts.len(), 20_000, hashed);
    counts
        .chunks(4)
        .map(|four| four.iter().sum::<usize>().div_ceil(200))
        .collect()
}

fn in_localities(count: usize) -> Vec<Endpoint> {
    let mut hosts = endpoints(&vec![1; 4 * count]);
    for (index, host) in hosts.iter_mut().enumerate() {
        host.locality = index / 4;
    }
    hosts
}

#[test]
fn localities_get_their_weights_and_less_below_five_of_seven_healthy_ones() {
    for policy in [
        Policy::RoundRobin,
        Policy::LeastRequest { choices: 2 },
        Policy::Random,
        Policy::RingHash {
            minimum: 1024,
            maximum: 8 << 20,
        },
        Policy::Maglev { size: 65537 },
    ] {
        let about =
            |found: usize, wanted: usize| assert!(found.abs_diff(wanted) <= 5, "{policy:?}: {found} of {wanted}");
        let mut hosts = in_localities(2);
        about(localities(policy, &[80, 20], &hosts)[0], 80);
        // Three of four: 1.05 times their share is more than all of it.
        hosts[0].health = Health::Unhealthy;
        about(localities(policy, &[80, 20], &hosts)[0], 80);
        // Two of four: 80 * 0.7 to 20, as in Envoy's documentation of locality weights.
        hosts[1].health = Health::Unhealthy;
        about(localities(policy, &[80, 20], &hosts)[0], 74);
        for host in &mut hosts[..4] {
            host.health = Health::Unhealthy;
        }
        assert_eq!(localities(policy, &[80, 20], &hosts)[0], 0);
        // One without a weight gets nothing.
        assert_eq!(localities(policy, &[1, 0], &in_localities(2)), [100, 0]);
    }
}

#[test]
fn a_retry_leaves_the_priorities_that_were_tried_while_others_carry_anything() {
    let mut hosts = endpoints(&[1; 6]);
    for (index, host) in hosts.iter_mut().enumerate() {
        host.priority = u32::try_from(index / 2).unwrap();
    }
    let next = |hosts: &[Endpoint], priorities: &[u32]| {
        let balancer = Balancer::new(Policy::Random, hosts, 0);
        let mut found: Vec<u32> = (0..200)
            .map(|number| {
                let random = mix(number);
                let draw = Draw { hash: None, random };
                let picked = balancer.pick_other(draw, |_| 0, 0, |_| false, priorities);
                hosts[picked.unwrap()].priority
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    assert_eq!(next(&hosts, &[]), [0]);
    assert_eq!(next(&hosts, &[0]), [1]);
    assert_eq!(next(&hosts, &[0, 1]), [2]);
    assert_eq!(next(&hosts, &[0, 1, 2]), [0], "all were tried: it begins anew");
    // Half of the second priority can carry 70 of a hundred.
    hosts[2].health = Health::Unhealthy;
    assert_eq!(next(&hosts, &[0]), [1, 2]);
}

#[test]
fn shares_spill_from_priority_to_priority_as_in_envoys_documentation() {
    let share = |healthy: [usize; 3]| -> Vec<usize> {
        let mut hosts = endpoints(&[1; 300]);
        for (index, host) in hosts.iter_mut().enumerate() {
            host.priority = u32::try_from(index / 100).unwrap();
            if index % 100 >= healthy[index / 100] {
                host.health = Health::Unhealthy;
            }
        }
        let counts = counts(&Balancer::new(Policy::Random, &hosts, 0), 300, 20_000, false);
        counts
            .chunks(100)
            .map(|level| level.iter().sum::<usize>().div_ceil(200))
            .collect()
    };
    let about = |healthy: [usize; 3], wanted: [usize; 3]| {
        let found = share(healthy);
        let is_near = found
            .iter()
            .zip(wanted)
            .all(|(found, wanted)| found.abs_diff(wanted) <= 2);
        assert!(is_near, "{healthy:?}: {found:?}, not {wanted:?}");
    };
    about([100, 100, 100], [100, 0, 0]);
    about([72, 72, 100], [100, 0, 0]);
    about([71, 71, 100], [99, 1, 0]);
    about([50, 50, 100], [70, 30, 0]);
    about([25, 100, 100], [35, 65, 0]);
    about([25, 25, 100], [35, 35, 30]);
    about([25, 25, 20], [36, 36, 28]);
}
