//! What there is to tell about pods. No I/O; the clock is given.
//!
//! What is to be told about a pod is a function of its state; a notice is due when that differs from what was told last. So a
//! notice that could not be sent, or had to wait, is overtaken by the next one instead of piling up.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    enrolment::{
        Existing,
        status::{PodState, PodStatus, Status},
    },
    source::PodName,
};

/// How long a problem must last before it is told. Pods that end look broken for a moment.
const LASTING: Duration = Duration::from_secs(3);

/// Notices that may be sent at once, and how fast there may be more.
const BURST: f64 = 50.0;
const PER_SECOND: f64 = 5.0;

/// Between notices about one pod.
const PER_POD: Duration = Duration::from_secs(1);

/// Different notices about one pod that are counted; beyond these they are new again.
const KINDS: usize = 8;

/// Why an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    Enrolled,
    Left,
    EnrolmentFailed,
    Unguarded,
    Refused,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "Enrolled",
            Self::Left => "Left",
            Self::EnrolmentFailed => "EnrolmentFailed",
            Self::Unguarded => "Unguarded",
            Self::Refused => "Refused",
        }
    }

    pub(super) fn is_warning(self) -> bool {
        matches!(self, Self::EnrolmentFailed | Self::Unguarded | Self::Refused)
    }
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Text {
    pub(super) reason: Reason,
    pub(super) note: String,
}

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) uid: Arc<str>,
    pub(super) pod: PodName,
    pub(super) text: Text,
    /// How often it has been told, this time included.
    pub(super) count: i32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Journal {
    node: String,
    pods: HashMap<Arc<str>, Known>,
    is_first: bool,
    tokens: f64,
    filled: Instant,
}

#[derive(Debug)]
struct Known {
    name: PodName,
    /// What there is to tell now, and since when.
    now: Option<(Text, Instant)>,
    told: Option<Text>,
    told_at: Option<Instant>,
    has_been_in: bool,
    counts: Vec<(Text, i32)>,
}

impl Journal {
    pub(super) fn new(node: &str, now: Instant) -> Self {
        Self {
            node: node.to_owned(),
            pods: HashMap::new(),
            is_first: true,
            tokens: BURST,
            filled: now,
        }
    }

    /// Takes note of a state.
    pub(super) fn observe(&mut self, status: &Status, now: Instant) {
        if !status.ready {
            return;
        }
        let shown: HashMap<&str, &PodStatus> = status.pods.iter().map(|pod| (&*pod.uid, pod)).collect();
        self.pods.retain(|uid, _| shown.contains_key(&**uid));
        for (uid, pod) in shown {
            let known = self
                .pods
                .entry(uid.into())
                .or_insert_with(|| Known::new(pod.name.clone()));
            if pod.state == PodState::Captured {
                known.has_been_in = true;
            }
            // One on its way in or out has nothing to tell until it is there.
            if !matches!(pod.state, PodState::Waiting | PodState::Leaving) {
                let existing = status.existing.get(&pod.uid);
                known.tell(text(pod, existing, known.has_been_in, &self.node), now);
            }
            // What an earlier agent enrolled, it has told.
            if self.is_first && pod.state == PodState::Captured {
                known.told = known.now.as_ref().map(|(text, _)| text.clone());
            }
        }
        self.is_first = false;
    }

    /// When to call [`Journal::due`] again.
    pub(super) fn next(&self) -> Option<Instant> {
        let pods = self.pods.values().filter_map(Known::due).min()?;
        let wait = Duration::from_secs_f64(((1.0 - self.tokens) / PER_SECOND).max(0.0));
        Some(pods.max(self.filled + wait))
    }

