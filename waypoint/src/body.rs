//! Bodies of requests on their way to an endpoint: streamed, and kept in part so that they can be sent again.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

use crate::{headers::clean_trailers, messages::Messages};

/// Why a body ends before its end.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is sent to endpoints.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// What the waypoint itself sends.
    Whole(Option<Bytes>),
    /// What a client sends, from its beginning.
    Client(ClientBody),
    /// A copy, for a mirror.
    Copy(CopyBody),
}

/// A client's body. Shared by the attempts at one request, of which one at a time reads on.
#[derive(Clone, Debug)]
pub struct Upload(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    source: Option<Incoming>,
    /// What was read, as far as it is kept.
    kept: Vec<Piece>,
    kept_bytes: usize,
    most: usize,
    /// Whether all that is read is kept: its beginning is being looked at.
    is_held: bool,
    /// More was read than is kept.
    lost: bool,
    received: u64,
    /// When the last of it was.
    moved_at: Instant,
    /// Messages of gRPC, where it is that.
    messages: Option<Messages>,
    end: Option<Result<(), Arc<str>>>,
    ended_at: Option<Instant>,
    /// Told of the end.
    waits_for_end: Option<Waker>,
    copies: Vec<Copy>,
}

/// Where a copy goes.
#[derive(Debug)]
struct Copy {
    pieces: mpsc::Sender<Piece>,
    /// It misses something.
    cut: Arc<AtomicBool>,
}

impl Copy {
    /// Whether it is still whole.
    fn send(&self, piece: &Piece) -> bool {
        let sent = self.pieces.try_send(piece.clone()).is_ok();
        if !sent {
            self.cut.store(true, Ordering::Relaxed);
        }
        sent
    }
}

#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

/// The client broke off.
#[derive(Debug, thiserror::Error)]
#[error("the client's body broke off: {0}")]
pub struct BrokenOff(Arc<str>);

impl Upload {
    /// Keeps up to `most` bytes for another attempt.
    pub fn new(source: Incoming, most: usize) -> Self {
        let is_empty = source.is_end_stream();
        // What is known to be too much is not kept at all.
        let lost = source.size_hint().lower() > most as u64;
        Self(Arc::new(Mutex::new(Shared {
            source: (!is_empty).then_some(source),
            kept: Vec::new(),
            kept_bytes: 0,
            most,
            is_held: false,
            lost,
            received: 0,
            moved_at: Instant::now(),
            messages: None,
            end: is_empty.then_some(Ok(())),
            ended_at: is_empty.then(Instant::now),
            waits_for_end: None,
            copies: Vec::new(),
        })))
    }

    /// For an attempt, from the beginning. None where the beginning is lost, and something was read already.
    pub fn body(&self) -> Option<Body> {
        let shared = self.0.lock();
        if shared.source.is_none() && shared.received == 0 && shared.kept.is_empty() {
            return Some(Body::Empty);
        }
        let whole = !shared.lost || shared.received == 0;
        drop(shared);
        whole.then(|| {
            Body::Client(ClientBody {
                upload: self.clone(),
                at: 0,
            })
        })
    }

    /// Its first bytes, no more than `most`, and whether there are more. They are kept for those that read it later. None where the
    /// client breaks off.
    pub async fn beginning(&self, most: usize) -> Option<(Vec<u8>, bool)> {
        {
            let mut shared = self.0.lock();
            shared.is_held = true;
            // Also of what is known to be long the beginning is sent on.
            shared.lost = false;
        }
        let mut bytes = Vec::new();
        let mut at = 0;
        let read = loop {
            if bytes.len() > most {
                break Some(());
            }
            let piece = std::future::poll_fn(|context| self.0.lock().poll_piece(context, at)).await;
            at += 1;
            match piece {
                None => break Some(()),
                Some(Ok(Piece::Data(data))) => bytes.extend_from_slice(&data),
                Some(Ok(Piece::Trailers(_))) => {}
                Some(Err(_)) => break None,
            }
        };
        let mut shared = self.0.lock();
        shared.is_held = false;
        // What was read here is no reason to lose it.
        shared.most = shared.most.max(shared.kept_bytes);
        drop(shared);
        read?;
        let is_partial = bytes.len() > most;
        bytes.truncate(most);
        Some((bytes, is_partial))
    }

    /// Whether another attempt can have it from the beginning.
    pub fn is_whole(&self) -> bool {
        let shared = self.0.lock();
        !shared.lost || shared.received == 0
    }

    /// Counts messages from now on: it is gRPC.
    pub(crate) fn count_messages(&self) {
        self.0.lock().messages = Some(Messages::default());
    }

    /// Messages that came, where they are counted.
    pub(crate) fn messages(&self) -> u64 {
        self.0.lock().messages.as_ref().map_or(0, Messages::count)
    }

    /// Bytes that came.
    pub fn received(&self) -> u64 {
        self.0.lock().received
    }

    /// When the last of it was read; where there is nothing of it yet, when the request came.
    pub fn moved_at(&self) -> Instant {
        self.0.lock().moved_at
    }

    /// Whether the client has sent all of it.
    pub fn has_ended(&self) -> bool {
        self.0.lock().end.is_some()
    }

    /// When the client had sent all of it, and somebody had read that; wakes who asks, the last one that did.
    pub fn poll_ended(&self, context: &Context<'_>) -> Poll<Instant> {
        let mut shared = self.0.lock();
        if let Some(at) = shared.ended_at {
            return Poll::Ready(at);
        }
        shared.waits_for_end = Some(context.waker().clone());
        Poll::Pending
    }

