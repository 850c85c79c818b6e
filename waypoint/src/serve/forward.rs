//! What is done with a request upstream: attempts, and what becomes of the last one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use culvert_http::{
    Peer,
    balance::outlier::Result as Seen,
    retry::{Decision, Outcome, Refusal, Reset},
    route::{Forward, Target},
};
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::time::{Instant, timeout};

use super::{upgrade, worker::Inner};
use crate::{
    answer::{AnswerBody, grpc_status, refuse, whole},
    body::Upload,
    cluster::Cluster,
    config::cluster::Protocol,
    counted::Counted,
    endpoint::Endpoint,
    headers,
    limits::{self, Late, TimeLimits},
    state::Snapshot,
    telemetry::Record,
    upstream::{Lease, SendFailure, Stage},
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
    /// How long the chain lets an exchange be silent.
    pub(super) stream_idle: Option<Duration>,
}

/// What was sent, for those who change the answer.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) head: Option<Parts>,
    pub(super) attempts: Option<u32>,
}

/// What an attempt came to.
enum Attempted {
    Answered(Box<Response<Incoming>>, Held),
    Failed(SendFailure),
    /// One try took too long.
    Late,
}

/// What is held for as long as an answer goes on.
#[derive(Debug)]
struct Held {
    _lease: Lease,
    _active: Counted,
}

