//! What is done with a request upstream: attempts, and what becomes of the last one.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use culvert_http::{
    Peer,
    balance::outlier::Result as Seen,
    filters::Session,
    retry::{Decision, Outcome, Refusal, Reset, Tries},
    route::{Forward, Hashed, Target},
};
use http::{HeaderValue, Response, StatusCode, Version, header, request::Parts};
use tokio::time::Instant;

use super::{
    attempt::{Answered, Attempted, Held, Trying},
    mirror,
    outcome::{answer, failed, overloaded, reset, too_late},
    pushback,
    upgrade::{self, Upgrade},
    worker::Inner,
};
use crate::{
    answer::{AnswerBody, refuse},
    body::Upload,
    cluster::Cluster,
    config::{cluster::Protocol, http_chain::HttpChain},
    counted::Counted,
    endpoint::{Endpoint, clock},
    limits::{self, Late, TimeLimits},
    state::Snapshot,
    telemetry::Record,
    upstream::{Ends, Stage},
};

/// A request that goes to a cluster.
pub(super) struct Forwarding<'a> {
    pub(super) inner: &'a Inner,
    pub(super) snapshot: &'a Snapshot,
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) forward: &'a Forward,
    pub(super) target: &'a Target,
    pub(super) peer: &'a Peer<'a>,
    pub(super) upload: &'a Upload,
    /// How the client gets back to the endpoint that it had.
    pub(super) session: Option<&'a Session>,
    /// What the request came by, and when.
    pub(super) chain: &'a HttpChain,
    pub(super) begun: Instant,
}

/// The request as it was in the end, for those who change the answer.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) head: Parts,
    /// None where it was not sent.
    pub(super) attempts: Option<u32>,
}

impl Sent {
    /// It was answered here.
    pub(super) fn nowhere(head: Parts) -> Self {
        Self { head, attempts: None }
    }

    fn after(head: Parts, attempts: u32) -> Self {
        Self {
            head,
            attempts: Some(attempts),
        }
    }
}

/// What all tries of a request go by.
struct Plan<'a> {
    limits: TimeLimits,
    per_try: Option<Duration>,
    is_http2: bool,
    hashed: Hashed,
    /// Where the client says that it was before.
    asked: Option<SocketAddr>,
    /// The same, if it takes requests.
    at_session: Option<&'a Arc<Endpoint>>,
    begun: Instant,
}

/// What the tries so far have come to.
struct Course<'a> {
    tries: Tries<'a>,
    tried: Vec<u64>,
    priorities: Vec<u32>,
    /// Held from the first retry to the end.
    retry: Option<Counted>,
}