    /// The same, where it is so by now.
    pub fn ended_at(&self) -> Option<Instant> {
        self.0.lock().ended_at
    }

    /// Waits for that.
    pub async fn ended(&self) -> Instant {
        std::future::poll_fn(|context| self.poll_ended(context)).await
    }

    /// A copy of what is read from now on: to be asked for before anything is. A copy that is not read fast enough breaks off.
    pub fn copy(&self) -> Body {
        let mut shared = self.0.lock();
        if shared.source.is_none() && shared.kept.is_empty() {
            return Body::Empty;
        }
        let (sender, pieces) = mpsc::channel(COPY_PIECES);
        let cut = Arc::new(AtomicBool::new(false));
        let copy = Copy {
            pieces: sender,
            cut: Arc::clone(&cut),
        };
        // A filter may have looked at its beginning.
        let is_whole = shared.kept.iter().all(|piece| copy.send(piece));
        if is_whole && shared.source.is_some() {
            shared.copies.push(copy);
        }
        Body::Copy(CopyBody { pieces, cut })
    }
}

/// Pieces that a copy may lag behind.
const COPY_PIECES: usize = 256;

impl Shared {
    fn poll_piece(&mut self, context: &mut Context<'_>, at: usize) -> Poll<Option<Result<Piece, BoxError>>> {
        if let Some(piece) = self.kept.get(at) {
            return Poll::Ready(Some(Ok(piece.clone())));
        }
        let Some(source) = &mut self.source else {
            return match &self.end {
                Some(Err(why)) => Poll::Ready(Some(Err(Box::new(BrokenOff(Arc::clone(why)))))),
                _ => Poll::Ready(None),
            };
        };
        let piece = match ready!(Pin::new(source).poll_frame(context)) {
            None => {
                self.finish(Ok(()));
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                let why: Arc<str> = crate::causes(&error).into();
                self.finish(Err(Arc::clone(&why)));
                return Poll::Ready(Some(Err(Box::new(BrokenOff(why)))));
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Piece::Data(data),
                Err(frame) => match frame.into_trailers() {
                    Ok(mut trailers) => {
                        clean_trailers(&mut trailers);
                        Piece::Trailers(trailers)
                    }
                    Err(_) => Piece::Data(Bytes::new()),
                },
            },
        };
        self.moved_at = Instant::now();
        if let Piece::Data(data) = &piece {
            self.received += data.len() as u64;
            if let Some(messages) = &mut self.messages {
                messages.feed(data);
            }
            self.kept_bytes += data.len();
        }
        if self.kept_bytes > self.most && !self.is_held {
            self.lost = true;
        }
        // What is lost in part is of no use.
        if self.lost && !self.is_held {
            self.kept = Vec::new();
        } else {
            self.kept.push(piece.clone());
        }
        // A mirror that is slow must not hold up the request: it is cut.
        self.copies.retain(|copy| copy.send(&piece));
        if self.source.as_ref().is_some_and(Incoming::is_end_stream) {
            self.finish(Ok(()));
        }
        Poll::Ready(Some(Ok(piece)))
    }

    fn finish(&mut self, end: Result<(), Arc<str>>) {
        self.source = None;
        self.moved_at = Instant::now();
        self.ended_at.get_or_insert_with(Instant::now);
        let end = self.end.get_or_insert(end);
        for copy in std::mem::take(&mut self.copies) {
            copy.cut.store(end.is_err(), Ordering::Relaxed);
        }
        if let Some(waker) = self.waits_for_end.take() {
            waker.wake();
        }
    }
}

/// What one attempt sends of a client's body.
#[derive(Debug)]
pub struct ClientBody {
    upload: Upload,
    /// The piece that is next, among those that are kept.
    at: usize,
}

/// What a mirror is sent of a client's body.
#[derive(Debug)]
pub struct CopyBody {
    pieces: mpsc::Receiver<Piece>,
    cut: Arc<AtomicBool>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Client(body) => {
                let piece = ready!(body.upload.0.lock().poll_piece(context, body.at));
                body.at += 1;
                Poll::Ready(piece.map(|piece| piece.map(Piece::frame)))
            }
            Self::Copy(body) => match ready!(body.pieces.poll_recv(context)) {
                Some(piece) => Poll::Ready(Some(Ok(piece.frame()))),
                None if body.cut.load(Ordering::Relaxed) => {
                    Poll::Ready(Some(Err(Box::new(BrokenOff("the copy misses something".into())))))
                }
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Client(body) => {
                let shared = body.upload.0.lock();
                shared.source.is_none() && matches!(shared.end, Some(Ok(()))) && body.at >= shared.kept.len()
            }
            Self::Copy(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Client(body) => {
                let shared = body.upload.0.lock();
                let kept = |piece: &Piece| match piece {
                    Piece::Data(data) => data.len() as u64,
                    Piece::Trailers(_) => 0,
                };
                let ahead: u64 = shared.kept.iter().skip(body.at).map(kept).sum();
                let more = shared
                    .source
                    .as_ref()
                    .map_or(SizeHint::with_exact(0), |source| source.size_hint());
                let mut hint = SizeHint::new();
                hint.set_lower(ahead + more.lower());
                if let Some(upper) = more.upper() {
                    hint.set_upper(ahead + upper);
                }
                hint
            }
            Self::Copy(_) => SizeHint::default(),
        }
    }
}
