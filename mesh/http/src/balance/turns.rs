//! Round robin with weights: earliest deadline first. Each member's next turn is one over its weight after its last. The first turn is
//! anybody's: what is made anew with every change would lead to the same member each time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering as Memory};
use std::sync::{Mutex, OnceLock, TryLockError};

/// Turns of members by their weights.
#[derive(Debug)]
pub(super) enum Turns {
    /// All weigh the same: no lock is needed.
    Equal {
        count: usize,
        first: OnceLock<usize>,
        next: AtomicUsize,
    },
    /// By weight. The lock is held for one step in a heap, and nobody waits for it: who finds it taken draws by weight.
    Weighted { weights: Vec<f64>, queue: Mutex<Queue> },
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Turn>,
    number: u64,
    has_begun: bool,
}

#[derive(Debug)]
struct Turn {
    /// `work` over the weight, divided anew each time so that no error adds up.
    deadline: f64,
    /// What the member has done, this turn included.
    work: f64,
    number: u64,
    member: usize,
}

impl Turns {
    pub(super) fn new(weights: &[u64]) -> Self {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Equal {
                count: weights.len(),
                first: OnceLock::new(),
                next: AtomicUsize::new(0),
            };
        }
        Self::weighted(weights)
    }

    /// By weight, also where all weigh the same: for what weighs less for a while.
    pub(super) fn weighted(weights: &[u64]) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a weight is a u32")]
        let weights: Vec<f64> = weights.iter().map(|weight| *weight as f64).collect();
        let mut queue = Queue::default();
        for (member, weight) in weights.iter().enumerate() {
            queue.push(1.0, *weight, member);
        }
        Self::Weighted {
            weights,
            queue: Mutex::new(queue),
        }
    }

    /// Whose turn it is. `factor` is by how much a member weighs less now than it did. `random` decides where another thread is at it.
    pub(super) fn next(&self, random: u64, factor: impl Fn(usize) -> f64) -> usize {
        let (weights, queue) = match self {
            Self::Equal { count, first, next } => {
                let first = first.get_or_init(|| usize::try_from(random % (*count).max(1) as u64).unwrap_or_default());
                return first.wrapping_add(next.fetch_add(1, Memory::Relaxed)) % count.max(&1);
            }
            Self::Weighted { weights, queue } => (weights, queue),
        };
        let mut queue = match queue.try_lock() {
            Ok(queue) => queue,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return by_chance(weights, random, factor),
        };
        if !std::mem::replace(&mut queue.has_begun, true) {
            for _ in 0..random % weights.len().max(1) as u64 {
                queue.turn(weights, |_| 1.0);
            }
        }
        queue.turn(weights, factor)
    }
}

/// A member by its weight.
#[allow(clippy::cast_precision_loss, reason = "53 bits of chance are enough")]
fn by_chance(weights: &[f64], random: u64, factor: impl Fn(usize) -> f64) -> usize {
    let now = || {
        weights
            .iter()
            .enumerate()
            .map(|(member, weight)| weight * factor(member))
    };
    let mut point = (random >> 11) as f64 / (1_u64 << 53) as f64 * now().sum::<f64>();
    for (member, weight) in now().enumerate() {
        point -= weight;
        if point < 0.0 {
            return member;
        }
    }
    weights.len().saturating_sub(1)
}

impl Queue {
    fn turn(&mut self, weights: &[f64], factor: impl Fn(usize) -> f64) -> usize {
        let Some(turn) = self.heap.pop() else { return 0 };
        self.push(turn.work + 1.0 / factor(turn.member), weights[turn.member], turn.member);
        turn.member
    }

    fn push(&mut self, work: f64, weight: f64, member: usize) {
        self.number += 1;
        let number = self.number;
        let deadline = work / weight;
        self.heap.push(Turn {
            deadline,
            work,
            number,
            member,
        });
    }
}

impl Ord for Turn {
    /// The greatest is the one with the earliest deadline, of equal ones the one that waits longest.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .deadline
            .total_cmp(&self.deadline)
            .then_with(|| other.number.cmp(&self.number))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}
