//! What Envoy 1.40 was seen to do, and the arithmetic around it.

mod localities;
mod outliers;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use culvert_envoy::pb::envoy::config::cluster::v3::OutlierDetection;
use culvert_envoy::pb::google::protobuf::UInt32Value;

use super::*;

fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
    let endpoint = |(index, weight): (usize, &u32)| Endpoint {
        hash_key: format!("10.0.0.{index}:80"),
        weight: *weight,
        priority: 0,
        locality: 0,
        health: Health::Healthy,
        since: Instant::now(),
    };
    weights.iter().enumerate().map(endpoint).collect()
}

fn load(active: &AtomicU32) -> u64 {
    active.load(Ordering::Relaxed).into()
}

fn counts(balancer: &Balancer, hosts: usize, draws: u64, hashed: bool) -> Vec<usize> {
    let idle: Vec<AtomicU32> = (0..hosts).map(|_| AtomicU32::new(0)).collect();
    let mut counts = vec![0; hosts];
    for number in 0..draws {
        let random = mix(number);
        let hash = hashed.then_some(mix(random));
        counts[balancer
            .pick(Draw { hash, random }, |index| load(&idle[index]))
            .unwrap()] += 1;
    }
    counts
}

#[test]
fn round_robin_of_one_to_three_is_exact() {
    let balancer = Balancer::new(Policy::RoundRobin, &endpoints(&[1, 3]), 50);
    let idle = AtomicU32::new(0);
    let order: Vec<usize> = (0..8)
        .map(|_| balancer.pick(Draw::default(), |_| load(&idle)).unwrap())
        .collect();
    // `b b b a`, begun anywhere.
    assert!(
        order
            .windows(4)
            .all(|four| four.iter().filter(|index| **index == 0).count() == 1),
        "{order:?}"
    );
    assert_eq!(
        counts(
            &Balancer::new(Policy::RoundRobin, &endpoints(&[1; 4]), 50),
            4,
            400,
            false
        ),
        [100; 4]
    );
}

#[test]
fn of_two_equal_hosts_the_busy_one_gets_a_quarter() {
    let balancer = Balancer::new(Policy::LeastRequest { choices: 2 }, &endpoints(&[1, 1]), 50);
    let active = [AtomicU32::new(10), AtomicU32::new(0)];
    let busy = (0..10_000)
        .filter(|number| {
            let random = mix(*number);
            balancer.pick(Draw { hash: None, random }, |index| load(&active[index])) == Some(0)
        })
        .count();
    assert!((2300..2700).contains(&busy), "{busy}");
}

#[test]
fn chance_keeps_the_weights() {
    let counts = counts(
        &Balancer::new(Policy::Random, &endpoints(&[1, 3]), 50),
        2,
        10_000,
        false,
    );
    assert!((2300..2700).contains(&counts[0]), "{counts:?}");
}

#[test]
fn hashing_sends_one_hash_to_one_host_and_keeps_the_weights() {
    for policy in [
        Policy::RingHash {
            minimum: 1024,
            maximum: 8 << 20,
        },
        Policy::Maglev { size: 65537 },
    ] {
        let balancer = Balancer::new(policy, &endpoints(&[1, 1, 2]), 50);
        let idle = AtomicU32::new(0);
        let pick = |hash, random| {
            balancer.pick(
                Draw {
                    hash: Some(hash),
                    random,
                },
                |_| load(&idle),
            )
        };
        assert!((0..100).all(|hash| pick(mix(hash), 1) == pick(mix(hash), 2)));
        let counts = counts(&balancer, 3, 40_000, true);
        assert!((18_000..22_000).contains(&counts[2]), "{policy:?} {counts:?}");
    }
}

#[test]
fn a_ring_has_a_whole_share_of_points_for_each_host() {
    let keys = ["a", "b", "c"];
    assert_eq!(Ring::new(&keys, &[1, 1, 1], 1024, 8 << 20).points(), 1026);
    assert_eq!(Ring::new(&keys[..2], &[1, 3], 1024, 8 << 20).points(), 1024);
}

