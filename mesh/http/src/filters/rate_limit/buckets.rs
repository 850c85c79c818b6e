//! Buckets of tokens that fill continuously: one, or one for each of many values. None of it waits for another thread.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use culvert_envoy::pb::envoy::r#type::v3::TokenBucket;

use crate::error::{CompileError, take};
use crate::value::duration;

/// How many values have a bucket of their own. Where more are in use at once, some share one.
const SLOTS: usize = 16 * 1024;
/// In how many places a value's bucket may be.
const PLACES: usize = 8;

/// Buckets of one size.
#[derive(Debug)]
pub(super) struct Buckets {
    rate: Rate,
    one: AtomicU64,
    many: Option<Many>,
}

/// How large a bucket is and how fast it fills. A bucket is a time (generic cell rate algorithm): when it will be full again.
#[derive(Debug)]
struct Rate {
    most: u32,
    /// Nanoseconds in which a token comes.
    token: u64,
    /// Nanoseconds in which an empty bucket is filled.
    whole: u64,
    /// When the first request came. Times are since then.
    begun: OnceLock<Instant>,
}

#[derive(Debug)]
struct Many {
    hasher: RandomState,
    slots: Box<[Slot]>,
}

/// The bucket of a value. One that is full again is as good as none, and may become another's.
#[derive(Debug, Default)]
struct Slot {
    /// The hash of the value; 0 for none.
    tag: AtomicU64,
    full_at: AtomicU64,
}

/// What is left in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::filters) struct Left {
    /// How many tokens it can hold.
    pub limit: u32,
    /// How many whole ones there are.
    pub remaining: u32,
    /// Until there is another one; nothing where there is one.
    pub next: Duration,
    /// Until it is full.
    pub full: Duration,
}

impl Buckets {
    /// Reads how large a bucket is. `are_many` has one for each value.
    pub(super) fn compile(bucket: &TokenBucket, are_many: bool) -> Result<Self, CompileError> {
        take!(bucket => TokenBucket { max_tokens, tokens_per_fill, fill_interval } unserved {});
        let interval = fill_interval
            .as_ref()
            .ok_or_else(|| CompileError::missing("fill_interval"))?;
        let interval = duration("fill_interval", interval)?;
        if interval < Duration::from_millis(50) {
            return Err(CompileError::invalid("fill_interval", "is below 50 ms"));
        }
        if *max_tokens == 0 {
            return Err(CompileError::invalid("max_tokens", "is 0"));
        }
        let fill = tokens_per_fill.as_ref().map_or(1, |fill| fill.value);
        if fill == 0 {
            return Err(CompileError::invalid("tokens_per_fill", "is 0"));
        }
        let nanos = |seconds: f64| Duration::try_from_secs_f64(seconds).map_or(u64::MAX, nanos);
        let per_second = f64::from(fill) / interval.as_secs_f64();
        Ok(Self {
            rate: Rate {
                most: *max_tokens,
                token: nanos(per_second.recip()),
                whole: nanos(f64::from(*max_tokens) / per_second),
                begun: OnceLock::new(),
            },
            one: AtomicU64::new(0),
            many: are_many.then(|| Many {
                hasher: RandomState::new(),
                slots: std::iter::repeat_with(Slot::default).take(SLOTS).collect(),
            }),
        })
    }

    /// Takes a token of a value's bucket, where there is one, and says what is left.
    pub(super) fn take(&self, value: &[&str], now: Instant) -> (bool, Left) {
        let now = self.rate.since(now);
        let full_at = match &self.many {
            None => &self.one,
            Some(many) => many.find(value, now),
        };
        (self.rate.take(full_at, now), self.rate.left(full_at, now))
    }

    /// Nanoseconds in which a token comes.
    pub(super) fn token(&self) -> u64 {
        self.rate.token
    }
}

impl Rate {
    fn since(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(*self.begun.get_or_init(|| now)))
    }

    /// Whether there is a token, which is gone then.
    fn take(&self, full_at: &AtomicU64, now: u64) -> bool {
        let taken = |full_at: u64| {
            let full_at = full_at.max(now).checked_add(self.token)?;
            (full_at - now <= self.whole).then_some(full_at)
        };
        full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }

    fn left(&self, full_at: &AtomicU64, now: u64) -> Left {
        let missing = full_at.load(Ordering::Relaxed).saturating_sub(now);
        let there = self.whole.saturating_sub(missing);
        let token = self.token.max(1);
        Left {
            limit: self.most,
            remaining: u32::try_from(there / token).unwrap_or(u32::MAX),
            next: Duration::from_nanos(token.saturating_sub(there)),
            full: Duration::from_nanos(missing),
        }
    }
}

