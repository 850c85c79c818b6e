//! A stream of a tunnel, as a runtime sees it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use culvert_hbone::{ErrorCode, StreamId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{clock, peer::Peer, state::Shared};

/// A connection inside a tunnel.
///
/// - Each direction ends on its own: `shutdown` ends ours, behind all that was written, and reading goes on.
/// - The peer gets credit for what was read, and for nothing else: a stream that is not read holds a window of bytes at most.
/// - A write may return before the bytes are on their way, as with TCP. Dropping a stream that was shut down loses nothing of
///   what was written; dropping one that was not resets it, so that the peer does not take a part for the whole.
/// - What the peer sent before a reset, or before the tunnel was lost, can still be read. Then comes an error: `ConnectionReset`
///   or `ConnectionAborted`, around a [`Failure`](crate::failure::Failure).
#[derive(Debug)]
pub struct Stream {
    pub(super) shared: Arc<Shared>,
    pub(super) id: StreamId,
    peer: Arc<Peer>,
    pub(super) headers: Vec<(String, String)>,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId, peer: Arc<Peer>, headers: Vec<(String, String)>) -> Self {
        Self {
            shared,
            id,
            peer,
            headers,
        }
    }

    /// The other end of the tunnel.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The headers that the other side sent: those of the request where we accepted it, else those of the answer.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Resets the stream in both directions, with this code.
    pub fn reset(self, code: ErrorCode) {
        self.shared.state.lock().cut(self.id, code);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared
            .state
            .lock()
            .abandon(self.id, ErrorCode::Cancel, clock::now());
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.shared.state.lock().read(self.id, context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.state.lock().write(self.id, context, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.shared.state.lock();
        let mut written = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match state.write(self.id, context, slice) {
                Poll::Ready(Ok(n)) => {
                    written += n;
                    if n < slice.len() {
                        break;
                    }
                }
                other if written == 0 => return other,
                // What was taken is told first.
                _ => break,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing waits for a flush: the tunnel's task sends what there is.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.state.lock().finish(self.id);
        Poll::Ready(Ok(()))
    }
}