    /// The next notice, if one is due. It counts as told; see [`Journal::failed`].
    pub(super) fn due(&mut self, now: Instant) -> Option<Notice> {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * PER_SECOND;
        (self.tokens, self.filled) = ((self.tokens + gained).min(BURST), now);
        if self.tokens < 1.0 {
            return None;
        }
        let ready = self
            .pods
            .iter_mut()
            .filter_map(|(uid, known)| Some((known.due()?, uid, known)));
        let (_, uid, known) = ready.filter(|(due, ..)| *due <= now).min_by_key(|(due, ..)| *due)?;
        let (text, _) = known.now.clone()?;
        self.tokens -= 1.0;
        (known.told, known.told_at) = (Some(text.clone()), Some(now));
        Some(Notice {
            uid: uid.clone(),
            pod: known.name.clone(),
            count: known.count(&text),
            text,
        })
    }

    /// The notice could not be sent: it is due again, unless something else is by now.
    pub(super) fn failed(&mut self, notice: &Notice) {
        if let Some(known) = self.pods.get_mut(&notice.uid) {
            known.told = None;
            if let Some((_, count)) = known.counts.iter_mut().find(|(text, _)| *text == notice.text) {
                *count -= 1;
            }
        }
    }
}

impl Known {
    fn new(name: PodName) -> Self {
        Self {
            name,
            now: None,
            told: None,
            told_at: None,
            has_been_in: false,
            counts: Vec::new(),
        }
    }

    fn tell(&mut self, text: Option<Text>, now: Instant) {
        if self.now.as_ref().map(|(text, _)| text) != text.as_ref() {
            self.now = text.map(|text| (text, now));
        }
    }

    fn due(&self) -> Option<Instant> {
        let (text, since) = self.now.as_ref()?;
        if self.told.as_ref() == Some(text) {
            return None;
        }
        let lasting = if text.reason.is_warning() {
            LASTING
        } else {
            Duration::ZERO
        };
        let earliest = self.told_at.map(|at| at + PER_POD);
        Some((*since + lasting).max(earliest.unwrap_or(*since)))
    }

    fn count(&mut self, text: &Text) -> i32 {
        if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| known == text) {
            *count = count.saturating_add(1);
            return *count;
        }
        if self.counts.len() == KINDS {
            self.counts.remove(0);
        }
        self.counts.push((text.clone(), 1));
        1
    }
}

/// What there is to tell about a pod in this state.
fn text(pod: &PodStatus, existing: Option<&Existing>, has_been_in: bool, node: &str) -> Option<Text> {
    let problem = pod.problem.as_deref();
    let (reason, note) = match (pod.state, problem) {
        (PodState::Captured, _) if let Some(problem) = &pod.unguarded => (
            Reason::Unguarded,
            format!(
                "in the mesh, but its link is not guarded: {problem}. While no proxy serves node {node}, nothing keeps connections \
                 without a certificate from its strict ports. It is tried again by and by"
            ),
        ),
        (PodState::Captured, _) => {
            let note =
                "in the mesh: its TCP connections go through the node's proxy, encrypted to other pods of the mesh";
            // As things were when capture began: an event for each connection that ends would be too many.
            let before = match existing {
                Some(Existing { found, closed: 0, .. }) if *found > 0 => {
                    format!(". {found} that it had open before stay in plaintext until they end")
                }
                Some(Existing { closed, .. }) if *closed > 0 => {
                    format!(". {closed} that it had open before were closed")
                }
                _ => String::new(),
            };
            (Reason::Enrolled, format!("{note}{before}"))
        }
        (PodState::Outside, None) if has_been_in => (
            Reason::Left,
            "out of the mesh: its connections are direct again; those that were open go on".into(),
        ),
        (PodState::Outside, Some(problem)) => (Reason::Refused, format!("stays outside the mesh: {problem}")),
        (PodState::Refused, Some(problem)) => (
            Reason::Refused,
            format!("stays outside the mesh: {problem}. It comes in as soon as the other has ended"),
        ),
        (PodState::Failed, Some(problem)) => (
            Reason::EnrolmentFailed,
            format!(
                "cannot be brought into the mesh: {problem}. It is tried again every second; if it stays so, see the log of \
                 the agent on node {node}, or delete the pod"
            ),
        ),
        _ => return None,
    };
    Some(Text { reason, note })
}

#[cfg(test)]
mod tests;