impl Forwarding<'_> {
    pub(super) async fn run(
        &self,
        mut head: Parts,
        upgrade: Option<Upgrade>,
        mut record: Box<Record>,
    ) -> (Response<AnswerBody>, Sent) {
        let Some(counted) = self.cluster.request() else {
            return (overloaded(record), Sent::nowhere(head));
        };
        let plan = self.plan(&mut head);
        // A cookie is for paths as the client writes them.
        let unchanged = self.session.map(|session| (session, head.clone()));
        let mut course = Course {
            tries: self.forward.retry().start(&head),
            tried: Vec::new(),
            priorities: Vec::new(),
            retry: None,
        };
        if let Err(error) = self.forward.rewrite(&mut head, self.peer, self.target) {
            let response = refuse(record, StatusCode::BAD_REQUEST, "DPE", &error.to_string(), "");
            return (response, Sent::nowhere(head));
        }
        let ends = Ends::of(self.peer);
        mirror::send(self.inner, self.snapshot, self.forward, self.upload, &head, ends);
        let trying = Trying {
            upstream: &self.inner.upstream,
            ends,
            cluster: self.cluster,
            forward: self.forward,
            upload: self.upload,
        };
        let passed = plan.limits.passed(self.upload);
        tokio::pin!(passed);
        loop {
            let Some(endpoint) = self.choose(&plan, &course) else {
                let (flag, details, body) = ("UH", "no_healthy_upstream", "no healthy upstream");
                let response = refuse(record, StatusCode::SERVICE_UNAVAILABLE, flag, details, body);
                return (response, Sent::after(head, course.tries.attempt()));
            };
            let rest = self.rest(&plan.limits, course.tried.is_empty());
            let attempt = course.attempt(&plan, endpoint, &head, rest, &mut record);
            let tried_at = Instant::now();
            let attempting = trying.send(endpoint, attempt, plan.is_http2, upgrade.as_ref(), plan.per_try);
            let attempted = tokio::select! {
                attempted = attempting => attempted,
                late = &mut passed => {
                    self.cluster.note(endpoint, Seen::Local);
                    record.attempted(None, false);
                    let response = too_late(record, self.upload, late);
                    return (response, Sent::after(head, course.tries.attempt()));
                }
            };
            self.note(endpoint, &attempted, tried_at.elapsed());
            let decision = self.decide(&mut course, &attempted);
            let retries = matches!(decision, Decision::Retry { .. });
            record.attempted(attempted.status().map(|status| status.as_u16()), retries);
            let refusal = match decision {
                Decision::Retry { after } => {
                    drop(attempted);
                    course.retry = Some(self.cluster.retry());
                    if let Some(late) = wait(after, passed.as_mut()).await {
                        let response = too_late(record, self.upload, late);
                        return (response, Sent::after(head, course.tries.attempt()));
                    }
                    continue;
                }
                Decision::No(refusal) => refusal,
            };
            match refusal {
                Refusal::LimitExceeded => record.flags.set("URX"),
                Refusal::Overflow => record.overflow(),
                Refusal::NotRetriable => {}
            }
            let (answered, held) = match attempted {
                Attempted::Answered(answered, held) => (answered, (held, counted, course.retry)),
                Attempted::Failed(failure) => {
                    let response = failed(record, &failure, refusal == Refusal::LimitExceeded);
                    return (response, Sent::after(head, course.tries.attempt()));
                }
                Attempted::Late => {
                    let response = too_late(record, self.upload, limits::PER_TRY);
                    return (response, Sent::after(head, course.tries.attempt()));
                }
            };
            let mut response = self.answered(&plan, *answered, held, upgrade, record);
            let served_by = endpoint.config.address;
            if let Some((session, request)) = unchanged.filter(|_| plan.asked != Some(served_by)) {
                session.mark(served_by, &request, SystemTime::now(), response.headers_mut());
            }
            if let Some(cookie) = plan.hashed.cookie {
                let value = cookie.value().clone();
                response.headers_mut().append(header::SET_COOKIE, value);
            }
            return (response, Sent::after(head, course.tries.attempts_of_all_layers()));
        }
    }

    /// What is settled before the first try, of the request as the client has sent it.
    fn plan(&self, head: &mut Parts) -> Plan<'_> {
        let limits = self.limits(head);
        let asked = self
            .session
            .and_then(|session| session.endpoint(head, SystemTime::now()));
        Plan {
            per_try: self.forward.retry().per_try_timeout(limits.response),
            is_http2: match self.cluster.config.protocol {
                Protocol::Http1 => false,
                Protocol::Http2 => true,
                Protocol::Downstream => head.version == Version::HTTP_2,
            },
            hashed: self.forward.hash(head, self.peer),
            at_session: asked.and_then(|address| self.cluster.endpoint_of_session(address)),
            asked,
            limits,
            begun: Instant::now(),
        }
    }

    /// The endpoint of the next try.
    fn choose<'c>(&'c self, plan: &Plan<'c>, course: &Course<'_>) -> Option<&'c Arc<Endpoint>> {
        let Course { tried, priorities, .. } = course;
        let is_first = tried.is_empty();
        // A retry leaves the session's endpoint, as with Envoy.
        if let Some(again) = plan.at_session.filter(|_| is_first) {
            return Some(again);
        }
        if self.session.is_some_and(Session::is_strict) && plan.asked.is_some() && is_first {
            return None;
        }
        let reselections = self.forward.retry().host_reselections().unwrap_or(0);
        let avoided: &[u64] = if reselections > 0 { tried } else { &[] };
        let beyond: &[u32] = match self.forward.retry().other_priorities() {
            Some(every) => &priorities[..priorities.len() - priorities.len() % every.max(1) as usize],
            None => &[],
        };
        self.cluster
            .choose_beyond(plan.hashed.hash, reselections, avoided, beyond)
    }

    /// Takes in what a try says of its endpoint.
    fn note(&self, endpoint: &Endpoint, attempted: &Attempted, took: Duration) {
        let seen = match attempted {
            Attempted::Answered(answered, _) if answered.head.status.is_server_error() => Seen::ServerError {
                gateway: (502..=504).contains(&answered.head.status.as_u16()),
            },
            Attempted::Answered(..) => Seen::Success,
            // What is the client's doing, or the cluster's own limit, says nothing of the endpoint.
            Attempted::Failed(failure) if matches!(failure.stage, Stage::Client | Stage::Overflow) => return,
            Attempted::Failed(_) | Attempted::Late => Seen::Local,
        };
        self.cluster.note(endpoint, seen);
        if let Attempted::Answered(answered, _) = attempted {
            endpoint.load.latency.observe(clock(), took);
            if let Some(asked) = pushback::of(&answered.head) {
                self.cluster.push_back(endpoint, asked);
            }
        }
    }

    /// The endpoint's answer for the client, which holds what is counted until it ends.
    fn answered(
        &self,
        plan: &Plan<'_>,
        answered: Answered,
        (held, counted, retry): (Held, Counted, Option<Counted>),
        upgrade: Option<Upgrade>,
        record: Box<Record>,
    ) -> Response<AnswerBody> {
        let response = Response::from_parts(answered.head, answered.body);
        match upgrade {
            Some(upgrade) if upgrade.is_granted(response.status(), plan.is_http2) => {
                upgrade.switch(response, record, &plan.limits, (held, counted))
            }
            Some(upgrade) if upgrade.is_misleading(response.status()) => upgrade::declined(record, response.status()),
            _ => {
                let answer = answer(response, record, &plan.limits, plan.begun.elapsed());
                answer.map(|body| body.holding((held, counted, retry)))
            }
        }
    }

    fn limits(&self, head: &mut Parts) -> TimeLimits {
        let of_cluster = self.cluster.config.max_stream_duration;
        let of_cluster = of_cluster.map(|time| (Instant::now() + time, limits::CLUSTER_DURATION));
        TimeLimits::of(self.chain, Some(self.forward), self.begun, &mut head.headers).until(of_cluster)
    }

    /// What is left of the route's time for a try: all of it for the first one.
    fn rest(&self, limits: &TimeLimits, is_first: bool) -> Option<Duration> {
        let ended = self.upload.ended_at().filter(|_| !is_first);
        let spent = ended.map_or(Duration::ZERO, |ended| ended.max(limits.from).elapsed());
        // 0 would mean any time.
        Some(limits.response?.saturating_sub(spent).max(Duration::from_millis(1)))
    }

    fn decide(&self, course: &mut Course<'_>, attempted: &Attempted) -> Decision {
        // What this request holds as a retry itself ends with its next one.
        let room = course.retry.is_some() || self.cluster.has_room_for_retry();
        if !self.upload.is_whole() {
            return Decision::No(Refusal::NotRetriable);
        }
        let outcome = match attempted {
            Attempted::Answered(answered, _) => Outcome::Response(&answered.head),
            Attempted::Failed(failure) => Outcome::Reset(reset(failure.stage)),
            Attempted::Late => Outcome::Reset(Reset::PerTryTimeout),
        };
        course.tries.decide(outcome, room, SystemTime::now(), fastrand::u64(..))
    }
}

