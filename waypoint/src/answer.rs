//! Answers on their way to a client: what is said of the request is complete when the last byte is out.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::{body::BoxError, telemetry::Record};

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    source: Source,
    record: Box<Record>,
    /// When it must be over, and what it is called if it is not.
    deadline: Option<(Pin<Box<Sleep>>, Late)>,
    /// How long it may be silent.
    idle: Option<(Pin<Box<Sleep>>, Duration)>,
    /// What is held for as long as the answer goes on.
    held: Vec<Box<dyn std::fmt::Debug + Send + Sync>>,
}

#[derive(Debug)]
enum Source {
    Whole(Option<Bytes>),
    Endpoint(Incoming),
}

/// What it is called when an answer takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// The flag; empty for none.
    pub flag: &'static str,
    /// The details.
    pub details: &'static str,
}

/// The route's timeout is over.
pub const ROUTE_TIMEOUT: Late = Late {
    flag: "UT",
    details: "response_timeout",
};

/// The exchange took longer than it may.
pub const MAX_DURATION: Late = Late {
    flag: "",
    details: "max_duration_timeout",
};

/// An answer was cut.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut: {0}")]
pub struct Cut(&'static str);

impl AnswerBody {
    /// What the waypoint answers by itself.
    pub fn whole(body: impl Into<Bytes>, record: Box<Record>) -> Self {
        let body: Bytes = body.into();
        Self::new(Source::Whole(Some(body).filter(|body| !body.is_empty())), record)
    }

    /// What an endpoint answers.
    pub fn endpoint(body: Incoming, record: Box<Record>) -> Self {
        Self::new(Source::Endpoint(body), record)
    }

    fn new(source: Source, record: Box<Record>) -> Self {
        let mut body = Self {
            source,
            record,
            deadline: None,
            idle: None,
            held: Vec::new(),
        };
        if body.is_over() {
            body.record.is_complete = true;
        }
        body
    }

    /// It must be over by then.
    #[must_use]
    pub fn until(mut self, deadline: Option<Instant>, late: Late) -> Self {
        if let Some(deadline) = deadline
            && self
                .deadline
                .as_ref()
                .is_none_or(|(other, _)| deadline < other.deadline())
        {
            self.deadline = Some((Box::pin(tokio::time::sleep_until(deadline)), late));
        }
        self
    }

    /// It may be silent for so long.
    #[must_use]
    pub fn idle(mut self, timeout: Option<Duration>) -> Self {
        self.idle = timeout.map(|timeout| (Box::pin(tokio::time::sleep(timeout)), timeout));
        self
    }

    /// Keeps something until the answer is over.
    #[must_use]
    pub fn holding(mut self, held: impl std::fmt::Debug + Send + Sync + 'static) -> Self {
        self.held.push(Box::new(held));
        self
    }

    /// What is said of the request.
    pub fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    fn is_over(&self) -> bool {
        match &self.source {
            Source::Whole(body) => body.is_none(),
            Source::Endpoint(body) => body.is_end_stream(),
        }
    }

    fn cut(&mut self, late: Late) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if late.flag.is_empty() {
            // Envoy has no flag for it; without any the record would take it for the client's doing.
            self.record.is_complete = true;
        } else {
            self.record.flags.set(late.flag);
        }
        late.details.clone_into(&mut self.record.details);
        self.deadline = None;
        self.idle = None;
        Poll::Ready(Some(Err(Box::new(Cut(late.details)))))
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.record.sent += data.len() as u64;
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.record.grpc_status = grpc_status(trailers).or(self.record.grpc_status);
        }
        if let Some((sleep, timeout)) = &mut self.idle {
            sleep.as_mut().reset(Instant::now() + *timeout);
        }
    }
}

/// `grpc-status`, of a head or of trailers.
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers
        .get("grpc-status")
        .and_then(|value| value.to_str().ok()?.parse().ok())
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = match &mut this.source {
            Source::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Source::Endpoint(body) => Pin::new(body).poll_frame(context),
        };
        if polled.is_pending() {
            if let Some((sleep, late)) = &mut this.deadline
                && sleep.as_mut().poll(context).is_ready()
            {
                let late = *late;
                return this.cut(late);
            }
            if let Some((sleep, _)) = &mut this.idle
                && sleep.as_mut().poll(context).is_ready()
            {
                return this.cut(Late {
                    flag: "SI",
                    details: "stream_idle_timeout",
                });
            }
        }
        match ready!(polled) {
            None => {
                this.record.is_complete = true;
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                this.count(&frame);
                if this.is_over() {
                    this.record.is_complete = true;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.record.flags.set("UPE");
                this.record.details = format!("upstream_reset_after_response_started{{{}}}", crate::causes(&error));
                Poll::Ready(Some(Err(Box::new(error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Source::Endpoint(body) => body.size_hint(),
        }
    }
}

/// An answer with nothing in it but what the waypoint says.
pub fn local(status: http::StatusCode, body: &str, record: Box<Record>) -> Response<AnswerBody> {
    let mut record = record;
    record.answered(status);
    let mut response = Response::new(AnswerBody::whole(body.to_owned(), record));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::SERVER, HeaderValue::from_static("culvert"));
    if !body.is_empty() {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}
