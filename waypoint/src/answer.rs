//! Answers on their way to a client: what is said of the request is complete when the last byte is out.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use culvert_http::{filters::Algorithm, local_reply};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::SERVER};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::{
    body::{BoxError, Upload},
    compress::Encoder,
    headers::clean_trailers,
    limits::{IDLE, Late, ROUTE, TimeLimits},
    silence::Silence,
    stall::Stall,
    telemetry::Record,
};

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    source: Source,
    /// How it is compressed, if it is.
    encoding: Option<Encoding>,
    /// None once the exchange is no longer one of HTTP.
    record: Option<Box<Record>>,
    /// How long it may take from the end of the request, or from this on if that is later.
    response: Option<(Duration, Instant)>,
    /// When it must be over, and what it is called if it is not.
    deadline: Option<(Pin<Box<Sleep>>, Late)>,
    /// How long it may be silent.
    idle: Option<Silence>,
    /// Who hears of a limit while nothing can be sent.
    stall: Option<Arc<Stall>>,
    /// What is held for as long as the answer goes on.
    held: Vec<Box<dyn std::fmt::Debug + Send + Sync>>,
}

#[derive(Debug)]
enum Source {
    Whole(Option<Bytes>),
    Endpoint(Incoming),
}

/// What has come of an answer, or is still to come.
type Polled = Poll<Option<Result<Frame<Bytes>, Broken>>>;

/// Why an answer does not go on.
enum Broken {
    /// The endpoint's doing.
    Endpoint(hyper::Error),
    /// It could not be compressed.
    Encoder(std::io::Error),
}

impl Source {
    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        match self {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Endpoint(body) => {
                let polled = ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(polled.map(|frame| frame.map_err(Broken::Endpoint)))
            }
        }
    }
}

/// How far an answer is compressed.
#[derive(Debug)]
enum Encoding {
    Running(std::io::Result<Encoder>),
    /// All of it is, and what comes behind it is still to be sent.
    Ended(Option<HeaderMap>),
}

