//! The thread that follows a directory.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use notify::{Event, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use crate::directory::{Directory, Loaded, SETTLE, Scan};
use crate::heard::{Due, Haste, Heard};

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
    // One notice in the channel is enough: what changed is noted apart. `keep` holds the other end open.
    let keep = notice.clone();
    let heard = Arc::new(Mutex::new(Heard::default()));
    let hearing = Arc::clone(&heard);
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let is_worth_it = hearing.lock().is_ok_and(|mut heard| match event {
            Ok(event) => heard.note(&event),
            Err(_) => {
                heard.lost();
                true
            }
        });
        if is_worth_it {
            // Full means that somebody is about to look at what was heard.
            let _ = notice.try_send(());
        }
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
        let mut planned = Instant::now() + SETTLE;
        let mut next = planned;
        let mut earliest = Instant::now();
        // Whether something else than files renamed into their places was heard of and not looked at yet.
        let mut is_moving = false;
        while !publish.is_closed() {
            let wait = next.saturating_duration_since(Instant::now()).min(LISTENERS);
            match notices.recv_timeout(wait) {
                Ok(()) => {
                    let Due { placed, look } = heard.lock().map(|mut heard| heard.take()).unwrap_or_default();
                    is_moving |= look == Some(Haste::Now);
                    // What was renamed into its place is whole, and waits for nothing but what else is on the move.
                    let is_taken = placed.is_empty() || !is_moving && directory.take(&placed);
                    tell(&publish, &directory);
                    if is_moving || !is_taken {
                        // A file that is written to byte by byte tells of each.
                        next = next.min(earliest);
                    } else if !placed.is_empty() {
                        // What was hidden until now has become what was just read.
                        next = planned;
                    } else if look == Some(Haste::Soon) {
                        next = next.min(Instant::now() + SETTLE / 2);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() < next {
                continue;
            }
            is_moving = false;
            let busy = heard.lock().map(|heard| heard.busy()).unwrap_or_default();
            planned = Instant::now()
                + match directory.scan(&busy) {
                    Scan::Unsettled => SETTLE / 2,
                    Scan::Settled => period,
                };
            next = planned;
            earliest = Instant::now() + SETTLE / 4;
            tell(&publish, &directory);
        }
        drop((watcher, keep));
    };
    if let Err(error) = std::thread::Builder::new().name("objects".to_owned()).spawn(follow) {
        tracing::error!(%error, "cannot start a thread: changes of the configuration will not be noticed");
    }
    receiver
}

fn tell(publish: &watch::Sender<Arc<Loaded>>, directory: &Directory) {
    let loaded = directory.loaded();
    publish.send_if_modified(|current| {
        let changed = !Arc::ptr_eq(current, &loaded);
        *current = loaded;
        changed
    });
}
