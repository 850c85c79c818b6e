//! The names of all pods: who asks what, and when.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use super::{
    entry::Entry,
    question::{self, Heard, Question},
    values::{Asking, Ended, Look, NameError, NameQuery, NameView, Part, Wanted},
};

/// Names of a pod, and of all pods, that are remembered.
pub(super) const PER_POD: usize = 256;
pub(super) const IN_ALL: usize = 4096;

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
