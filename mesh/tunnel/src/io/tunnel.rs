//! A tunnel, as those see it who open or answer streams on it.

use std::{future::poll_fn, sync::Arc};

use culvert_hbone::{Authority, ConnectRequest, ErrorCode, OpenError, REASON_HEADER, StreamId};

use super::{clock, peer::Peer, settings::Settings, state::Shared, stream::Stream};
use crate::{failure::Failure, pool::Capacity};

/// Longest reason that a refusal gives, in characters.
const MAX_REASON: usize = 500;

/// A tunnel on which we open streams. Dropping it retires the tunnel: what is open goes on.
#[derive(Debug)]
pub struct Tunnel {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
    pub(super) settings: Arc<Settings>,
}

impl Tunnel {
    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Asks for a stream.
    ///
    /// # Errors
    /// When it takes none now, or the headers are too large.
    pub fn open(&self, authority: &Authority, headers: &[(&str, &str)]) -> Result<Asking, OpenError> {
        let id = self
            .shared
            .state
            .lock()
            .open(authority, headers, clock::now(), &self.settings.limits)?;
        Ok(Asking(Some(Stream::new(
            Arc::clone(&self.shared),
            id,
            Arc::clone(&self.peer),
            Vec::new(),
        ))))
    }

    /// Takes no new streams. What is open goes on; when the last one has ended, everything is written out and the tunnel closes.
    pub fn retire(&self) {
        self.shared.state.lock().retire(clock::now());
    }

    /// Streams that are open in at least one direction.
    pub fn streams(&self) -> usize {
        self.shared.state.lock().connection.streams()
    }

    /// Bytes that came on its streams and were not read yet.
    pub fn held(&self) -> usize {
        self.shared.state.lock().held()
    }

    /// Whether it takes another stream.
    pub fn capacity(&self) -> Capacity {
        let state = self.shared.state.lock();
        if state.over.is_some() || state.life.is_retiring() || state.connection.is_going_away() {
            Capacity::Full
        } else if state.connection.can_open() {
            Capacity::Free
        } else if state.connection.streams() == 0 {
            Capacity::Never
        } else {
            Capacity::Full
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.retire();
    }
}

/// A stream that was asked for. Dropping it takes the question back.
#[derive(Debug)]
pub struct Asking(Option<Stream>);

impl Asking {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The peer refused it ([`Failure::Refused`], with the status), reset it, or the tunnel was lost. No byte has left.
    pub async fn answer(mut self) -> Result<Stream, Failure> {
        let Some(mut stream) = self.0.take() else {
            return Err(Failure::TunnelLost("answered before".into()));
        };
        let answer = poll_fn(|context| stream.shared.state.lock().answer(stream.id, context)).await?;
        if (200..300).contains(&answer.status) {
            stream.headers = answer.headers;
            return Ok(stream);
        }
        let reason = answer.headers.iter().find(|(name, _)| name == REASON_HEADER);
        Err(Failure::Refused {
            status: answer.status,
            reason: reason.map_or("no reason given", |(_, reason)| reason).into(),
        })
    }
}

/// The requests of one tunnel's peer. Dropping it retires the tunnel: what is open goes on, and what is asked for is refused
/// (`REFUSED_STREAM`: the peer may ask elsewhere).
#[derive(Debug)]
pub struct Requests {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
}

impl Requests {
    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The next request; none when the tunnel is gone.
    pub async fn next(&mut self) -> Option<Request> {
        let (id, connect) = poll_fn(|context| self.shared.state.lock().request(context)).await?;
        Some(Request {
            shared: Arc::clone(&self.shared),
            peer: Arc::clone(&self.peer),
            id,
            connect,
            answered: false,
        })
    }

    /// Takes no new streams. What is open goes on, and requests that are under way still come.
    pub fn retire(&self) {
        self.shared.state.lock().retire(clock::now());
    }

    /// Bytes that came on its streams and were not read yet.
    pub fn held(&self) -> usize {
        self.shared.state.lock().held()
    }

    /// Why the tunnel is gone, once it is.
    pub fn failure(&self) -> Option<Failure> {
        self.shared.state.lock().over.clone()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.shared.state.lock().deafen(clock::now());
    }
}

/// A stream that the peer asks for. Dropping it without an answer resets it.
#[derive(Debug)]
pub struct Request {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    id: StreamId,
    connect: ConnectRequest,
    answered: bool,
}

impl Request {
    /// Where it is to go.
    pub fn authority(&self) -> &Authority {
        &self.connect.authority
    }

    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.connect.header(name)
    }

    /// Who asks.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Accepts it: 200.
    pub fn accept(mut self, headers: &[(&str, &str)]) -> Stream {
        self.answered = true;
        self.shared
            .state
            .lock()
            .respond(self.id, 200, headers, false, clock::now());
        let asked = std::mem::take(&mut self.connect.headers);
        Stream::new(Arc::clone(&self.shared), self.id, Arc::clone(&self.peer), asked)
    }

    /// Refuses it, with a status of 400 or more, and a reason for the peer's log.
    pub fn refuse(mut self, status: u16, reason: &str) {
        self.answered = true;
        // A header's value takes no more than this (RFC 9110 section 5.5).
        let visible = |c: &char| c.is_ascii_graphic() || *c == ' ';
        let reason: String = reason.chars().filter(visible).take(MAX_REASON).collect();
        let headers = [(REASON_HEADER, reason.trim())];
        self.shared
            .state
            .lock()
            .respond(self.id, status, &headers, true, clock::now());
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.state.lock().cut(self.id, ErrorCode::Cancel);
        }
    }
}
