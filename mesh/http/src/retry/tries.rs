//! The tries of one request.

use std::time::{Duration, SystemTime};

use culvert_envoy::ATTEMPT_HEADER;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, response};

use super::conditions::Outcome;
use super::policy::RetryPolicy;

/// The tries of one request. Begins with the first.
#[derive(Debug)]
pub struct Tries<'a> {
    policy: &'a RetryPolicy,
    /// The number of the first try: what layers in front have used is counted.
    first: u32,
    /// Retries here.
    retried: u32,
    /// Retries that a layer behind has used.
    used_behind: u32,
    /// Whether the request is one that may be tried again.
    retriable: bool,
}

/// Whether there is another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// After this time. [`Tries::attempt`] is the new one's number already.
    Retry {
        /// How long to wait.
        after: Duration,
    },
    /// There is none.
    No(Refusal),
}

/// Why there is no other try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It needs none, or none that the policy is for.
    NotRetriable,
    /// All are used up: flag `URX`.
    LimitExceeded,
    /// The cluster has too many retries: flag `UO`, statistic `upstream_rq_retry_overflow`. The client gets the answer that there is.
    Overflow,
}

impl RetryPolicy {
    /// The tries of a request. Reads the request as the client sent it.
    pub fn start(&self, request: &Parts) -> Tries<'_> {
        Tries {
            policy: self,
            first: attempts(&request.headers).unwrap_or(1),
            retried: 0,
            used_behind: 0,
            retriable: self.conditions.any()
                && (self.request_headers.is_empty()
                    || self.request_headers.iter().any(|header| header.matches(request))),
        }
    }
}

impl Tries<'_> {
    /// The number of the try that is under way, over all layers. Goes upstream, and downstream where the route says so.
    pub fn attempt(&self) -> u32 {
        self.first.saturating_add(self.retried)
    }

    /// How often a layer behind has tried, on top.
    pub fn attempts_of_all_layers(&self) -> u32 {
        self.attempt().saturating_add(self.used_behind)
    }

    /// Sets the number in the head of a try.
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(ATTEMPT_HEADER, HeaderValue::from(self.attempt()));
    }

    /// Sets in the head of an answer how often the request was tried, so that a layer in front knows.
    pub fn mark_response(&self, headers: &mut HeaderMap) {
        headers.insert(ATTEMPT_HEADER, HeaderValue::from(self.attempts_of_all_layers()));
    }

    /// Whether a request is tried again after this. `room` is what [`RetryBudget::allows`](super::RetryBudget::allows) says. Not asked once
    /// anything of an answer went to the client.
    pub fn decide(&mut self, outcome: Outcome<'_>, room: bool, now: SystemTime, random: u64) -> Decision {
        if let Outcome::Response(response) = outcome {
            let behind = attempts(&response.headers).unwrap_or(0);
            self.used_behind += behind.saturating_sub(self.attempts_of_all_layers());
        }
        if !self.retriable || !self.is_worth_it(outcome) {
            return Decision::No(Refusal::NotRetriable);
        }
        let used = (self.attempts_of_all_layers()).saturating_sub(1);
        if used >= self.policy.retries {
            return Decision::No(Refusal::LimitExceeded);
        }
        if !room {
            return Decision::No(Refusal::Overflow);
        }
        self.retried += 1;
        let asked = match (outcome, &self.policy.asked_for) {
            (Outcome::Response(response), Some(asked_for)) => asked_for.wait(&response.headers, now, random),
            _ => None,
        };
        Decision::Retry {
            after: asked.unwrap_or_else(|| self.policy.back_off.wait(self.retried, random)),
        }
    }

    fn is_worth_it(&self, outcome: Outcome<'_>) -> bool {
        match outcome {
            Outcome::Reset(reset) => self.policy.conditions.reset(reset),
            Outcome::Response(response) => self
                .policy
                .conditions
                .response(response)
                .unwrap_or_else(|| self.has_own_mark(response)),
        }
    }

    /// A code or a field that the policy names.
    fn has_own_mark(&self, response: &response::Parts) -> bool {
        let conditions = &self.policy.conditions;
        (conditions.status_codes && self.policy.status_codes.contains(&response.status))
            || (conditions.headers
                && self
                    .policy
                    .response_headers
                    .iter()
                    .any(|header| header.matches_fields(&response.headers)))
    }
}

/// The number in a head. None where it has none, or one that is none: nobody's word for it is needed that nothing was tried yet.
fn attempts(headers: &HeaderMap) -> Option<u32> {
    headers
        .get(ATTEMPT_HEADER)?
        .to_str()
        .ok()?
        .parse()
        .ok()
        .filter(|number| *number > 0)
}