impl Course<'_> {
    /// The head of a try at `endpoint`, which is remembered and recorded.
    fn attempt(
        &mut self,
        plan: &Plan<'_>,
        endpoint: &Endpoint,
        head: &Parts,
        rest: Option<Duration>,
        record: &mut Record,
    ) -> Parts {
        self.tried.push(endpoint.id);
        self.priorities.push(endpoint.config.priority);
        record.endpoint = Some((endpoint.config.address, Arc::clone(&endpoint.config.about)));
        record.is_encrypted = endpoint.is_in_tunnel();
        record.attempts += 1;
        let mut attempt = head.clone();
        self.tries.mark(&mut attempt.headers);
        expect(&mut attempt, plan.per_try, rest);
        if let Some(observed) = &mut record.observed {
            observed.attempt(&mut attempt.headers);
        }
        attempt
    }
}

/// Waits before a retry, unless a limit is passed first.
async fn wait(after: Duration, passed: Pin<&mut impl Future<Output = Late>>) -> Option<Late> {
    tokio::select! {
        () = tokio::time::sleep(after) => None,
        late = passed => Some(late),
    }
}

/// Tells the endpoint how long it has, of what is left of the route's time.
fn expect(head: &mut Parts, per_try: Option<Duration>, rest: Option<Duration>) {
    let expected = [per_try, rest].into_iter().flatten().min();
    if let Some(expected) = expected
        && let Ok(value) = HeaderValue::try_from(expected.as_millis().to_string())
    {
        head.headers.insert("x-envoy-expected-rq-timeout-ms", value);
    }
}