#[test]
fn hardly_any_key_of_a_live_host_moves_in_maglev() {
    let keys: Vec<String> = (0..10).map(|index| format!("10.0.0.{index}:80")).collect();
    let all: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (before, after) = (
        Maglev::new(&all, &[1; 10], 65537),
        Maglev::new(&all[..9], &[1; 9], 65537),
    );
    let of_live = (0..65537).filter(|hash| before.member(*hash) != Some(9));
    let moved = of_live
        .filter(|hash| before.member(*hash) != after.member(*hash))
        .count();
    assert!(moved < 65537 / 20, "{moved}");
}

#[test]
fn panic_is_below_half_of_the_hosts_and_not_at_it() {
    let mut four = endpoints(&[1; 4]);
    four[0].health = Health::Unhealthy;
    four[1].health = Health::Unhealthy;
    let used = |endpoints: &[Endpoint], threshold| {
        let balancer = Balancer::new(Policy::Random, endpoints, threshold);
        counts(&balancer, endpoints.len(), 1000, false)
            .iter()
            .filter(|count| **count > 0)
            .count()
    };
    assert_eq!(used(&four, 50), 2);
    four[2].health = Health::Unhealthy;
    assert_eq!(used(&four, 50), 4);
    assert_eq!(used(&four, 0), 1);
}

#[test]
fn without_panic_nothing_is_chosen_where_nothing_is_healthy() {
    let mut one = endpoints(&[1]);
    one[0].health = Health::Unhealthy;
    let idle = AtomicU32::new(0);
    assert_eq!(
        Balancer::new(Policy::RoundRobin, &one, 0).pick(Draw::default(), |_| load(&idle)),
        None
    );
    assert_eq!(
        Balancer::new(Policy::RoundRobin, &one, 50).pick(Draw::default(), |_| load(&idle)),
        Some(0)
    );
    assert_eq!(
        Balancer::new(Policy::RoundRobin, &[], 50).pick(Draw::default(), |_| load(&idle)),
        None
    );
}

#[test]
fn requests_spill_to_the_next_priority_at_1_4_times_the_healthy_share() {
    let mut hosts = endpoints(&[1; 8]);
    for host in &mut hosts[4..] {
        host.priority = 1;
    }
    let share = |hosts: &[Endpoint]| {
        let counts = counts(&Balancer::new(Policy::Random, hosts, 0), 8, 10_000, false);
        counts[..4].iter().sum::<usize>() / 100
    };
    assert_eq!(share(&hosts), 100);
    hosts[0].health = Health::Unhealthy;
    assert_eq!(share(&hosts), 100);
    hosts[1].health = Health::Unhealthy;
    assert!((68..72).contains(&share(&hosts)), "{}", share(&hosts));
}

#[test]
fn a_retry_goes_to_another_host() {
    let balancer = Balancer::new(Policy::Random, &endpoints(&[1; 5]), 50);
    let idle = AtomicU32::new(0);
    for number in 0..200 {
        let draw = Draw {
            hash: None,
            random: mix(number),
        };
        let first = balancer.pick(draw, |_| load(&idle)).unwrap();
        let second = balancer
            .pick_other(draw, |_| load(&idle), 20, |index| index == first, &[])
            .unwrap();
        assert_ne!(first, second);
    }
}

#[test]
fn a_new_endpoint_begins_with_a_tenth_and_all_new_ones_share_alike() {
    use culvert_envoy::pb::envoy::config::cluster::v3::cluster::SlowStartConfig;
    use culvert_envoy::pb::google::protobuf;
    let window = protobuf::Duration {
        seconds: 3600,
        nanos: 0,
    };
    let message = SlowStartConfig {
        slow_start_window: Some(window),
        ..SlowStartConfig::default()
    };
    let slow_start = SlowStart::compile(&message).unwrap();
    let mut hosts = endpoints(&[1, 1]);
    let now = Instant::now();
    let of = |hosts: &[Endpoint], policy| {
        let settings = Settings {
            policy,
            panic_threshold: 50,
            slow_start,
            localities: None,
        };
        let balancer = Balancer::with(&settings, hosts, now);
        counts(&balancer, 2, 1100, false)
    };
    for policy in [Policy::RoundRobin, Policy::LeastRequest { choices: 2 }] {
        let alike = of(&hosts, policy);
        assert!(alike.iter().all(|count| (500..=600).contains(count)), "{alike:?}");
    }
    // One of them has been there for long.
    hosts[0].since = now.checked_sub(Duration::from_secs(7200)).unwrap();
    for policy in [Policy::RoundRobin, Policy::LeastRequest { choices: 2 }] {
        let shares = of(&hosts, policy);
        assert!((80..=120).contains(&shares[1]), "{shares:?}");
    }
}

