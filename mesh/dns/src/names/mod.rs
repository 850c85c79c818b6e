//! The addresses of endpoints that are known by their DNS names: what was answered, for how long that holds, and who waits for what
//! is being asked. Without I/O: whoever uses it sends [`Names::take_queries`], brings answers, and comes back at [`Names::next_deadline`].
//!
//! ```text
//! look ── fresh ──────────────────────────────────────────────> Look::Known
//!    └── question: A, AAAA to the first resolver, the next ... ──> answered: Known, for its TTL
//!              │                                             └──> Failed, for a second; addresses that were known go on for a while
//!              └── Look::Wait: woken by Names::take_woken
//! ```
//!
//! **Each pod has its own.** A process with privileges in a pod can answer in its resolver's place, as the question is asked from there;
//! it must not answer for other pods that have the same resolver.

mod entry;
mod question;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use entry::Entry;
use question::{Heard, Question};

/// Names of a pod, and of all pods, that are remembered.
const PER_POD: usize = 256;
const IN_ALL: usize = 4096;

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The resolver says that there is none.
    #[error("no such name, or no address of a family that the pod has")]
    NoAddress,
    /// All resolvers refuse to answer, or cannot.
    #[error("the pod's resolvers refuse to answer")]
    Refused,
    /// No resolver answers.
    #[error("the pod's resolvers do not answer")]
    Silent,
    /// There is nobody to ask.
    #[error("no resolver is known: the pod has asked none yet, and the proxy has none of its own (--resolver)")]
    NoResolver,
    /// The pod has too many names that are being asked for.
    #[error("too many names are being asked for")]
    Overflow,
    /// The name cannot be asked for.
    #[error("not a name that can be asked for")]
    Malformed,
}

impl NameError {
    /// In a word, for metrics.
    pub const fn outcome(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::Refused => "refused",
            Self::Silent => "timeout",
            Self::NoResolver => "no_resolver",
            Self::Overflow => "overflow",
            Self::Malformed => "malformed",
        }
    }
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The pod's uid.
    pub pod: &'a Arc<str>,
    /// The name, in lower case.
    pub host: &'a Arc<str>,
    /// The families of which the pod has addresses: IPv4, IPv6.
    pub families: (bool, bool),
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One of its addresses.
    Known(IpAddr),
    /// It has none.
    Failed(NameError),
    /// It is being asked for: the waiter is woken.
    Wait,
}

/// Which address is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Those of this family come first.
    pub v4: bool,
    /// These have failed: they come last.
    pub tried: &'a [IpAddr],
}

/// Names a part of a question: what an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    question: u64,
    v6: bool,
}

/// A query to be sent in a pod.
#[derive(Clone, Debug)]
pub struct NameQuery {
    /// To be given back with the answer.
    pub part: Part,
    /// The pod's uid.
    pub pod: Arc<str>,
    /// To whom.
    pub resolver: SocketAddr,
    /// The message. Its identifier is 0, and so must be the answer's: whoever sends it puts a random one in its place.
    pub message: Vec<u8>,
}

/// A question that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The pod's uid.
    pub pod: Arc<str>,
    /// The name.
    pub host: Arc<str>,
    /// How many addresses it has, or why none.
    pub outcome: Result<usize, NameError>,
    /// Addresses of an earlier answer are used meanwhile.
    pub is_stale: bool,
}

/// A name as it is remembered, for people who look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameView {
    /// The pod's uid.
    pub pod: Arc<str>,
    /// The name.
    pub host: Arc<str>,
    /// Its addresses, in the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// For how long they hold: zero where they are used for want of a newer answer.
    pub fresh_for: Duration,
    /// Why the last question failed.
    pub error: Option<NameError>,
    /// It is being asked for.
    pub is_asked: bool,
}

/// The names of all pods of an event loop. `W` names who waits.
#[derive(Debug)]
pub struct Names<W> {
    pods: HashMap<Arc<str>, HashMap<Arc<str>, Entry<W>>>,
    /// How many names there are.
    count: usize,
    /// Questions that are open: whose they are, and in the order of their next deadline, which all have the same time to.
    questions: HashMap<u64, (Arc<str>, Arc<str>)>,
    deadlines: VecDeque<(Instant, u64, u32)>,
    number: u64,
    queries: Vec<NameQuery>,
    woken: Vec<W>,
    ended: Vec<Ended>,
}

