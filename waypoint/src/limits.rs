//! How long an exchange may take, in all its ways.

use std::{future::pending, time::Duration};

use culvert_http::route::Forward;
use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{body::Upload, config::http_chain::HttpChain, silence::silent};

/// The limits of one exchange.
#[derive(Clone, Debug)]
pub(crate) struct TimeLimits {
    /// From the end of the request to the end of the answer.
    pub(crate) response: Option<Duration>,
    /// Not before this: what held the request back until then, a fault's delay for example, does not count as the endpoint's time.
    pub(crate) from: Instant,
    /// The end of the exchange as a whole, and what it is called when it comes.
    pub(crate) whole: Option<(Instant, Late)>,
    /// Silence.
    pub(crate) idle: Option<Duration>,
    /// When all of the request must have come.
    pub(crate) request: Option<Instant>,
}

/// What it is called when an exchange takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late {
    /// The flag; empty for none.
    pub(crate) flag: &'static str,
    /// The details.
    pub(crate) details: &'static str,
    /// The body of the answer.
    pub(crate) body: &'static str,
    /// Whether a request that is not complete is itself to blame: 408.
    blames_client: bool,
    /// What gRPC is told in place of what stands for 504.
    pub(crate) grpc_status: Option<u32>,
}

impl Late {
    /// The status of the answer.
    pub(crate) fn status(&self, upload: &Upload) -> StatusCode {
        match self.blames_client && !upload.has_ended() {
            true => StatusCode::REQUEST_TIMEOUT,
            false => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// The route's timeout is over.
pub(crate) const ROUTE: Late = Late {
    flag: "UT",
    details: "response_timeout",
    body: "upstream request timeout",
    blames_client: false,
    grpc_status: None,
};

/// One try took too long.
pub(crate) const PER_TRY: Late = Late {
    flag: "UT",
    details: "upstream_per_try_timeout",
    body: "upstream request timeout",
    blames_client: false,
    grpc_status: None,
};

/// The exchange took longer than the route lets it.
const MAX_DURATION: Late = Late {
    flag: "",
    details: "max_duration_timeout",
    body: "downstream duration timeout",
    blames_client: true,
    grpc_status: Some(4),
};

/// The exchange took longer than the cluster lets it.
pub(crate) const CLUSTER_DURATION: Late = Late {
    flag: "UMSDR",
    details: "upstream_max_stream_duration_reached",
    body: "upstream max stream duration reached",
    blames_client: false,
    grpc_status: None,
};

/// The client took too long to send all of its request.
const REQUEST: Late = Late {
    flag: "",
    details: "request_overall_timeout",
    body: "request timeout",
    blames_client: true,
    grpc_status: None,
};

/// Nobody said anything.
pub(crate) const IDLE: Late = Late {
    flag: "SI",
    details: "stream_idle_timeout",
    body: "stream timeout",
    blames_client: true,
    grpc_status: None,
};

impl TimeLimits {
    /// Those of a request that came at `begun`, by its chain and, before that, by where its route leads. `grpc-timeout` is changed to what
    /// is left of it where it is capped.
    pub(crate) fn of(chain: &HttpChain, forward: Option<&Forward>, begun: Instant, headers: &mut HeaderMap) -> Self {
        let of_route = forward
            .map(|forward| forward.timeouts().of(headers))
            .unwrap_or_default();
        let whole = of_route.stream.unwrap_or(chain.max_stream_duration);
        Self {
            response: of_route.response,
            from: Instant::now(),
            whole: whole.map(|time| (begun + time, MAX_DURATION)),
            idle: of_route.idle.unwrap_or(chain.stream_idle_timeout),
            request: chain.request_timeout.map(|time| begun + time),
        }
    }

    /// These, and that the exchange is over by a moment.
    #[must_use]
    pub(crate) fn until(self, end: Option<(Instant, Late)>) -> Self {
        let whole = [self.whole, end].into_iter().flatten();
        Self {
            whole: whole.min_by_key(|(until, _)| *until),
            ..self
        }
    }

    /// The first limit that is passed before the head of an answer.
    pub(crate) async fn passed(&self, upload: &Upload) -> Late {
        let response = async {
            match self.response {
                Some(time) => {
                    upload.ended().await;
                    sleep(time).await;
                    ROUTE
                }
                None => pending().await,
            }
        };
        let whole = async {
            match self.whole {
                Some((until, late)) => {
                    sleep_until(until).await;
                    late
                }
                None => pending().await,
            }
        };
        let idle = async {
            silent(self.idle, || upload.moved_at()).await;
            IDLE
        };
        let request = async {
            match self.request {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
            match upload.has_ended() {
                true => pending().await,
                false => REQUEST,
            }
        };
        tokio::select! {
            late = response => late,
            late = whole => late,
            late = idle => late,
            late = request => late,
        }
    }
}