impl Many {
    /// The bucket of a value: its own, one that nobody uses, or, where all its places are in use, the one that has most left.
    fn find(&self, value: &[&str], now: u64) -> &AtomicU64 {
        let tag = self.hasher.hash_one(value).max(1);
        let first = usize::try_from(tag % SLOTS as u64).unwrap_or(0);
        let places = || (0..PLACES).map(|place| &self.slots[(first + place) % SLOTS]);
        if let Some(own) = places().find(|slot| slot.tag.load(Ordering::Relaxed) == tag) {
            return &own.full_at;
        }
        for slot in places() {
            let was = slot.tag.load(Ordering::Relaxed);
            let is_free = was == 0 || slot.full_at.load(Ordering::Relaxed) <= now;
            if is_free
                && slot
                    .tag
                    .compare_exchange(was, tag, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            {
                return &slot.full_at;
            }
        }
        let shared = places().min_by_key(|slot| slot.full_at.load(Ordering::Relaxed));
        &shared.unwrap_or(&self.slots[first]).full_at
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Buckets that filters use, by what they count.
static IN_USE: LazyLock<Mutex<HashMap<String, Weak<Buckets>>>> = LazyLock::new(Mutex::default);

/// The buckets under a name, which stay the same for as long as some filter uses them: a change of anything else gives nobody new tokens.
pub(super) fn kept(name: String, made: Buckets) -> Arc<Buckets> {
    let mut all = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, buckets| buckets.strong_count() > 0);
    if let Some(there) = all.get(&name).and_then(Weak::upgrade) {
        return there;
    }
    let made = Arc::new(made);
    all.insert(name, Arc::downgrade(&made));
    made
}

#[cfg(test)]
mod tests {
    use culvert_envoy::pb::google::protobuf;

    use super::*;
    use crate::testing::number;

    fn bucket(most: u32) -> TokenBucket {
        TokenBucket {
            max_tokens: most,
            tokens_per_fill: number(1),
            fill_interval: Some(protobuf::Duration { seconds: 1, nanos: 0 }),
        }
    }

    #[test]
    fn each_value_has_tokens_of_its_own_and_what_is_left_is_said() {
        let buckets = Buckets::compile(&bucket(2), true).unwrap();
        let now = Instant::now();
        let take = |value: &str| buckets.take(&[value], now);
        assert_eq!(take("a").1.remaining, 1);
        let (taken, left) = take("a");
        assert!(taken);
        assert_eq!((left.limit, left.remaining), (2, 0));
        assert_eq!((left.next.as_secs(), left.full.as_secs()), (1, 2));
        assert!(!take("a").0 && take("b").0);
        let later = now + Duration::from_secs(1);
        assert!(buckets.take(&["a"], later).0 && !buckets.take(&["a"], later).0);
    }

    #[test]
    fn more_values_than_there_are_buckets_get_no_tokens_beyond_theirs() {
        let buckets = Buckets::compile(&bucket(1), true).unwrap();
        let now = Instant::now();
        let allowed = (0..4 * SLOTS).filter(|value| buckets.take(&[&value.to_string()], now).0);
        assert!(allowed.count() <= SLOTS);
        assert!(!buckets.take(&["0"], now).0);
        // What is full again is free for others.
        assert!(buckets.take(&["new"], now + Duration::from_secs(2)).0);
    }

    #[test]
    fn buckets_outlive_a_change_of_the_configuration_and_no_more() {
        let make = |name: &str| kept(name.to_owned(), Buckets::compile(&bucket(1), false).unwrap());
        let before = make("same");
        assert!(Arc::ptr_eq(&before, &make("same")) && !Arc::ptr_eq(&before, &make("other")));
        assert!(before.take(&[], Instant::now()).0);
        drop(before);
        assert!(make("same").take(&[], Instant::now()).0);
    }
}