impl<W> Default for Names<W> {
    fn default() -> Self {
        Self {
            pods: HashMap::new(),
            count: 0,
            questions: HashMap::new(),
            deadlines: VecDeque::new(),
            number: 0,
            queries: Vec::new(),
            woken: Vec::new(),
            ended: Vec::new(),
        }
    }
}

impl<W> Names<W> {
    /// Looks a name up. Where it must be asked for first, `resolvers` says at whom, in this order, and `waiter` is woken later.
    pub fn look(
        &mut self,
        asking: Asking<'_>,
        wanted: Wanted<'_>,
        resolvers: impl FnOnce() -> Vec<SocketAddr>,
        waiter: W,
        now: Instant,
    ) -> Look {
        if !self.make_room(asking, now) {
            return Look::Failed(NameError::Overflow);
        }
        let of_pod = self.pods.entry(Arc::clone(asking.pod)).or_default();
        let entry = of_pod.entry(Arc::clone(asking.host)).or_insert_with(|| {
            self.count += 1;
            Entry::new(now)
        });
        entry.used = now;
        if let Some(known) = entry.look(wanted, now) {
            return known;
        }
        entry.waiting.push(waiter);
        if entry.question.is_some() {
            return Look::Wait;
        }
        match Question::new(asking.host, asking.families, resolvers()) {
            Ok(question) => {
                self.number += 1;
                entry.question = Some((self.number, question));
                let names = (Arc::clone(asking.pod), Arc::clone(asking.host));
                self.questions.insert(self.number, names);
                self.ask(self.number, now);
                Look::Wait
            }
            Err(error) => {
                entry.waiting.pop();
                entry.fail(error, now);
                let is_stale = entry.is_stale(now);
                let look = entry.look(wanted, now).unwrap_or(Look::Failed(error));
                self.ended.push(Ended {
                    pod: Arc::clone(asking.pod),
                    host: Arc::clone(asking.host),
                    outcome: Err(error),
                    is_stale,
                });
                look
            }
        }
    }

    /// Whether a name has an address that has not been tried, or may have one: nobody knows yet.
    pub fn has_untried(&self, pod: &str, host: &str, tried: &[IpAddr], now: Instant) -> bool {
        let entry = self.pods.get(pod).and_then(|of_pod| of_pod.get(host));
        entry.is_none_or(|entry| entry.has_untried(tried, now))
    }

    /// A message has come that belongs to a part of a question.
    pub fn answered(&mut self, part: Part, message: &[u8], now: Instant) {
        self.heard(part, |question| question.answered(part.v6, message), now);
    }

    /// A resolver refuses, or cannot be reached.
    pub fn refused(&mut self, part: Part, now: Instant) {
        self.heard(part, |question| question.refused(part.v6), now);
    }

    fn heard(&mut self, part: Part, tell: impl FnOnce(&mut Question) -> Heard, now: Instant) {
        let Some(question) = self.question(part.question) else {
            return;
        };
        match tell(question) {
            Heard::Nothing => {}
            Heard::Next => self.ask(part.question, now),
            Heard::End(outcome) => self.end(part.question, outcome, now),
        }
    }

    fn question(&mut self, number: u64) -> Option<&mut Question> {
        let (pod, host) = self.questions.get(&number)?;
        let entry = self.pods.get_mut(pod)?.get_mut(host)?;
        entry.question.as_mut().map(|(_, question)| question)
    }

    /// Asks the resolver whose turn it is.
    fn ask(&mut self, number: u64, now: Instant) {
        let Some((pod, _)) = self.questions.get(&number).cloned() else {
            return;
        };
        let Some(question) = self.question(number) else { return };
        let (resolver, attempt) = (question.resolver(), question.attempt());
        let queries: Vec<NameQuery> = question
            .messages()
            .map(|(v6, message)| NameQuery {
                part: Part { question: number, v6 },
                pod: Arc::clone(&pod),
                resolver,
                message,
            })
            .collect();
        self.queries.extend(queries);
        self.deadlines.push_back((now + question::PATIENCE, number, attempt));
    }

