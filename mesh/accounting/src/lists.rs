//! A list for each thread, so that its lock is waited for only while somebody looks at all of them, and they look briefly.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// As many lists as there can be threads without two of them sharing one, within reason.
const LISTS: usize = 64;

#[derive(Debug)]
pub(super) struct Lists<T>(Box<[Mutex<T>]>);

impl<T: Default> Default for Lists<T> {
    fn default() -> Self {
        Self((0..LISTS).map(|_| Mutex::default()).collect())
    }
}

impl<T> Lists<T> {
    /// The number of this thread's list.
    pub(super) fn number() -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static LIST: usize = THREADS.fetch_add(1, Ordering::Relaxed) % LISTS;
        }
        LIST.with(|list| *list)
    }

    /// This thread's list.
    pub(super) fn own(&self) -> MutexGuard<'_, T> {
        self.numbered(Self::number())
    }

    /// The list with a number that [`number`](Self::number) gave to some thread.
    pub(super) fn numbered(&self, number: usize) -> MutexGuard<'_, T> {
        lock(&self.0[number % LISTS])
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Mutex<T>> {
        self.0.iter()
    }
}

pub(super) fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
