//! Values that many objects have in common, kept once: names of nodes and accounts, sets of labels, ports.
//!
//! A value is given back when nobody else has it: not at once, but when the pool has grown to twice what was in use when
//! it was looked through last, so that keeping house costs what growing costs.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// So many values are kept without looking whether they are in use.
const FEW: usize = 1024;

/// Equal values of one type.
#[derive(Debug)]
pub(crate) struct Pool<T: ?Sized> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// At how many values to look through them.
    full: usize,
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    /// An empty pool.
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                values: HashSet::new(),
                full: FEW,
            }),
        }
    }

    /// The value that all share who have this one.
    pub(crate) fn share<'a, Q>(&self, value: &'a Q) -> Arc<T>
    where
        Q: ?Sized + Eq + Hash,
        Arc<T>: Borrow<Q> + From<&'a Q>,
    {
        // Whoever panicked while it held the lock left a set that is whole.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = inner.values.get(value) {
            return Arc::clone(known);
        }
        if inner.values.len() >= inner.full {
            inner.values.retain(|value| Arc::strong_count(value) > 1);
            inner.full = FEW.max(2 * inner.values.len());
        }
        let new = Arc::from(value);
        inner.values.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_has_is_given_back() {
        let pool = Pool::<str>::new();
        let kept = pool.share("kept");
        assert!(Arc::ptr_eq(&kept, &pool.share("kept")));
        for number in 0..10 * FEW {
            pool.share(number.to_string().as_str());
        }
        let size = pool.inner.lock().unwrap().values.len();
        assert!(size <= FEW, "{size} values, of which one is in use");
        assert!(Arc::ptr_eq(&kept, &pool.share("kept")));
    }
}
