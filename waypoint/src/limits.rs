//! How long an exchange may take, in all its ways.

use std::{future::pending, time::Duration};

use http::StatusCode;
use tokio::time::{Instant, sleep, sleep_until};

use crate::body::Upload;

/// The limits of one exchange.
#[derive(Clone, Debug)]
pub(crate) struct TimeLimits {
    /// From the end of the request to the end of the answer.
    pub(crate) response: Option<Duration>,
    /// The end of the exchange as a whole, and what it is called when it comes.
    pub(crate) whole: Option<(Instant, Late)>,
    /// Silence.
    pub(crate) idle: Option<Duration>,
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
pub(crate) const MAX_DURATION: Late = Late {
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

/// Nobody said anything.
pub(crate) const IDLE: Late = Late {
    flag: "SI",
    details: "stream_idle_timeout",
    body: "stream timeout",
    blames_client: true,
    grpc_status: None,
};

impl TimeLimits {
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
            let Some(idle) = self.idle else {
                return pending().await;
            };
            let mut received = upload.received();
            loop {
                sleep(idle).await;
                let now = upload.received();
                if now == received {
                    return IDLE;
                }
                received = now;
            }
        };
        tokio::select! {
            late = response => late,
            late = whole => late,
            late = idle => late,
        }
    }
}
