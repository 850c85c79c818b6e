//! What Envoy 1.40 was seen to do, and the arithmetic around it.

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
            .pick_other(draw, |_| load(&idle), 20, |index| index == first)
            .unwrap();
        assert_ne!(first, second);
    }
}

fn detector(message: OutlierDetection) -> outlier::Detector {
    outlier::Detector::new(outlier::Settings::compile(&message).unwrap())
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

#[test]
fn with_the_default_of_ten_percent_nothing_is_ejected_below_ten_hosts() {
    let detector = detector(OutlierDetection::default());
    let now = Instant::now();
    let error = outlier::Result::ServerError { gateway: false };
    let ejects = |hosts| {
        let mut record = outlier::Record::default();
        (0..5)
            .map(|_| detector.record(&mut record, error, now, 0, hosts))
            .last()
            .unwrap()
    };
    assert!(!ejects(9) && ejects(10));
}

#[test]
fn a_host_is_out_longer_each_time_and_a_success_starts_the_count_anew() {
    let detector = detector(OutlierDetection {
        consecutive_5xx: number(2),
        max_ejection_percent: number(100),
        ..OutlierDetection::default()
    });
    let mut record = outlier::Record::default();
    let start = Instant::now();
    let error = outlier::Result::ServerError { gateway: true };
    assert!(!detector.record(&mut record, error, start, 0, 1));
    assert!(!detector.record(&mut record, outlier::Result::Success, start, 0, 1));
    assert!(!detector.record(&mut record, error, start, 0, 1));
    assert!(detector.record(&mut record, outlier::Result::Local, start, 0, 1));
    assert!(!detector.sweep(&mut record, start + Duration::from_secs(29)));
    assert!(detector.sweep(&mut record, start + Duration::from_secs(30)));
    for _ in 0..2 {
        detector.record(&mut record, error, start, 0, 1);
    }
    assert!(record.is_ejected() && !detector.sweep(&mut record, start + Duration::from_secs(59)));
    assert!(detector.sweep(&mut record, start + Duration::from_secs(60)));
}

#[test]
fn success_rates_are_refused_where_they_are_asked_for() {
    let asked = OutlierDetection {
        enforcing_success_rate: number(100),
        ..OutlierDetection::default()
    };
    assert!(
        outlier::Settings::compile(&asked)
            .unwrap_err()
            .to_string()
            .contains("enforcing_success_rate")
    );
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
        let balancer = Balancer::with(policy, hosts, 50, slow_start, now);
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
