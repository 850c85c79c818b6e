//! What inotify has told of a directory since somebody last looked.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use notify::Event;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};

use crate::walk::is_hidden;

/// Collected by the thread that hears, emptied by the one that looks.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Files that were written to and not closed since. What is opened and cut short counts as written to.
    busy: HashSet<PathBuf>,
    /// What was renamed into its place, whole.
    placed: BTreeSet<PathBuf>,
    /// The move of a file that somebody is still writing to, of which only the first half was heard.
    moving: Option<usize>,
    look: Option<Haste>,
}

/// How soon a look is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Haste {
    /// Only hidden files were touched, which most likely are drafts of what comes next.
    Soon,
    Now,
}

/// What there is to do.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Files that are as they are to be, and may be read at once.
    pub(crate) placed: BTreeSet<PathBuf>,
    /// Whether all must be looked at.
    pub(crate) look: Option<Haste>,
}

impl Heard {
    /// Notes an event. False: it changes nothing that is looked at.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        if !changes_something(event.kind) {
            return false;
        }
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => {
                self.busy.extend(event.paths.iter().cloned());
                self.look(haste(event));
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                for path in &event.paths {
                    if self.busy.remove(path) {
                        self.moving = event.tracker();
                    }
                }
                self.look(haste(event));
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                let is_busy = self.moving.take().is_some_and(|moving| Some(moving) == event.tracker());
                for path in &event.paths {
                    if is_busy {
                        self.busy.insert(path.clone());
                        self.look(Haste::Now);
                    } else {
                        self.busy.remove(path);
                        self.placed.insert(path.clone());
                    }
                }
            }
            // Both halves have been told of.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return false,
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) | EventKind::Modify(_) => {
                self.busy.retain(|path| !event.paths.contains(path));
                self.look(haste(event));
            }
            _ => self.look(haste(event)),
        }
        true
    }

    /// Something was missed.
    pub(crate) fn lost(&mut self) {
        self.look(Haste::Now);
    }

    /// What is to be done now.
    pub(crate) fn take(&mut self) -> Due {
        Due {
            placed: std::mem::take(&mut self.placed),
            look: self.look.take(),
        }
    }

    /// Files that somebody is known to be writing to.
    pub(crate) fn busy(&self) -> HashSet<PathBuf> {
        self.busy.clone()
    }

    fn look(&mut self, haste: Haste) {
        self.look = self.look.max(Some(haste));
    }
}

fn haste(event: &Event) -> Haste {
    if !event.paths.is_empty() && event.paths.iter().all(|path| is_hidden(path)) {
        Haste::Soon
    } else {
        Haste::Now
    }
}

/// Whether an event is worth a look. A look opens folders and files itself: to answer that with another would never end.
fn changes_something(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, RemoveKind};

    use super::*;

    const DATA: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const CREATED: EventKind = EventKind::Create(CreateKind::File);

    fn renamed(mode: RenameMode) -> EventKind {
        EventKind::Modify(ModifyKind::Name(mode))
    }

    fn heard(events: &[(EventKind, &str)]) -> Heard {
        let mut heard = Heard::default();
        for (kind, path) in events {
            heard.note(&Event::new(*kind).add_path(path.into()).set_tracker(1));
        }
        heard
    }

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
            CLOSED,
            CREATED,
            DATA,
            renamed(RenameMode::To),
            EventKind::Remove(RemoveKind::Folder),
        ] {
            assert!(changes_something(kind), "{kind:?} must lead to a look");
        }
    }

    #[test]
    fn a_draft_that_is_renamed_into_its_place_is_read_before_anything_is_looked_at() {
        let mut heard = heard(&[
            (CREATED, "/d/.a.draft"),
            (DATA, "/d/.a.draft"),
            (CLOSED, "/d/.a.draft"),
            (renamed(RenameMode::From), "/d/.a.draft"),
            (renamed(RenameMode::To), "/d/a.yaml"),
        ]);
        assert!(heard.busy().is_empty());
        let due = heard.take();
        assert_eq!(due.placed, BTreeSet::from(["/d/a.yaml".into()]));
        assert_eq!(due.look, Some(Haste::Soon));
        assert_eq!(heard.take().look, None);
    }

    #[test]
    fn a_file_that_is_still_written_to_stays_so_when_it_is_renamed() {
        let mut heard = heard(&[
            (DATA, "/d/.a.draft"),
            (renamed(RenameMode::From), "/d/.a.draft"),
            (renamed(RenameMode::To), "/d/a.yaml"),
        ]);
        assert_eq!(heard.busy(), HashSet::from(["/d/a.yaml".into()]));
        let due = heard.take();
        assert!(due.placed.is_empty());
        assert_eq!(due.look, Some(Haste::Now));
    }

    #[test]
    fn what_is_written_in_place_or_renamed_away_is_looked_at_and_not_taken_at_once() {
        for kind in [DATA, CLOSED, CREATED, renamed(RenameMode::From)] {
            let due = heard(&[(kind, "/d/a.yaml")]).take();
            assert!(due.placed.is_empty(), "{kind:?}");
            assert_eq!(due.look, Some(Haste::Now), "{kind:?}");
        }
    }
}