impl Forwarding<'_> {
    pub(super) async fn run(
        &self,
        mut head: Parts,
        upgrade: Option<(String, OnUpgrade)>,
        mut record: Box<Record>,
    ) -> (Response<AnswerBody>, Sent) {
        let Some(counted) = self.cluster.request() else {
            let mut response = refuse(
                record,
                StatusCode::SERVICE_UNAVAILABLE,
                "UO",
                "overflow",
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            );
            let yes = HeaderValue::from_static("true");
            response.headers_mut().insert("x-envoy-overloaded", yes);
            return (response, Sent::default());
        };
        let limits = self.limits(&mut head, upgrade.is_some());
        let hashed = self.forward.hash(&head, self.peer);
        let mut tries = self.forward.retry().start(&head);
        if let Err(error) = self.forward.rewrite(&mut head, self.peer, self.target) {
            let response = refuse(record, StatusCode::BAD_REQUEST, "DPE", &error.to_string(), "");
            return (response, Sent::default());
        }
        self.mirror(&head);
        let is_http2 = match self.cluster.config.protocol {
            _ if upgrade.is_some() => false,
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Downstream => head.version == Version::HTTP_2,
        };
        let begun = Instant::now();
        let passed = limits.passed(self.upload);
        tokio::pin!(passed);
        let mut tried: Vec<u64> = Vec::new();
        let mut retry: Option<Counted> = None;
        let per_try = self.forward.retry().per_try_timeout(limits.response);
        let sent = |head, attempts| Sent {
            head: Some(head),
            attempts: Some(attempts),
        };
        loop {
            let reselections = self.forward.retry().host_reselections().unwrap_or(0);
            let avoided: &[u64] = if reselections > 0 { &tried } else { &[] };
            let Some(endpoint) = self.cluster.choose(hashed.hash, reselections, avoided) else {
                let (flag, details, body) = ("UH", "no_healthy_upstream", "no healthy upstream");
                let response = refuse(record, StatusCode::SERVICE_UNAVAILABLE, flag, details, body);
                return (response, sent(head, tries.attempt()));
            };
            tried.push(endpoint.id);
            record.endpoint = Some((endpoint.config.address, Arc::clone(&endpoint.config.about)));
            record.is_encrypted = endpoint.is_in_tunnel();
            record.attempts += 1;
            let mut attempt = head.clone();
            tries.mark(&mut attempt.headers);
            self.expect(&mut attempt, per_try, &limits);
            let attempting = self.attempt(
                endpoint,
                attempt,
                is_http2,
                upgrade.as_ref().map(|(name, _)| &**name),
                per_try,
            );
            let attempted = tokio::select! {
                attempted = attempting => attempted,
                late = &mut passed => {
                    self.cluster.note(endpoint, Seen::Local);
                    return (self.too_late(record, late), sent(head, tries.attempt()));
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
            if !matches!(
                &attempted,
                Attempted::Failed(SendFailure {
                    stage: Stage::Client,
                    ..
                })
            ) {
                self.cluster.note(endpoint, seen);
            }
            let attempted = match attempted {
                Attempted::Answered(response, held) => {
                    let (parts, body) = response.into_parts();
                    let decision = self.decide(&mut tries, Outcome::Response(&parts), retry.is_some());
                    if let Decision::Retry { after } = decision {
                        drop((body, held));
                        retry = Some(self.cluster.retry());
                        if let Some(late) = self.wait(after, passed.as_mut()).await {
                            return (self.too_late(record, late), sent(head, tries.attempt()));
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
                        Some((name, client)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                            upgrade::switch(response, &name, client, record, (held, counted))
                        }
                        _ => {
                            let answer = answer(response, record, &limits, begun.elapsed());
                            answer.map(|body| body.holding((held, counted, retry)))
                        }
                    };
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
            let exceeded = match decision {
                Decision::Retry { after } => {
                    retry = Some(self.cluster.retry());
                    if let Some(late) = self.wait(after, passed.as_mut()).await {
                        return (self.too_late(record, late), sent(head, tries.attempt()));
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
                Attempted::Late | Attempted::Answered(..) => self.too_late(record, limits::PER_TRY),
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

    /// Tells the endpoint how long it has.
    fn expect(&self, head: &mut Parts, per_try: Option<Duration>, limits: &TimeLimits) {
        let expected = [per_try, limits.response].into_iter().flatten().min();
        if let Some(expected) = expected
            && let Ok(value) = HeaderValue::try_from(expected.as_millis().to_string())
        {
            head.headers.insert("x-envoy-expected-rq-timeout-ms", value);
        }
    }

    async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        mut head: Parts,
        is_http2: bool,
        upgrade: Option<&str>,
        per_try: Option<Duration>,
    ) -> Attempted {
        let client = |why: &str| {
            Attempted::Failed(SendFailure {
                stage: Stage::Client,
                why: why.to_owned(),
            })
        };
        if self.forward.needs_endpoint_host()
            && let Some(hostname) = &endpoint.config.hostname
        {
            self.forward.rewrite_host(&mut head, hostname.as_bytes());
        }
        if headers::send(&mut head, is_http2).is_err() {
            return client("an authority that no header can have");
        }
        if let Some(protocol) = upgrade
            && let Ok(protocol) = HeaderValue::from_str(protocol)
        {
            head.headers
                .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, protocol);
        }
        let Some(body) = self.upload.body() else {
            return client("the beginning of the body is no longer there");
        };
        let active = Counted::new(&endpoint.load.active);
        let request = Request::from_parts(head, body);
        let sending = self.inner.upstream.send(self.cluster, endpoint, is_http2, request);
        let sent = match per_try.or(self.forward.retry().per_try_idle_timeout()) {
            None => sending.await,
            Some(per_try) => match timeout(per_try, sending).await {
                Ok(sent) => sent,
                Err(_) => return Attempted::Late,
            },
        };
        match sent {
            Ok((response, lease)) => Attempted::Answered(
                Box::new(response),
                Held {
                    _lease: lease,
                    _active: active,
                },
            ),
            Err(failure) => Attempted::Failed(failure),
        }
    }

    fn too_late(&self, mut record: Box<Record>, late: Late) -> Response<AnswerBody> {
        if let Some(status) = late.grpc_status.filter(|_| record.is_grpc) {
            late.details.clone_into(&mut record.details);
            return whole(culvert_http::grpc_reply(status, late.body), record);
        }
        refuse(record, late.status(self.upload), late.flag, late.details, late.body)
    }

    /// Sends copies where the route says so. Nobody waits for their answers.
    fn mirror(&self, head: &Parts) {
        for mirror in self.forward.mirrors() {
            if !mirror.fraction().hit(fastrand::u64(..)) {
                continue;
            }
            let Some(cluster) = self.snapshot.clusters.get(mirror.cluster()).cloned() else {
                tracing::debug!(cluster = mirror.cluster(), "a mirror is not there");
                continue;
            };
            let mut head = head.clone();
            mirror.rewrite(&mut head);
            let body = self.upload.copy();
            let upstream = self.inner.upstream.clone();
            let is_http2 = match cluster.config.protocol {
                Protocol::Http1 => false,
                Protocol::Http2 => true,
                Protocol::Downstream => head.version == Version::HTTP_2,
            };
            tokio::spawn(async move {
                let (Some(_counted), Some(endpoint)) = (cluster.request(), cluster.choose(None, 0, &[])) else {
                    return;
                };
                if headers::send(&mut head, is_http2).is_err() {
                    return;
                }
                let _active = Counted::new(&endpoint.load.active);
                let request = Request::from_parts(head, body);
                match upstream.send(&cluster, endpoint, is_http2, request).await {
                    // Read, so that the connection can be kept.
                    Ok((response, _lease)) => drop(http_body_util::BodyExt::collect(response.into_body()).await),
                    Err(failure) => tracing::debug!(error = failure.why, "a mirror did not answer"),
                }
            });
        }
    }
}

/// The endpoint's answer, on its way to the client.
fn answer(
    response: Response<Incoming>,
    mut record: Box<Record>,
    limits: &TimeLimits,
    took: Duration,
) -> Response<AnswerBody> {
    let (mut head, body) = response.into_parts();
    headers::remove_hop_by_hop(&mut head.headers);
    if let Ok(took) = HeaderValue::try_from(took.as_millis().to_string()) {
        head.headers.insert("x-envoy-upstream-service-time", took);
    }
    record.answered(head.status);
    record.grpc_status = grpc_status(&head.headers);
    "via_upstream".clone_into(&mut record.details);
    // Of the endpoint's connection.
    head.extensions.clear();
    head.version = Version::HTTP_11;
    Response::from_parts(head, AnswerBody::endpoint(body, record).limited(limits))
}

fn reset(stage: Stage) -> Reset {
    match stage {
        Stage::Connect | Stage::ConnectTimeout => Reset::ConnectFailure,
        Stage::Refused => Reset::Refused,
        Stage::Reset => Reset::AfterRequest,
        Stage::Protocol => Reset::NotHttp,
        // The client has gone: nobody waits for another try.
        Stage::Client => Reset::Overflow,
    }
}

fn failed(record: Box<Record>, failure: &SendFailure, retried: bool) -> Response<AnswerBody> {
    let (status, flag, reason) = match failure.stage {
        Stage::Connect => (StatusCode::SERVICE_UNAVAILABLE, "UF", "connection failure"),
        Stage::ConnectTimeout => (StatusCode::SERVICE_UNAVAILABLE, "UF", "connection timeout"),
        Stage::Refused => (StatusCode::SERVICE_UNAVAILABLE, "UR", "remote refused stream reset"),
        Stage::Reset => (StatusCode::SERVICE_UNAVAILABLE, "UC", "connection termination"),
        Stage::Protocol => (StatusCode::BAD_GATEWAY, "UPE", "protocol error"),
        Stage::Client => (StatusCode::BAD_REQUEST, "DC", "downstream remote disconnect"),
    };
    tracing::debug!(error = failure.why, "a request got no answer");
    let again = if retried { "retried and the latest " } else { "" };
    let body = format!("upstream connect error or disconnect/reset before headers. {again}reset reason: {reason}");
    let details = format!("upstream_reset_before_response_started{{{}}}", failure.why);
    refuse(record, status, flag, &details, &body)
}