#[test]
fn threads_that_see_the_same_change_do_not_all_take_the_same_endpoint() {
    use std::sync::Barrier;
    const THREADS: usize = 8;
    const EACH: usize = 200;
    let latencies: Vec<PeakEwma> = (0..8).map(|_| PeakEwma::default()).collect();
    // Nothing is known of the first, which makes it the cheapest.
    latencies[1..]
        .iter()
        .for_each(|latency| latency.observe(Duration::ZERO, Duration::from_millis(100)));
    for is_peak_ewma in [false, true] {
        let balancer = Balancer::new(Policy::LeastRequest { choices: 2 }, &endpoints(&[1; 8]), 50);
        let active: Vec<AtomicU32> = (0..8).map(|_| AtomicU32::new(0)).collect();
        let barrier = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (balancer, active, barrier, latencies) = (&balancer, &active, &barrier, &latencies);
                scope.spawn(move || {
                    barrier.wait();
                    for number in 0..EACH {
                        let random = mix((thread * EACH + number) as u64);
                        let busy = |index: usize| {
                            let under_way = active[index].load(Ordering::Relaxed);
                            match is_peak_ewma {
                                true => latencies[index].cost(Duration::ZERO, under_way),
                                false => under_way.into(),
                            }
                        };
                        let picked = balancer.pick(Draw { hash: None, random }, busy).unwrap();
                        active[picked].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let counts: Vec<u32> = active.iter().map(|active| active.load(Ordering::Relaxed)).collect();
        let most = *counts.iter().max().unwrap() as usize;
        // By two draws nobody gets more than what two draws of eight lead to: 15 of 64.
        assert!(most * 64 <= THREADS * EACH * 17, "{is_peak_ewma}: {counts:?}");
        if !is_peak_ewma {
            let least = *counts.iter().min().unwrap() as usize;
            assert!(most - least <= THREADS + 4, "{counts:?}");
        }
    }
}

#[test]
fn a_bounded_share_of_keys_moves_when_hashed_endpoints_come_and_go() {
    for (policy, most) in [
        (
            Policy::RingHash {
                minimum: 1024,
                maximum: 8 << 20,
            },
            // A tenth belongs to who comes; Envoy's rings give the others more or fewer points, which moves about as much again.
            25,
        ),
        (Policy::Maglev { size: 65537 }, 15),
    ] {
        let ten = endpoints(&[1; 10]);
        let (before, after) = (Balancer::new(policy, &ten[..9], 50), Balancer::new(policy, &ten, 50));
        let at = |balancer: &Balancer, hash| {
            balancer
                .pick(
                    Draw {
                        hash: Some(hash),
                        random: 0,
                    },
                    |_| 0,
                )
                .unwrap()
        };
        let moved = (0..10_000)
            .filter(|number| at(&before, mix(*number)) != at(&after, mix(*number)))
            .count();
        assert!((700..most * 100).contains(&moved), "{policy:?}: {moved} of 10000");
    }
}

#[test]
fn one_that_is_made_anew_begins_with_anybody() {
    for weights in [[1; 8], [1, 2, 1, 2, 1, 2, 1, 2]] {
        for policy in [Policy::RoundRobin, Policy::LeastRequest { choices: 2 }] {
            let mut counts = [0; 8];
            for number in 0..4000 {
                let balancer = Balancer::new(policy, &endpoints(&weights), 50);
                let random = mix(number);
                counts[balancer.pick(Draw { hash: None, random }, |_| 0).unwrap()] += 1;
            }
            assert!(
                counts.iter().all(|count| (300..1100).contains(count)),
                "{policy:?} {weights:?}: {counts:?}"
            );
        }
    }
}
