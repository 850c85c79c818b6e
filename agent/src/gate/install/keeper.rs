//! The thread that looks again and again.

use std::{
    path::Path,
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::watch;

use super::{Memory, Places, Standing, look};

/// How often to look although nothing was heard: folders may be replaced, and inotify's queue overflows.
const LOOK: Duration = Duration::from_secs(2);

/// The same while something is not right, or inotify is not to be had.
const LOOK_SOON: Duration = Duration::from_millis(300);

/// How long after a first change to look: who installs a CNI writes more than one file.
const SETTLE: Duration = Duration::from_millis(20);

/// Keeps the plug-in installed, on a thread of its own, until `standing` has no receiver any more. While `leaving` says true,
/// keeps it out.
pub fn keep(places: Places, standing: watch::Sender<Standing>, leaving: watch::Receiver<bool>) {
    let (notice, notices) = mpsc::sync_channel(1);
    let run = move || {
        let mut memory = Memory::default();
        let mut watcher = Watched::new(notice);
        while !standing.is_closed() {
            // Before the look: what changes during it is heard.
            let is_heard = watcher.watch(&places);
            let is_leaving = *leaving.borrow();
            let now = if is_leaving {
                without(&places)
            } else {
                look(&places, &mut memory, Instant::now())
            };
            let is_right = now.is_installed() != is_leaving && is_heard;
            standing.send_if_modified(|before| publish(before, now));
            wait(&notices, if is_right { LOOK } else { LOOK_SOON });
        }
    };
    if let Err(error) = std::thread::Builder::new().name("cni".to_owned()).spawn(run) {
        tracing::error!(%error, "cannot start a thread: the CNI plug-in will not be installed");
    }
}

/// Removes what there is.
fn without(places: &Places) -> Standing {
    let removed = super::remove(places);
    Standing::wrong(match removed {
        Ok(()) => super::REMOVED.to_owned(),
        Err(error) => error.to_string(),
    })
}

fn publish(before: &mut Standing, now: Standing) -> bool {
    if *before == now {
        return false;
    }
    match (&now.configuration, &now.problem) {
        (Some(file), None) => {
            tracing::info!(file = %file.display(), "new pods of the mesh wait until they are captured")
        }
        (_, Some(problem)) => tracing::warn!(problem, installed = now.is_installed(), "CNI plug-in"),
        (None, None) => {}
    }
    *before = now;
    true
}

/// Waits for a change, or for `period`.
fn wait(notices: &Receiver<()>, period: Duration) {
    match notices.recv_timeout(period) {
        // What comes within this time belongs to the same change.
        Ok(()) => drop(notices.recv_timeout(SETTLE)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
    }
    // One look answers all notices so far.
    while notices.try_recv().is_ok() {}
}

/// The two folders, watched by inotify where it is to be had.
struct Watched {
    watcher: Option<RecommendedWatcher>,
    complete: bool,
    /// Holds the channel open when there is no watcher.
    _notice: SyncSender<()>,
}

impl Watched {
    fn new(notice: SyncSender<()>) -> Self {
        let keep = notice.clone();
        let heard = move |event: notify::Result<Event>| {
            if event.map_or(true, |event| changes_something(event.kind)) {
                // Full means that a look is due anyway.
                let _ = notice.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(heard)
            .inspect_err(
                |error| tracing::warn!(%error, "cannot watch the CNI folders; looking again and again instead"),
            )
            .ok();
        Self {
            watcher,
            complete: false,
            _notice: keep,
        }
    }

    /// Whether changes will be heard; tries again what did not work.
    fn watch(&mut self, places: &Places) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        if !self.complete {
            let mut watch = |folder: &Path| watcher.watch(folder, RecursiveMode::NonRecursive).is_ok();
            self.complete = watch(&places.conf_dir) & watch(&places.bin_dir);
        }
        self.complete
    }
}

/// A look opens files itself: to answer that with another would never end.
fn changes_something(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
