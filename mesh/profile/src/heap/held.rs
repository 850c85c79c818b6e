//! What is held, as pprof's message.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    EVERY, allocator,
    live::{All, Sample},
};
use crate::{
    ProfileError,
    book::Book,
    message::{self, Profile},
};

/// The memory that is held at a moment, by stacks.
#[derive(Debug)]
pub struct Held {
    stacks: HashMap<Arc<[usize]>, Amount>,
    lost: u64,
    at: SystemTime,
}

/// An estimate.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    objects: f64,
    bytes: f64,
}

/// What the program holds by now; none where its allocator is not a [`SampledAllocator`](super::SampledAllocator), or has allocated next to nothing yet.
pub fn held() -> Option<Held> {
    let all = allocator::all();
    (all.taken > 0).then(|| Held::new(all))
}

impl Held {
    fn new(all: All) -> Self {
        let mut stacks: HashMap<Arc<[usize]>, Amount> = HashMap::new();
        for Sample { size, stack } in all.samples {
            let amount = stacks.entry(stack).or_default();
            let objects = stands_for(size);
            amount.objects += objects;
            amount.bytes += objects * size as f64;
        }
        Self {
            stacks,
            lost: all.lost,
            at: SystemTime::now(),
        }
    }

    /// Bytes, as estimated.
    pub fn bytes(&self) -> u64 {
        self.stacks.values().map(|amount| amount.bytes as u64).sum()
    }

    /// The profile as `go tool pprof` reads it: `inuse_objects` and `inuse_space`, compressed by gzip. Looks names up in the program's own file, which
    /// takes a second or so of processor time: not for a thread that others wait for.
    ///
    /// # Errors
    /// When it does not compress.
    pub fn encode(&self) -> Result<Vec<u8>, ProfileError> {
        let mut book = Book::of_this_process();
        let values = vec![book.value("inuse_objects", "count"), book.value("inuse_space", "bytes")];
        let sample = self.stacks.iter().map(|(stack, amount)| {
            let locations = book.locations(stack, false);
            let of_allocator = locations
                .iter()
                .take_while(|one| book.is_within(**one, is_of_allocator));
            let outer = of_allocator.count();
            message::Sample {
                location_id: locations[outer..].to_vec(),
                value: vec![amount.objects.round() as i64, amount.bytes.round() as i64],
            }
        });
        let sample = sample.collect();
        let lost = format!("{} samples since the start were lost for want of room", self.lost);
        let comment = (self.lost > 0).then(|| book.text(&lost));
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let profile = Profile {
            sample_type: values,
            sample,
            time_nanos: i64::try_from(at.as_nanos()).unwrap_or(i64::MAX),
            period_type: Some(book.value("space", "bytes")),
            period: EVERY as i64,
            comment: comment.into_iter().collect(),
            default_sample_type: book.text("inuse_space"),
            ..Profile::default()
        };
        book.close(profile)
    }
}

/// How many allocations of a size one that was sampled stands for: its chance was 1 - e^(-size / EVERY).
fn stands_for(size: usize) -> f64 {
    -1.0 / (-(size as f64) / EVERY as f64).exp_m1()
}

/// Whether a function is on the way from an allocation to its sample.
fn is_of_allocator(name: &str) -> bool {
    let parts = [
        "culvert_profile::heap::allocator",
        "culvert_profile::heap::live",
        "__rust_alloc",
        "__rust_realloc",
    ];
    name.starts_with("backtrace::")
        || name.starts_with("alloc::alloc::")
        || parts.iter().any(|part| name.contains(part))
}
