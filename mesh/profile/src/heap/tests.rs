use std::{alloc::System, hint::black_box, io::Read as _, thread};

use flate2::read::GzDecoder;
use prost::Message as _;

use super::{SampledAllocator, held};
use crate::message::{Profile, Sample};

/// That of this crate's tests, each of which `cargo nextest` runs in a process of its own.
#[global_allocator]
static ALLOCATOR: SampledAllocator<System> = SampledAllocator::new(System);

const MIB: f64 = 1024.0 * 1024.0;
/// Of 128 samples, which is what these tests take, an estimate is wrong by more than half once in many millions of times.
const HOARD: usize = 64 << 20;

/// Bytes that stacks with this function hold, MiB, and the functions of the first such stack.
fn held_by(function: &str) -> (f64, Vec<String>) {
    let compressed = held().unwrap().encode().unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(compressed.as_slice()).read_to_end(&mut bytes).unwrap();
    let profile = Profile::decode(bytes.as_slice()).unwrap();
    let text = |number: i64| profile.string_table[number as usize].clone();
    let kinds: Vec<_> = profile.sample_type.iter().map(|kind| text(kind.r#type)).collect();
    assert_eq!(kinds, ["inuse_objects", "inuse_space"]);
    assert_eq!(text(profile.default_sample_type), "inuse_space");
    let names = |sample: &Sample| -> Vec<String> {
        let locations = sample.location_id.iter().map(|id| &profile.location[*id as usize - 1]);
        let lines = locations.flat_map(|location| &location.line);
        lines
            .map(|line| text(profile.function[line.function_id as usize - 1].name))
            .collect()
    };
    let stacks = profile.sample.iter().map(|sample| (sample.value[1], names(sample)));
    let ours: Vec<_> = stacks
        .filter(|(_, names)| names.iter().any(|name| name.contains(function)))
        .collect();
    let sum: i64 = ours.iter().map(|(bytes, _)| bytes).sum();
    (sum as f64 / MIB, ours.into_iter().next().unwrap_or_default().1)
}

#[inline(never)]
fn function_that_hoards(size: usize) -> Vec<Vec<u8>> {
    (0..HOARD / size).map(|_| black_box(Vec::with_capacity(size))).collect()
}

#[inline(never)]
fn function_that_grows() -> Vec<u64> {
    let mut grown = Vec::new();
    (0..HOARD as u64 / 8).for_each(|number| grown.push(number));
    grown
}

#[inline(never)]
fn function_that_gives_away(sender: &std::sync::mpsc::Sender<Vec<u8>>) {
    for _ in 0..HOARD / 4096 {
        sender.send(black_box(Vec::with_capacity(4096))).unwrap();
    }
}

#[test]
fn what_is_held_is_told_with_who_holds_it_and_what_is_freed_is_not() {
    for size in [256, 64 << 10, 4 << 20] {
        let hoard = function_that_hoards(size);
        let (held, names) = held_by("function_that_hoards");
        assert!((32.0..96.0).contains(&held), "{held} MiB in pieces of {size}");
        assert!(
            !names[0].contains("culvert_profile::heap::allocator") && !names[0].contains("backtrace"),
            "whoever allocates stands first: {names:?}"
        );
        drop(hoard);
        let (held, _) = held_by("function_that_hoards");
        assert!(held < f64::EPSILON, "{held} MiB after all is freed");
    }
}

#[test]
fn what_grows_in_its_place_counts_as_what_it_has_become() {
    let grown = function_that_grows();
    let (held, _) = held_by("function_that_grows");
    // One allocation of a hundred and more times the distance of samples is always in the profile, as one.
    let is = (grown.capacity() * 8) as f64 / MIB;
    assert!((held - is).abs() < 0.01 * is, "{held} of {is} MiB");
    drop(grown);
    assert!(held_by("function_that_grows").0 < f64::EPSILON);
}

#[test]
fn what_one_thread_allocates_and_another_one_frees_is_gone_whatever_happens_at_the_same_time() {
    thread::scope(|scope| {
        for _ in 0..4 {
            let (sender, receiver) = std::sync::mpsc::channel();
            scope.spawn(move || function_that_gives_away(&sender));
            scope.spawn(move || receiver.into_iter().for_each(drop));
        }
        scope.spawn(|| (0..20).for_each(|_| drop(held())));
    });
    let (held, _) = held_by("function_that_gives_away");
    assert!(held < f64::EPSILON, "{held} MiB");
}
