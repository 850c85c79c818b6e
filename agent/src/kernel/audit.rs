//! What should be, compared with what is: programs that came off, pins that were removed, entries of maps that changed.
//!
//! Nobody but the agent may touch what it attached, pinned and wrote, but clean-up scripts, other tools and people do. The
//! agent calls [`Kernel::audit`] on a beat. What can be put right here is; a pod whose part is not as it should be is
//! named, so that whoever knows the pod enrols it again.

use super::{
    Kernel, KernelError, NODE_HOOKS,
    names::{GuardName, Name},
};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::ModifyKind};
use std::collections::BTreeSet;
use tokio::sync::mpsc;

/// What something that was found wrong is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The file that keeps a program or map when the agent ends.
    Pin,
    /// The attachment of a program.
    Link,
    /// An entry of the programs' maps.
    Map,
    /// The proxy's listening sockets of a pod.
    Listener,
    /// A setting of a pod's network namespace.
    Sysctl,
}

impl Kind {
    /// All of them, for metrics that show zeros too.
    pub const ALL: [Self; 5] = [Self::Pin, Self::Link, Self::Map, Self::Listener, Self::Sysctl];

    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Link => "link",
            Self::Map => "map",
            Self::Listener => "listener",
            Self::Sysctl => "sysctl",
        }
    }
}

/// Something that was not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Which one, in words.
    pub what: String,
}

/// What [`Kernel::audit`] found.
#[derive(Debug, Default)]
pub struct Audit {
    /// Wrong, and put right.
    pub repaired: Vec<Found>,
    /// Wrong, and still so; with the reason.
    pub failed: Vec<Found>,
    /// Pods that must be enrolled again, by cookie, and what is wrong with them.
    pub pods: Vec<(u64, Kind)>,
}

impl Audit {
    fn note(&mut self, kind: Kind, what: impl Into<String>, outcome: Result<bool, KernelError>) {
        let what = what.into();
        match outcome {
            Ok(false) => {}
            Ok(true) => self.repaired.push(Found { kind, what }),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let what = format!("{what}: {error}{}", cause.unwrap_or_default());
                self.failed.push(Found { kind, what });
            }
        }
    }
}

impl Kernel {
    /// Compares what this process attached, pinned and told the programs with what is, and puts right what it can.
    pub fn audit(&mut self) -> Audit {
        let mut audit = Audit::default();
        for pin in &self.pins {
            audit.note(Kind::Pin, pin.path().display().to_string(), pin.restore());
        }
        let links = self.links.audit();
        for path in links.pinned {
            audit.note(Kind::Pin, path.display().to_string(), Ok(true));
        }
        for error in links.failed {
            audit.note(Kind::Pin, "a pin", Err(error));
        }
        let mut pods = BTreeSet::new();
        for name in links.detached {
            match name {
                Name::Pod(cookie) | Name::Guard(GuardName { cookie, .. }) => drop(pods.insert((cookie, Kind::Link))),
                Name::Getsockopt(id) | Name::Setsockopt(id) => self.restore_sockopt(id, &mut audit),
                // Below, with those that could not be attached the last time.
                Name::Node(_) => {}
            }
        }
        pods.extend(
            self.guards
                .lost_filters()
                .into_iter()
                .map(|cookie| (cookie, Kind::Link)),
        );
        let attached = self.links.node(&NODE_HOOKS.map(|(name, _)| name));
        for ((name, hook), (_, is_attached)) in NODE_HOOKS.into_iter().zip(attached) {
            if !is_attached {
                let outcome = self.attach_to_node(name, hook).map(|_| true);
                audit.note(Kind::Link, format!("program {name}"), outcome);
            }
        }
        let configured = self.maps.restore_config();
        audit.note(Kind::Map, "CONFIG", configured);
        match self.changed_pods() {
            Ok(changed) => pods.extend(changed.into_iter().map(|cookie| (cookie, Kind::Map))),
            Err(error) => audit.note(Kind::Map, "the maps of pods", Err(error)),
        }
        let mut seen = BTreeSet::new();
        audit.pods = pods.into_iter().filter(|(cookie, _)| seen.insert(*cookie)).collect();
        audit
    }

    /// Pods of which the maps do not hold what they were told.
    fn changed_pods(&self) -> Result<Vec<u64>, KernelError> {
        let alive = self.maps.listeners()?;
        let mut changed = Vec::new();
        for (cookie, told) in &self.told {
            if !self.is_as_told(*cookie, told, &alive)? {
                changed.push(*cookie);
            }
        }
        Ok(changed)
    }

    /// Tells of changes among the pins, as long as the watcher lives. Where they cannot be watched there is only the beat.
    pub fn watch_pins(&self) -> (Option<RecommendedWatcher>, mpsc::Receiver<()>) {
        let (notice, notices) = mpsc::channel(1);
        let base = self.config.bpffs.clone();
        let changed = move |event: notify::Result<Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                // Full means that it will be looked anyway.
                let _ = notice.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(changed).and_then(|mut watcher| {
            watcher.watch(&base, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, pins = %base.display(), "cannot watch the pins"));
        (watcher.ok(), notices)
    }

    /// A cgroup that is gone, and whose last socket is closed, has lost its program for good.
    fn restore_sockopt(&mut self, id: u64, audit: &mut Audit) {
        let Some((cgroup, is_proxys)) = self.sockopts.remove(&id) else {
            return;
        };
        if !cgroup.path.exists() {
            return;
        }
        let what = format!("socket option programs of {}", cgroup.path.display());
        let outcome = self.attach_sockopt(cgroup, is_proxys).map(|()| true);
        audit.note(Kind::Link, what, outcome);
    }
}

/// Opening a pin to look at it is none.
fn is_change(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Remove(_) | EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_)) | EventKind::Other
    )
}
