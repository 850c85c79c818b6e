//! One stream (RFC 9113 section 5.1). Streams that are idle or closed are not kept.
use crate::flow::{ReceiveWindow, SendWindow};

/// A stream that is open in at least one direction.
pub(crate) struct Stream {
    pub(crate) send: SendWindow,
    pub(crate) receive: ReceiveWindow,
    /// Bytes delivered and not yet released.
    pub(crate) held: u64,
    /// A server: we have answered. A client: the peer has.
    pub(crate) answered: bool,
    /// We send no more.
    pub(crate) local_ended: bool,
    /// The peer sends no more.
    pub(crate) remote_ended: bool,
}

impl Stream {
    pub(crate) fn new(send: SendWindow, receive: ReceiveWindow) -> Self {
        Self {
            send,
            receive,
            held: 0,
            answered: false,
            local_ended: false,
            remote_ended: false,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.local_ended && self.remote_ended
    }
}
