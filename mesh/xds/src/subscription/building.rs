//! A response that is being made.

use std::{collections::HashSet, mem, sync::Arc};

use super::holdings::Held;
use crate::{
    resources::Entry,
    response::{Response, Sent},
};

/// A piece is at least this part of what came before it.
const PIECES: usize = 16;

/// One thing to be looked at.
#[derive(Debug)]
pub(super) enum Work {
    /// A name that is asked for; a fresh one is answered in any case.
    Ask { name: Arc<str>, fresh: bool },
    /// A name that is asked for, and perhaps there or gone now.
    Check(Arc<str>),
    /// A resource that changed.
    Touched(Arc<str>),
    /// A resource that is held.
    Look { name: Arc<str>, again: Again },
}

/// Whether a resource is sent that the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Only as another one.
    No,
    /// It was asked for: sent, unless the client kept it from an earlier connection.
    Asked,
    /// The client waits for it, whatever it has.
    Always,
}

/// A response that is being made, perhaps in several turns.
#[derive(Debug, Default)]
pub(super) struct Building {
    /// Taken from the end.
    work: Vec<Work>,
    resources: Vec<Sent>,
    /// How long the contents of these are, and of those in earlier pieces.
    bytes: usize,
    earlier: usize,
    offered: HashSet<Arc<str>>,
    /// What the client has kept from an earlier connection and is still right: not sent, however often it is asked for.
    kept: HashSet<Arc<str>>,
    removed: HashSet<Arc<str>>,
    /// Among `removed`: resources that are gone, rather than names that never stood for anything.
    gone: Vec<Arc<str>>,
    has_new: bool,
}

/// What has become of it.
pub(super) struct Finished {
    /// Without nonce.
    pub(super) response: Response,
    /// Whether it has resources that the client did not have.
    pub(super) has_new: bool,
    /// Resources that are gone, and are not among the removals.
    pub(super) held_back: Vec<Arc<str>>,
}

impl Building {
    /// Nothing yet, but this to be done, and removals that have waited long enough.
    pub(super) fn new(work: Vec<Work>, removed: HashSet<Arc<str>>) -> Self {
        Self {
            work,
            removed,
            ..Self::default()
        }
    }

    /// More to be done, next.
    pub(super) fn add(&mut self, work: Work) {
        self.work.push(work);
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Option<Work> {
        self.work.pop()
    }

    /// Whether what is to be sent is enough for a response of its own: so many bytes, or a part of all that was sent before, so that
    /// much does not take many responses.
    pub(super) fn is_full(&self, piece: usize) -> bool {
        self.bytes >= piece.max(self.earlier / PIECES)
    }

    /// The client is to be told that a name stands for nothing.
    pub(super) fn tell_missing(&mut self, name: &Arc<str>) {
        self.removed.insert(Arc::clone(name));
    }

    /// A resource that the client had is gone.
    pub(super) fn tell_gone(&mut self, name: &Arc<str>) {
        if self.removed.insert(Arc::clone(name)) {
            self.gone.push(Arc::clone(name));
        }
    }

    /// Adds a resource, unless the client has it like this. Aliases are for clients that ask by name.
    pub(super) fn offer(&mut self, name: &Arc<str>, entry: &Entry, before: Option<Held>, again: Again, aliases: bool) {
        let is_same = match before {
            Some(Held::Digest(digest)) => {
                let is_told = match again {
                    Again::No => true,
                    Again::Asked => self.kept.contains(name) || self.offered.contains(name),
                    Again::Always => self.offered.contains(name),
                };
                digest == entry.digest && is_told
            }
            Some(Held::Version(digest)) => digest == Some(entry.digest) && again != Again::Always,
            Some(Held::Nothing) | None => false,
        };
        let is_new = match before {
            Some(Held::Digest(_) | Held::Version(Some(_))) => false,
            Some(Held::Nothing | Held::Version(None)) | None => true,
        };
        if is_same && matches!(before, Some(Held::Version(_))) {
            self.kept.insert(Arc::clone(name));
        }
        if is_same {
            return;
        }
        self.offered.insert(Arc::clone(name));
        // It was gone, and has come back: a client that read both would be left without it.
        if self.removed.remove(name) {
            self.gone.retain(|gone| gone != name);
        }
        self.has_new |= is_new;
        self.bytes += entry.body.len();
        self.resources.push(Sent {
            name: Arc::clone(name),
            entry: entry.clone(),
            has_aliases: aliases,
        });
    }

    /// A response of the resources so far, and whether the client had any of them not. What is gone is told with the last of them: what
    /// comes in its place is there then.
    pub(super) fn piece(&mut self, type_url: &'static str) -> (Response, bool) {
        self.earlier += mem::take(&mut self.bytes);
        let resources = mem::take(&mut self.resources);
        let response = response(type_url, resources, Vec::new());
        (response, mem::take(&mut self.has_new))
    }

    /// The response, if there is anything to say. Resources that are gone are held back if they may still be referred to.
    pub(super) fn finish(mut self, type_url: &'static str, hold_back: bool) -> Finished {
        let gone = mem::take(&mut self.gone);
        let held_back = if hold_back { gone } else { Vec::new() };
        for name in &held_back {
            self.removed.remove(name);
        }
        Finished {
            response: response(type_url, self.resources, self.removed.into_iter().collect()),
            has_new: self.has_new,
            held_back,
        }
    }
}

/// Without nonce.
fn response(type_url: &'static str, mut resources: Vec<Sent>, mut removed: Vec<Arc<str>>) -> Response {
    resources.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    removed.sort_unstable();
    Response {
        type_url,
        nonce: String::new(),
        resources,
        removed,
    }
}
