//! What is done with a request upstream: attempts, and what becomes of the last one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use culvert_http::{
    Peer,
    balance::outlier::Result as Seen,
    filters::Session,
    retry::{Decision, Outcome, Refusal, Reset},
    route::{Forward, Target},
};
use http::{HeaderValue, Response, StatusCode, Version, header, request::Parts};
use tokio::time::Instant;

use super::{
    attempt::{Attempted, Trying},
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
    config::cluster::Protocol,
    counted::Counted,
    endpoint::clock,
    limits::{self, Late, TimeLimits},
    state::Snapshot,
    telemetry::Record,
    upstream::{SendFailure, Stage},
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
    /// How long the chain lets an exchange be silent.
    pub(super) stream_idle: Option<Duration>,
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
        let limits = self.limits(&mut head, upgrade.is_some());
        let hashed = self.forward.hash(&head, self.peer);
        let asked = self
            .session
            .and_then(|session| session.endpoint(&head, SystemTime::now()));
        let at_session = asked.and_then(|address| self.cluster.endpoint_of_session(address));
        // A cookie is for paths as the client writes them.
        let unchanged = self.session.map(|session| (session, head.clone()));
        let mut tries = self.forward.retry().start(&head);
        if let Err(error) = self.forward.rewrite(&mut head, self.peer, self.target) {
            let response = refuse(record, StatusCode::BAD_REQUEST, "DPE", &error.to_string(), "");
            return (response, Sent::nowhere(head));
        }
        mirror::send(self.inner, self.snapshot, self.forward, self.upload, &head);
        let is_http2 = match self.cluster.config.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Downstream => head.version == Version::HTTP_2,
        };
        let trying = Trying {
            upstream: &self.inner.upstream,
            cluster: self.cluster,
            forward: self.forward,
            upload: self.upload,
        };
        let begun = Instant::now();
        let passed = limits.passed(self.upload);
        tokio::pin!(passed);
        let mut tried: Vec<u64> = Vec::new();
        let mut priorities: Vec<u32> = Vec::new();
        let mut retry: Option<Counted> = None;
        let per_try = self.forward.retry().per_try_timeout(limits.response);
        let sent = |head, attempts| Sent {
            head,
            attempts: Some(attempts),
        };
        loop {
            let reselections = self.forward.retry().host_reselections().unwrap_or(0);
            let avoided: &[u64] = if reselections > 0 { &tried } else { &[] };
            let beyond: &[u32] = match self.forward.retry().other_priorities() {
                Some(every) => &priorities[..priorities.len() - priorities.len() % every.max(1) as usize],
                None => &[],
            };
            // A retry leaves the session's endpoint, as with Envoy.
            let again = at_session.filter(|_| tried.is_empty());
            let choose = || match self.session {
                Some(session) if session.is_strict() && asked.is_some() && tried.is_empty() => None,
                _ => self.cluster.choose_beyond(hashed.hash, reselections, avoided, beyond),
            };
            let Some(endpoint) = again.or_else(choose) else {
                let (flag, details, body) = ("UH", "no_healthy_upstream", "no healthy upstream");
                let response = refuse(record, StatusCode::SERVICE_UNAVAILABLE, flag, details, body);
                return (response, sent(head, tries.attempt()));
            };
            tried.push(endpoint.id);
            priorities.push(endpoint.config.priority);
            record.endpoint = Some((endpoint.config.address, Arc::clone(&endpoint.config.about)));
            record.is_encrypted = endpoint.is_in_tunnel();
            record.attempts += 1;
            let mut attempt = head.clone();
            tries.mark(&mut attempt.headers);
            expect(&mut attempt, per_try, &limits);
            if let Some(observed) = &mut record.observed {
                observed.attempt(&mut attempt.headers);
            }
            let tried_at = Instant::now();
            let attempting = trying.send(endpoint, attempt, is_http2, upgrade.as_ref(), per_try);
            let attempted = tokio::select! {
                attempted = attempting => attempted,
                late = &mut passed => {
                    self.cluster.note(endpoint, Seen::Local);
                    record.attempted(None, false);
                    return (too_late(record, self.upload, late), sent(head, tries.attempt()));
                }
            };
            let (outcome, seen) = match &attempted {
                Attempted::Answered(response, _) if response.status().is_server_error() => (
                    None,
                    Seen::ServerError {
                        gateway: (502..=504).contains(&response.status().as_u16()),
                    },
                ),
                Attempted::Answered(..) => (None, Seen::Success),
                Attempted::Failed(failure) => (Some(reset(failure.stage)), Seen::Local),
                Attempted::Late => (Some(Reset::PerTryTimeout), Seen::Local),
            };
            // What is the client's doing, or the cluster's own limit, says nothing of the endpoint.
            let is_others = |failure: &SendFailure| matches!(failure.stage, Stage::Client | Stage::Overflow);
            if !matches!(&attempted, Attempted::Failed(failure) if is_others(failure)) {
                self.cluster.note(endpoint, seen);
            }
            if let Attempted::Answered(response, _) = &attempted {
                endpoint.load.latency.observe(clock(), tried_at.elapsed());
                if let Some(asked) = pushback::of(response) {
                    self.cluster.push_back(endpoint, asked);
                }
            }
            let attempted = match attempted {
                Attempted::Answered(response, held) => {
                    let (parts, body) = response.into_parts();
                    let decision = self.decide(&mut tries, Outcome::Response(&parts), retry.is_some());
                    record.attempted(Some(parts.status.as_u16()), matches!(decision, Decision::Retry { .. }));
                    if let Decision::Retry { after } = decision {
                        drop((body, held));
                        retry = Some(self.cluster.retry());
                        if let Some(late) = self.wait(after, passed.as_mut()).await {
                            return (too_late(record, self.upload, late), sent(head, tries.attempt()));
                        }
                        continue;
                    }
                    match decision {
                        Decision::No(Refusal::LimitExceeded) => record.flags.set("URX"),
                        Decision::No(Refusal::Overflow) => record.flags.set("UO"),
                        _ => {}
                    }
                    let response = Response::from_parts(parts, body);
                    let mut response = match upgrade {
                        Some(upgrade) if upgrade.is_granted(response.status(), is_http2) => {
                            upgrade.switch(response, record, (held, counted))
                        }
                        Some(upgrade) if upgrade.is_misleading(response.status()) => {
                            upgrade::declined(record, response.status())
                        }
                        _ => {
                            let answer = answer(response, record, &limits, begun.elapsed());
                            answer.map(|body| body.holding((held, counted, retry)))
                        }
                    };
                    let served_by = endpoint.config.address;
                    if let Some((session, request)) = unchanged.filter(|_| asked != Some(served_by)) {
                        session.mark(served_by, &request, SystemTime::now(), response.headers_mut());
                    }
                    if let Some(cookie) = hashed.cookie {
                        response
                            .headers_mut()
                            .append(header::SET_COOKIE, cookie.value().clone());
                    }
                    return (response, sent(head, tries.attempts_of_all_layers()));
                }
                failed => failed,
            };
            let outcome = outcome.unwrap_or(Reset::AfterRequest);
            let decision = self.decide(&mut tries, Outcome::Reset(outcome), retry.is_some());
            record.attempted(None, matches!(decision, Decision::Retry { .. }));
            let exceeded = match decision {
                Decision::Retry { after } => {
                    retry = Some(self.cluster.retry());
                    if let Some(late) = self.wait(after, passed.as_mut()).await {
                        return (too_late(record, self.upload, late), sent(head, tries.attempt()));
                    }
                    continue;
                }
                Decision::No(refusal) => refusal,
            };
            match exceeded {
                Refusal::LimitExceeded => record.flags.set("URX"),
                Refusal::Overflow => record.flags.set("UO"),
                Refusal::NotRetriable => {}
            }
            let response = match attempted {
                Attempted::Failed(failure) => failed(record, &failure, exceeded == Refusal::LimitExceeded),
                Attempted::Late | Attempted::Answered(..) => too_late(record, self.upload, limits::PER_TRY),
            };
            return (response, sent(head, tries.attempt()));
        }
    }

    fn limits(&self, head: &mut Parts, is_upgrade: bool) -> TimeLimits {
        let of_route = self.forward.timeouts().of(&mut head.headers);
        if is_upgrade {
            return TimeLimits {
                response: None,
                whole: None,
                idle: None,
            };
        }
        let now = Instant::now();
        let of_route_whole = of_route.stream.map(|time| (now + time, limits::MAX_DURATION));
        let of_cluster = self.cluster.config.max_stream_duration;
        let of_cluster = of_cluster.map(|time| (now + time, limits::CLUSTER_DURATION));
        let whole = [of_route_whole, of_cluster].into_iter().flatten();
        TimeLimits {
            response: of_route.response,
            whole: whole.min_by_key(|(until, _)| *until),
            idle: of_route.idle.unwrap_or(self.stream_idle),
        }
    }

    fn decide(&self, tries: &mut culvert_http::retry::Tries<'_>, outcome: Outcome<'_>, holds_retry: bool) -> Decision {
        // What this request holds as a retry itself ends with its next one.
        let room = holds_retry || self.cluster.has_room_for_retry();
        if !self.upload.is_whole() {
            return Decision::No(Refusal::NotRetriable);
        }
        tries.decide(outcome, room, SystemTime::now(), fastrand::u64(..))
    }

    /// Waits before a retry, unless a limit is passed first.
    async fn wait(&self, after: Duration, passed: std::pin::Pin<&mut impl Future<Output = Late>>) -> Option<Late> {
        tokio::select! {
            () = tokio::time::sleep(after) => None,
            late = passed => Some(late),
        }
    }
}

/// Tells the endpoint how long it has.
fn expect(head: &mut Parts, per_try: Option<Duration>, limits: &TimeLimits) {
    let expected = [per_try, limits.response].into_iter().flatten().min();
    if let Some(expected) = expected
        && let Ok(value) = HeaderValue::try_from(expected.as_millis().to_string())
    {
        head.headers.insert("x-envoy-expected-rq-timeout-ms", value);
    }
}
