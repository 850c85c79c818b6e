//! What an earlier agent left in the kernel, and when it may go.
//!
//! An agent finds pods captured by the programs that it adopted, which it carries on with, and perhaps by programs of
//! another version (another layout of the maps, or other sizes), which capture until this agent does. Two things are thrown
//! away, each once:
//! - capture of pods that are not wanted any more: as soon as the whole list of pods is known. A pod whose namespace could
//!   not be opened has no cookie to be known by; it is known by its addresses, and stays captured;
//! - programs of other versions: when every wanted pod is captured by this agent's, is captured by none of theirs, or is
//!   proven gone. Until then both are in force, and a pod goes from one to the other without a moment in plaintext.

use crate::source::PodName;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// The source says that it knows all pods.
    pub(super) is_complete: bool,
    pub(super) is_collected: bool,
    pub(super) is_alone: bool,
    /// Programs of other versions stay because of these.
    pub(super) waiting: Vec<PodName>,
    /// Said last.
    pub(super) problem: Option<String>,
}

impl Takeover {
    /// Whether there may be something left to throw away.
    pub(super) fn is_pending(&self) -> bool {
        !(self.is_collected && self.is_alone)
    }

    /// Why programs of other versions are still in force, in words.
    pub(super) fn problem(&self) -> Option<String> {
        match (&self.problem, self.waiting.as_slice()) {
            (Some(problem), _) => Some(format!("cannot remove what an earlier agent left: {problem}")),
            (None, []) => None,
            (None, [first, rest @ ..]) => Some(format!(
                "programs of another version stay in force: pod {first}{} not captured by this one yet",
                match rest.len() {
                    0 => " is".to_owned(),
                    more => format!(" and {more} more are"),
                }
            )),
        }
    }
}