    fn end(&mut self, number: u64, outcome: Result<question::Answer, NameError>, now: Instant) {
        let Some((pod, host)) = self.questions.remove(&number) else {
            return;
        };
        let Some(entry) = self.pods.get_mut(&pod).and_then(|of_pod| of_pod.get_mut(&host)) else {
            return;
        };
        entry.question = None;
        let outcome = match outcome {
            Ok(answer) => {
                let count = answer.addresses.len();
                entry.learn(answer, now);
                Ok(count)
            }
            Err(error) => {
                entry.fail(error, now);
                Err(error)
            }
        };
        let is_stale = entry.is_stale(now);
        self.woken.append(&mut entry.waiting);
        self.ended.push(Ended {
            pod,
            host,
            outcome,
            is_stale,
        });
    }

    /// When the next resolver has had its time.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, ..)| *at)
    }

    /// Resolvers that have had their time are passed over.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, number, attempt)) = self.deadlines.pop_front_if(|(at, ..)| *at <= now) {
            let Some(question) = self.question(number).filter(|question| question.attempt() == attempt) else {
                continue;
            };
            match question.late() {
                Heard::Nothing => {}
                Heard::Next => {
                    self.ask(number, now);
                    self.wake_with_stale(number, now);
                }
                Heard::End(outcome) => self.end(number, outcome, now),
            }
        }
    }

    /// Who waits for a resolver that is slow goes on with the addresses that were known before.
    fn wake_with_stale(&mut self, number: u64, now: Instant) {
        let Some((pod, host)) = self.questions.get(&number) else {
            return;
        };
        let entry = self.pods.get_mut(pod).and_then(|of_pod| of_pod.get_mut(host));
        if let Some(entry) = entry.filter(|entry| entry.is_stale(now)) {
            self.woken.append(&mut entry.waiting);
        }
    }

    /// What is to be sent.
    pub fn take_queries(&mut self) -> Vec<NameQuery> {
        std::mem::take(&mut self.queries)
    }

    /// Who waits no longer: looking again says what there is.
    pub fn take_woken(&mut self) -> Vec<W> {
        std::mem::take(&mut self.woken)
    }

    /// Questions that have ended, for logs and metrics.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Forgets what holds no longer.
    pub fn sweep(&mut self, now: Instant) {
        self.pods.retain(|_, of_pod| {
            let before = of_pod.len();
            of_pod.retain(|_, entry| !entry.is_over(now));
            self.count -= before - of_pod.len();
            !of_pod.is_empty()
        });
    }

    /// Forgets a pod that is gone. Who waits is woken.
    pub fn forget(&mut self, pod: &str) {
        let Some(of_pod) = self.pods.remove(pod) else { return };
        self.count -= of_pod.len();
        for entry in of_pod.into_values() {
            if let Some((number, _)) = entry.question {
                self.questions.remove(&number);
            }
            self.woken.extend(entry.waiting);
        }
    }

    /// All names, in no order.
    pub fn views(&self, now: Instant) -> Vec<NameView> {
        let of_pod = |(pod, of_pod): (&Arc<str>, &HashMap<Arc<str>, Entry<W>>)| {
            let views = of_pod.iter().map(|(host, entry)| entry.view(pod, host, now));
            views.collect::<Vec<_>>()
        };
        self.pods.iter().flat_map(of_pod).collect()
    }

    /// Whether there is room for a name. Of a pod that has its share, the name that was not used for longest goes.
    fn make_room(&mut self, asking: Asking<'_>, now: Instant) -> bool {
        let of_pod = self.pods.get(asking.pod);
        if of_pod.is_some_and(|of_pod| of_pod.contains_key(asking.host)) {
            return true;
        }
        let is_full = of_pod.is_some_and(|of_pod| of_pod.len() >= PER_POD) || self.count >= IN_ALL;
        if !is_full {
            return true;
        }
        self.sweep(now);
        let Some(of_pod) = self.pods.get_mut(asking.pod) else {
            return self.count < IN_ALL;
        };
        if of_pod.len() < PER_POD && self.count < IN_ALL {
            return true;
        }
        let idle = of_pod.iter().filter(|(_, entry)| entry.question.is_none());
        let oldest = idle
            .min_by_key(|(_, entry)| entry.used)
            .map(|(host, _)| Arc::clone(host));
        match oldest.and_then(|host| of_pod.remove(&host)) {
            Some(_) => {
                self.count -= 1;
                true
            }
            None => false,
        }
    }
}
