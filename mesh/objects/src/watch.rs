//! The thread that follows a directory.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use crate::directory::{Directory, Loaded, SETTLE, Scan};

/// How often to look although nothing was heard: the backstop behind inotify, whose queue can overflow and which does not
/// see behind symbolic links.
const LOOK: Duration = Duration::from_secs(2);
/// How often to look without inotify.
const LOOK_WITHOUT: Duration = Duration::from_millis(300);
/// How often to ask whether anybody still listens.
const LISTENERS: Duration = Duration::from_millis(500);

impl Directory {
    /// Follows the directory on a thread of its own, until every receiver is gone. Changes are noticed by inotify, and
    /// by looking every two seconds, or more often where inotify is not to be had.
    pub fn watch(self) -> watch::Receiver<Arc<Loaded>> {
        spawn(self)
    }
}

fn spawn(mut directory: Directory) -> watch::Receiver<Arc<Loaded>> {
    let (publish, receiver) = watch::channel(directory.loaded());
    // Before the thread starts: who writes after this call returns is noticed.
    let (notice, notices) = mpsc::sync_channel(1);
    // One notice in the channel is enough: it says "look", not what changed. `keep` holds the other end open.
    let keep = notice.clone();
    let busy = Arc::new(Mutex::new(HashSet::new()));
    let writers = Arc::clone(&busy);
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        match event {
            Ok(event) if !changes_something(event.kind) => return,
            Ok(event) => {
                if let Ok(mut busy) = writers.lock() {
                    note_writers(&mut busy, &event);
                }
            }
            Err(_) => {}
        }
        // Full means that a look is due anyway.
        let _ = notice.try_send(());
    })
    .and_then(|mut watcher| {
        watcher.watch(&directory.root, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    let period = match &watcher {
        Ok(_) => LOOK,
        Err(error) => {
            tracing::warn!(%error, directory = %directory.root.display(), "cannot watch; looking again and again instead");
            LOOK_WITHOUT
        }
    };
    let follow = move || {
        let mut next = Instant::now() + SETTLE;
        let mut earliest = Instant::now();
        while !publish.is_closed() {
            let wait = next.saturating_duration_since(Instant::now()).min(LISTENERS);
            match notices.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) if Instant::now() < next => continue,
                // A file that is written to byte by byte tells of each.
                Ok(()) if Instant::now() < earliest => {
                    next = next.min(earliest);
                    continue;
                }
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            next = Instant::now()
                + match directory.scan(&busy.lock().map(|busy| busy.clone()).unwrap_or_default()) {
                    Scan::Unsettled => SETTLE / 2,
                    Scan::Settled => period,
                };
            earliest = Instant::now() + SETTLE / 4;
            let loaded = directory.loaded();
            publish.send_if_modified(|current| {
                let changed = !Arc::ptr_eq(current, &loaded);
                *current = loaded;
                changed
            });
        }
        drop((watcher, keep));
    };
    if let Err(error) = std::thread::Builder::new().name("objects".to_owned()).spawn(follow) {
        tracing::error!(%error, "cannot start a thread: changes of the configuration will not be noticed");
    }
    receiver
}

/// Whether an event is worth a look. A look opens folders and files itself: to answer that with another would never end.
fn changes_something(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// Files that were written to and not closed since. What is opened and cut short counts as written to.
fn note_writers(busy: &mut HashSet<PathBuf>, event: &Event) {
    match event.kind {
        EventKind::Modify(notify::event::ModifyKind::Data(_)) => busy.extend(event.paths.iter().cloned()),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) | EventKind::Modify(_) => {
            busy.retain(|path| !event.paths.contains(path));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, ModifyKind, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn reading_the_directory_is_no_change_of_it() {
        for access in [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Close(AccessMode::Read),
            AccessKind::Read,
        ] {
            assert!(
                !changes_something(EventKind::Access(access)),
                "{access:?} must not lead to a look"
            );
        }
        for kind in [
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            EventKind::Create(CreateKind::File),
            EventKind::Modify(ModifyKind::Data(DataChange::Any)),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            EventKind::Remove(RemoveKind::Folder),
        ] {
            assert!(changes_something(kind), "{kind:?} must lead to a look");
        }
    }
}
