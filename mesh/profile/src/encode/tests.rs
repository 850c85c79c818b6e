use std::{
    hint::black_box,
    io::Read as _,
    sync::Mutex,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use prost::Message as _;

use super::*;
use crate::Sampling;

/// A process has one profile at a time, and so have these tests.
static ONE: Mutex<()> = Mutex::new(());

#[inline(never)]
fn busy_function_of_this_test(mut is_done: impl FnMut() -> bool) -> u64 {
    let mut sum = 0_u64;
    while !is_done() {
        for number in 0..1000_u64 {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(number));
        }
    }
    sum
}

/// Keeps a thread busy until there are some samples.
fn sampled() -> Samples {
    let sampling = Sampling::start(Duration::from_secs(5)).unwrap();
    // A busy machine gives this process little processor time, and that is what is sampled.
    std::thread::scope(|scope| {
        scope.spawn(|| busy_function_of_this_test(|| sampling.seen() >= 30));
    });
    sampling.finish().unwrap()
}

fn decode(profile: &[u8]) -> Profile {
    let mut bytes = Vec::new();
    GzDecoder::new(profile).read_to_end(&mut bytes).unwrap();
    Profile::decode(bytes.as_slice()).unwrap()
}

#[test]
fn what_keeps_a_thread_busy_is_in_the_profile_with_who_called_it() {
    let _one = ONE.lock();
    let samples = sampled();
    assert!(samples.count() >= 30, "{} samples", samples.count());
    let profile = decode(&samples.encode().unwrap());
    let text = |number: i64| profile.string_table[number as usize].as_str();
    assert_eq!(text(0), "");
    let types: Vec<_> = profile
        .sample_type
        .iter()
        .map(|one| (text(one.r#type), text(one.unit)))
        .collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    let name = |id: u64| text(profile.function[id as usize - 1].name);
    let names = |sample: &Sample| -> Vec<&str> {
        let locations = sample.location_id.iter().map(|id| &profile.location[*id as usize - 1]);
        locations
            .flat_map(|location| &location.line)
            .map(|line| name(line.function_id))
            .collect()
    };
    let seen: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
    let is_ours = |sample: &&Sample| {
        let names = names(sample);
        let at = names
            .iter()
            .position(|name| name.contains("busy_function_of_this_test"));
        at.is_some_and(|at| names[at..].iter().any(|name| name.contains("thread")))
    };
    let ours: i64 = profile
        .sample
        .iter()
        .filter(is_ours)
        .map(|sample| sample.value[0])
        .sum();
    assert!(
        ours * 2 > seen,
        "{ours} of {seen}: {:?}",
        profile.sample.iter().map(names).collect::<Vec<_>>()
    );
    let handler = profile
        .function
        .iter()
        .map(|function| text(function.name))
        .find(|name| name.contains("on_signal"));
    assert_eq!(handler, None, "the handler is no part of what it interrupted");
    let program = std::env::current_exe().unwrap();
    let mapped = profile
        .mapping
        .iter()
        .any(|mapping| text(mapping.filename) == program.to_str().unwrap());
    assert!(mapped, "pprof must find the program");
}

#[test]
fn there_is_one_at_a_time_and_the_next_when_it_is_done_or_given_up() {
    let _one = ONE.lock();
    let first = Sampling::start(Duration::from_secs(1)).unwrap();
    assert!(matches!(
        Sampling::start(Duration::from_secs(1)),
        Err(ProfileError::Busy)
    ));
    drop(first);
    let second = Sampling::start(Duration::from_secs(1)).unwrap();
    assert!(decode(&second.finish().unwrap().encode().unwrap()).period > 0);
    drop(Sampling::start(Duration::from_secs(1)).unwrap());
}

#[test]
fn threads_that_come_and_go_while_samples_are_taken_break_nothing() {
    let _one = ONE.lock();
    let until = Instant::now() + Duration::from_millis(400);
    let busy: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                while Instant::now() < until {
                    // Allocations, and threads that end: what a handler may interrupt.
                    let made: Vec<_> = (0..4).map(|_| std::thread::spawn(|| vec![1_u8; 100_000])).collect();
                    made.into_iter().for_each(|one| drop(one.join()));
                }
            })
        })
        .collect();
    while Instant::now() < until {
        let sampling = Sampling::start(Duration::from_secs(1)).unwrap();
        let enough = Instant::now() + Duration::from_millis(20);
        busy_function_of_this_test(|| Instant::now() >= enough);
        sampling.finish().unwrap();
    }
    busy.into_iter().for_each(|one| one.join().unwrap());
}
