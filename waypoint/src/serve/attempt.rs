//! One try of a request at one endpoint.

use std::{sync::Arc, time::Duration};

use culvert_http::route::Forward;
use http::{HeaderMap, Request, StatusCode, header, request::Parts, response};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::upgrade::Upgrade;
use crate::{
    body::Upload,
    cluster::Cluster,
    counted::Counted,
    endpoint::Endpoint,
    headers,
    upstream::{Ends, Lease, SendFailure, Stage, Upstream},
};

/// What all tries of a request have in common.
pub(super) struct Trying<'a> {
    pub(super) upstream: &'a Upstream,
    /// Those of the client's connection.
    pub(super) ends: Option<Ends>,
    pub(super) cluster: &'a Cluster,
    pub(super) forward: &'a Forward,
    pub(super) upload: &'a Upload,
}

/// What an attempt came to.
pub(super) enum Attempted {
    Answered(Box<Answered>, Held),
    Failed(SendFailure),
    /// One try took too long.
    Late,
}

/// An answer.
pub(super) struct Answered {
    pub(super) head: response::Parts,
    pub(super) body: Incoming,
}

/// What is held for as long as an answer goes on.
#[derive(Debug)]
pub(super) struct Held {
    _lease: Lease,
    _active: Counted,
}

impl Attempted {
    /// That of the answer, if there is one.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answered(answered, _) => Some(answered.head.status),
            Self::Failed(_) | Self::Late => None,
        }
    }
}

impl Trying<'_> {
    /// Sends it.
    pub(super) async fn send(
        &self,
        endpoint: &Arc<Endpoint>,
        mut head: Parts,
        is_http2: bool,
        upgrade: Option<&Upgrade>,
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
        if let Some(upgrade) = upgrade {
            upgrade.ask(&mut head, is_http2);
        }
        let Some(body) = self.upload.body() else {
            return client("the beginning of the body is no longer there");
        };
        let active = Counted::new(&endpoint.load.active);
        let request = Request::from_parts(head, body);
        let sending = self
            .upstream
            .send_between(self.ends, self.cluster, endpoint, is_http2, request);
        let sent = match per_try.or(self.forward.retry().per_try_idle_timeout()) {
            None => sending.await,
            Some(per_try) => match timeout(per_try, sending).await {
                Ok(sent) => sent,
                Err(_) => return Attempted::Late,
            },
        };
        match sent {
            // Whoever reads the length would see another answer than who reads the chunks (RFC 9112 section 6.3).
            Ok((response, _)) if has_two_lengths(response.headers()) => Attempted::Failed(SendFailure {
                stage: Stage::Protocol,
                why: "an answer with both Content-Length and Transfer-Encoding".to_owned(),
            }),
            Ok((response, lease)) => {
                let (head, body) = response.into_parts();
                let held = Held {
                    _lease: lease,
                    _active: active,
                };
                Attempted::Answered(Box::new(Answered { head, body }), held)
            }
            Err(failure) => Attempted::Failed(failure),
        }
    }
}

fn has_two_lengths(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING)
}
