//! From stacks to pprof's message.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    ProfileError, RATE,
    book::Book,
    message::{Profile, Sample},
};

/// Processor time that a sample stands for.
const PERIOD: i64 = 1_000_000_000 / RATE as i64;

/// The stacks of a profile.
#[derive(Debug)]
pub struct Samples {
    /// Each innermost first, with how often it was seen.
    stacks: HashMap<Vec<usize>, i64>,
    lost: u64,
    began: SystemTime,
    took: Duration,
}

impl Samples {
    pub(crate) fn new(all: Vec<Vec<usize>>, lost: u64, began: SystemTime, took: Duration) -> Self {
        let mut stacks = HashMap::new();
        for stack in all.into_iter().filter(|stack| !stack.is_empty()) {
            *stacks.entry(stack).or_default() += 1;
        }
        Self {
            stacks,
            lost,
            began,
            took,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.stacks.values().sum::<i64>().unsigned_abs()
    }

    /// The profile as `go tool pprof` reads it: the message, compressed by gzip. Looks names up in the program's own file, which
    /// takes a second or so of processor time: not for a thread that others wait for.
    ///
    /// # Errors
    /// When it does not compress.
    pub fn encode(&self) -> Result<Vec<u8>, ProfileError> {
        let mut book = Book::of_this_process();
        let profile = self.message(&mut book);
        book.close(profile)
    }

    /// Without what is in the book.
    fn message(&self, book: &mut Book) -> Profile {
        let samples = book.value("samples", "count");
        let time = book.value("cpu", "nanoseconds");
        let sample = self.stacks.iter().map(|(stack, seen)| Sample {
            location_id: book.locations(stack, true),
            value: vec![*seen, *seen * PERIOD],
        });
        let sample = sample.collect();
        let lost = format!("{} samples were lost for want of room", self.lost);
        let comment = (self.lost > 0).then(|| book.text(&lost));
        let began = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        Profile {
            sample_type: vec![samples, time],
            sample,
            time_nanos: nanos(began),
            duration_nanos: nanos(self.took),
            period_type: Some(time),
            period: PERIOD,
            comment: comment.into_iter().collect(),
            ..Profile::default()
        }
    }
}

#[cfg(test)]
mod tests;