impl Encoding {
    fn poll(&mut self, source: &mut Source, context: &mut Context<'_>) -> Polled {
        let data = |bytes: Bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        let broken = |error| Poll::Ready(Some(Err(Broken::Encoder(error))));
        loop {
            let encoder = match self {
                Self::Ended(trailers) => {
                    return Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Self::Running(encoder) => encoder,
            };
            let trailers = match ready!(source.poll(context)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        let packed = match encoder {
                            Ok(encoder) => encoder.piece(&piece),
                            Err(error) => Err(std::mem::replace(error, std::io::ErrorKind::Other.into())),
                        };
                        match packed {
                            Ok(packed) if packed.is_empty() => continue,
                            Ok(packed) => return data(packed),
                            Err(error) => return broken(error),
                        }
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
                None => None,
            };
            let Self::Running(encoder) = std::mem::replace(self, Self::Ended(trailers)) else {
                continue;
            };
            match encoder.and_then(Encoder::end) {
                Ok(packed) if packed.is_empty() => {}
                Ok(packed) => return data(packed),
                Err(error) => return broken(error),
            }
        }
    }
}

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
            encoding: None,
            record: Some(record),
            response: None,
            deadline: None,
            idle: None,
            stall: None,
            held: Vec::new(),
        };
        if body.is_over() {
            body.complete();
        }
        body
    }

    /// It must be over in time.
    #[must_use]
    pub(crate) fn limited(mut self, limits: &TimeLimits) -> Self {
        self.response = limits.response.map(|time| (time, limits.from));
        let sleep = |until| Box::pin(tokio::time::sleep_until(until));
        self.deadline = limits.whole.map(|(until, late)| (sleep(until), late));
        self.idle = limits.idle.map(Silence::new);
        let upload = self.record.as_ref().and_then(|record| record.upload.as_ref());
        self.stall = Stall::begin(limits, upload);
        self
    }

    /// Keeps something until the answer is over.
    #[must_use]
    pub fn holding(mut self, held: impl std::fmt::Debug + Send + Sync + 'static) -> Self {
        self.held.push(Box::new(held));
        self
    }

    /// Nothing, of what is no longer HTTP: what is said of the request is said elsewhere.
    pub(crate) fn switched() -> Self {
        Self {
            source: Source::Whole(None),
            encoding: None,
            record: None,
            response: None,
            deadline: None,
            idle: None,
            stall: None,
            held: Vec::new(),
        }
    }

    /// The same, compressed.
    #[must_use]
    pub(crate) fn compressed(mut self, algorithm: Algorithm) -> Self {
        self.encoding = Some(Encoding::Running(Encoder::new(algorithm)));
        self
    }

    fn is_over(&self) -> bool {
        if self.encoding.is_some() {
            return matches!(self.encoding, Some(Encoding::Ended(None)));
        }
        match &self.source {
            Source::Whole(body) => body.is_none(),
            Source::Endpoint(body) => body.is_end_stream(),
        }
    }

    fn complete(&mut self) {
        if let Some(record) = &mut self.record {
            record.is_complete = true;
        }
    }

    /// Notes what it is cut for.
    fn note(&mut self, late: Late) {
        if let Some(record) = &mut self.record {
            if late.flag.is_empty() {
                // Envoy has no flag for it; without any the record would take it for the client's doing.
                record.is_complete = true;
            } else {
                record.flags.set(late.flag);
            }
            late.details.clone_into(&mut record.details);
        }
    }

    fn cut(&mut self, late: Late) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.note(late);
        self.deadline = None;
        self.response = None;
        self.idle = None;
        Poll::Ready(Some(Err(Box::new(Cut(late.details)))))
    }

    /// A limit that is passed while nothing comes.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Option<Late> {
        self.await_request(context);
        if let Some((sleep, late)) = &mut self.deadline
            && sleep.as_mut().poll(context).is_ready()
        {
            return Some(*late);
        }
        let idle = self.idle.as_mut()?;
        // A client that still sends is not silent.
        let upload = self.record.as_ref().and_then(|record| record.upload.as_ref());
        let moved = upload.map(Upload::moved_at);
        idle.poll(moved, context).is_ready().then_some(IDLE)
    }

    /// A limit that is passed however much comes.
    fn is_late(&mut self, context: &Context<'_>) -> Option<Late> {
        self.await_request(context);
        let (sleep, late) = self.deadline.as_ref()?;
        (sleep.deadline() <= Instant::now()).then_some(*late)
    }

    /// From the end of the request on the route's time counts.
    fn await_request(&mut self, context: &Context<'_>) {
        let Some((response, from)) = self.response else {
            return;
        };
        let upload = self.record.as_ref().and_then(|record| record.upload.as_ref());
        let Some(Poll::Ready(ended)) = upload.map(|upload| upload.poll_ended(context)) else {
            return;
        };
        self.response = None;
        let until = ended.max(from) + response;
        if self.deadline.as_ref().is_none_or(|(other, _)| until < other.deadline()) {
            self.deadline = Some((Box::pin(tokio::time::sleep_until(until)), ROUTE));
        }
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        if let Some(record) = &mut self.record {
            if let Some(data) = frame.data_ref() {
                record.sent += data.len() as u64;
                if record.is_grpc {
                    record.messages.feed(data);
                }
            }
            if let Some(trailers) = frame.trailers_ref() {
                record.grpc_status = grpc_status(trailers).or(record.grpc_status);
                if let Some(observed) = &mut record.observed {
                    observed.trailers = Some(trailers.clone());
                }
            }
        }
        if let Some(idle) = &mut self.idle {
            idle.broken();
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
        let polled = match &mut this.encoding {
            Some(encoding) => encoding.poll(&mut this.source, context),
            None => this.source.poll(context),
        };
        let late = match &polled {
            Poll::Pending => this.poll_late(context),
            Poll::Ready(Some(Ok(_))) => this.is_late(context),
            // It is over, one way or the other.
            Poll::Ready(_) => None,
        };
        if let Some(late) = late {
            return this.cut(late);
        }
        if let Some(stall) = &this.stall {
            match &polled {
                Poll::Pending => stall.asked(),
                Poll::Ready(_) => stall.given(this.is_over()),
            }
        }
        match ready!(polled) {
            None => {
                this.complete();
                Poll::Ready(None)
            }
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                }
                this.count(&frame);
                if this.is_over() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(Broken::Encoder(error))) => Poll::Ready(Some(Err(Box::new(error)))),
            Some(Err(Broken::Endpoint(error))) => {
                if let Some(record) = &mut this.record {
                    record.flags.set("UPE");
                    let why = crate::causes(&error);
                    record.details = format!("upstream_reset_after_response_started{{{why}}}");
                }
                Poll::Ready(Some(Err(Box::new(error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            _ if self.encoding.is_some() => SizeHint::default(),
            Source::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Source::Endpoint(body) => body.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Some(late) = self.stall.take().and_then(|stall| stall.end()) {
            self.note(late);
        }
    }
}

/// An answer with nothing in it but what the waypoint says; to gRPC, in its own way.
pub fn local(status: StatusCode, body: &str, record: Box<Record>) -> Response<AnswerBody> {
    let reply = local_reply(status, body, record.is_grpc);
    whole(reply, record)
}

/// An answer that is there already.
pub fn whole(reply: Response<Vec<u8>>, mut record: Box<Record>) -> Response<AnswerBody> {
    record.answered(reply.status());
    record.grpc_status = grpc_status(reply.headers());
    let mut response = reply.map(|body| AnswerBody::whole(body, record));
    response
        .headers_mut()
        .insert(SERVER, HeaderValue::from_static("culvert"));
    response
}

/// An answer that the waypoint gives by itself.
pub(crate) fn refuse(
    mut record: Box<Record>,
    status: StatusCode,
    flag: &'static str,
    details: &str,
    body: &str,
) -> Response<AnswerBody> {
    if !flag.is_empty() {
        record.flags.set(flag);
    }
    details.clone_into(&mut record.details);
    local(status, body, record)
}
