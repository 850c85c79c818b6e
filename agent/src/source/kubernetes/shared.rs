//! What the tasks of this source share.

use std::{
    error::Error as StdError,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::Client;
use tokio::sync::{Notify, watch};

use super::{book::Book, health::Health};
use crate::{cri::Locator, source::Snapshot};

/// What the tasks share.
pub(super) struct Shared {
    pub(super) node: String,
    pub(super) client: Client,
    pub(super) locator: Locator,
    pub(super) book: Mutex<Book>,
    /// Nothing until everything needed has been heard of once.
    pub(super) out: watch::Sender<Option<Arc<Snapshot>>>,
    pub(super) health: Health,
    pub(super) namespaces_changed: Notify,
    pub(super) search_due: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.book())
    }

    /// Changes the book, and tells everybody what follows.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.book();
        let namespaces = book.namespaces();
        let done = change(&mut book);
        if self.out.borrow().is_some() || book.missing().is_empty() {
            let snapshot = book.snapshot();
            // Sent under the lock, so that snapshots are in order.
            self.out.send_if_modified(|shown| {
                let is_new = shown.as_deref() != Some(&snapshot);
                if is_new {
                    *shown = Some(Arc::new(snapshot));
                }
                is_new
            });
        }
        if book.namespaces() != namespaces {
            self.namespaces_changed.notify_one();
        }
        if !book.sought().is_empty() {
            self.search_due.notify_one();
        }
        done
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes.
pub(super) fn explain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
