//! Tokens whose signatures were found good, so that a client pays for that once and not with each of its requests.
//!
//! What is remembered is the signature alone: what a token claims, its times among it, is looked at with each request. A set belongs to a
//! provider and so to its keys: other keys come with another provider, which remembers nothing. Only good tokens are remembered, so that
//! nobody without one can fill it.

use std::mem;

use aws_lc_rs::digest::{self, SHA256};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;

/// Tokens of one of the two generations: 32 bytes each, and a table that is at most half empty.
const MOST: usize = 2048;

/// A token as a whole, header and signature included: whoever finds another one of the same digest has broken SHA-256.
type Digest = [u8; 32];

/// Tokens of one provider.
#[derive(Debug, Default)]
pub(super) struct Proven(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: FxHashSet<Digest>,
    /// What was young when that became full. It goes when that is full again.
    old: FxHashSet<Digest>,
}

impl Proven {
    /// Says whether a token was proven before; if not, `prove` says, and a good one is remembered.
    ///
    /// # Errors
    /// Those of `prove`, each time.
    pub(super) fn or<E>(&self, token: &str, prove: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let digest = digest::digest(&SHA256, token.as_bytes());
        let Ok(digest) = Digest::try_from(digest.as_ref()) else {
            return prove();
        };
        if self.0.lock().has(&digest) {
            return Ok(());
        }
        // Not under the lock, which other threads want.
        prove()?;
        self.0.lock().put(digest);
        Ok(())
    }
}

impl Generations {
    fn has(&mut self, digest: &Digest) -> bool {
        if self.young.contains(digest) {
            return true;
        }
        let is_old = self.old.contains(digest);
        if is_old {
            // It is in use: it stays.
            self.put(*digest);
        }
        is_old
    }

    fn put(&mut self, digest: Digest) {
        if self.young.len() >= MOST {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(proven: &Proven, token: &str) -> bool {
        let mut asked = false;
        let answer: Result<(), ()> = proven.or(token, || {
            asked = true;
            Ok(())
        });
        assert_eq!(answer, Ok(()));
        asked
    }

    #[test]
    fn a_good_token_is_proven_once_and_a_bad_one_each_time() {
        let proven = Proven::default();
        assert!(asks(&proven, "a.b.c"));
        assert!(!asks(&proven, "a.b.c"));
        assert!(asks(&proven, "a.b.d"));
        for _ in 0..2 {
            assert_eq!(proven.or("x.y.z", || Err("bad")), Err("bad"));
        }
    }

    #[test]
    fn what_is_in_use_stays_and_the_number_is_bounded() {
        let proven = Proven::default();
        assert!(asks(&proven, "used"));
        for number in 0..3 * MOST {
            asks(&proven, &number.to_string());
            assert!(!asks(&proven, "used"), "forgotten after {number} others");
        }
        let generations = proven.0.lock();
        assert!(generations.young.len() <= MOST && generations.old.len() <= MOST);
        drop(generations);
        assert!(asks(&proven, "0"));
    }
}
