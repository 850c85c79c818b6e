//! A run that nobody measured, the same for the same seed.

use crate::record::{Hook, Memory, Missing, Named, Noise, Run, Sample, Work};
use culvert_report::machine::Machine;
use std::collections::BTreeMap;

/// How much more than without a mesh a mode's proxies cost and take, and by how much rounds differ from it (0.02: 2%).
const MODES: [(&str, f64, f64); 7] = [
    ("direct", 0.0, 0.02),
    ("culvert", 1.0, 0.02),
    ("culvert-same-node", 1.01, 0.05),
    ("culvert-kernel", 0.0, 0.02),
    ("sidecar", 2.4, 0.02),
    ("sidecar-http", 6.0, 0.02),
    ("ztunnel", 2.2, 0.15),
];
const LOADS: [(&str, &str); 8] = [
    ("stream", "one connection that carries as much as it can"),
    ("requests-1", "1 KiB there and back, one connection"),
    ("requests-16", "1 KiB there and back, 16 connections"),
    ("http1-16", "HTTP/1.1, 1 KiB there and back, 16 connections"),
    ("rate-1000", "1,000 requests a second"),
    ("rate-5000", "5,000 requests a second"),
    ("rate-20000", "20,000 requests a second"),
    ("connections", "new connections, 16 at a time"),
];

/// Of so many rounds.
pub(super) fn run(seed: u64, rounds: u32) -> Run {
    let mut random = fastrand::Rng::with_seed(seed);
    let named = |(name, what): (&str, &str)| Named {
        name: name.to_owned(),
        what: what.to_owned(),
    };
    let mut samples = Vec::new();
    for round in 1..=rounds {
        for (load, _) in LOADS {
            for (mode, cost, spread) in MODES {
                samples.push(sample(&mut random, (mode, cost, spread), load, round));
            }
        }
    }
    Run {
        command: "cargo xtask bench --out FOLDER".to_owned(),
        began: "2026-12-01T20:00:00Z".to_owned(),
        machine: Machine {
            processor: "Example <Processor> & Co".to_owned(),
            processors: 2,
            memory_mb: 8000,
            kernel: "6.18.0".to_owned(),
        },
        versions: BTreeMap::from(
            [("culvert", "0.1.0"), ("envoy", "1.40.0")].map(|(name, version)| (name.to_owned(), version.to_owned())),
        ),
        modes: MODES
            .map(|(name, _, _)| named((name, "a way between two pods")))
            .to_vec(),
        loads: LOADS.map(named).to_vec(),
        samples,
        memory: memory(),
        hooks: vec![Hook {
            mode: "culvert".to_owned(),
            name: "connect4".to_owned(),
            calls: 12_345,
            nanoseconds: 812.4,
        }],
        missing: vec![Missing {
            mode: "culvert-waypoint".to_owned(),
            load: None,
            why: "it is not built".to_owned(),
        }],
    }
}

fn sample(random: &mut fastrand::Rng, (mode, cost, spread): (&str, f64, f64), load: &str, round: u32) -> Sample {
    let mut around = |value: f64| value * (1.0 + spread * (2.0 * random.f64() - 1.0));
    let slower = 1.0 + cost;
    let (count, bytes) = match load {
        "stream" => (0, around(25e9 / slower) as u64),
        "rate-1000" => (5000, 10_240_000),
        "rate-5000" => (25_000, 51_200_000),
        "rate-20000" => (100_000, 204_800_000),
        _ => {
            let count = around(500_000.0 / slower) as u64;
            (count, count * 2048)
        }
    };
    let middle = around(100.0 * slower) * if load.starts_with("rate-2") { 3.0 } else { 1.0 };
    // A tail that falls by half for each tenth of the middle, in 80 buckets.
    let times: Vec<(u64, u64)> = (0..80)
        .map(|step| {
            (
                (middle * (0.8 + f64::from(step) / 10.0)) as u64,
                (count as f64 / 2f64.powi(step + 1)) as u64,
            )
        })
        .collect();
    Sample {
        mode: mode.to_owned(),
        load: load.to_owned(),
        round,
        seconds: 5.0,
        bytes,
        count,
        failed: 0,
        times_us: if count > 0 { times } else { Vec::new() },
        proxies: Work {
            cpu_seconds: cost
                * around(if count > 0 {
                    count as f64 * 1.5e-5
                } else {
                    bytes as f64 * 0.7e-9
                }),
            switches: (cost * count as f64) as u64,
            system_calls: (mode != "ztunnel").then_some((4.0 * cost * count as f64) as u64),
        },
        machine_cpu_seconds: around(9.0),
        wire_bytes: (mode != "culvert-kernel").then_some((bytes as f64 * 1.07) as u64),
        noise: Noise::default(),
        disturbed: None,
    }
}

fn memory() -> Vec<Memory> {
    let with = |(mode, idle, each): (&str, f64, f64)| {
        [0u64, 1000, 10_000].map(|connections| Memory {
            mode: mode.to_owned(),
            connections,
            pss_mb: idle + each * connections as f64,
        })
    };
    [("culvert", 9.0, 0.005), ("sidecar", 60.0, 0.03)]
        .into_iter()
        .flat_map(with)
        .collect()
}
