//! HBONE connections, as a loop holds them.
//!
//! ```text
//! dialled:  Stock -> Connecting -> Uncertified -> Handshake -> Open -> Closing
//! accepted:                        Uncertified -> Handshake -> Open -> Closing
//! ```
//! How they come to be is in `dial` and `handshake`, what they carry in `receive` and `relay`, how they end in `part`.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    time::Instant,
};

use culvert_hbone::{Connection, Handshake, Role, StreamId};
use culvert_identity::SpiffeId;
use culvert_net::tcp_state;
use culvert_tunnel::{
    life::{Life, Load},
    pace,
    pool::GroupKey,
    proof::Proof,
    turns::Turns,
};
use rustc_hash::FxHashMap;

use super::{buffers::Backlog, keys::FlowKey, sockets::LocalPod};

/// One HBONE connection.
pub(super) struct Tunnel {
    /// `None` while waiting for a socket.
    pub(super) fd: Option<OwnedFd>,
    pub(super) pod: Rc<LocalPod>,
    /// The other end of the TCP connection.
    pub(super) peer: SocketAddr,
    pub(super) role: Role,
    /// Where a dialled tunnel belongs in the pool.
    pub(super) group: Option<GroupKey>,
    pub(super) state: State,
    /// What the peer's certificate proved.
    pub(super) identity: Option<SpiffeId>,
    /// How keys were exchanged, once it is open.
    pub(super) key_exchange: Option<&'static str>,
    pub(super) streams: FxHashMap<StreamId, FlowKey>,
    /// Bytes that its flows hold.
    pub(super) held: usize,
    /// Bytes that the peer has not taken, as they were last counted.
    pub(super) unsent: usize,
    /// What the certificates at both ends allow.
    pub(super) proof: Proof,
    /// Whether it takes streams, and when it ends.
    pub(super) life: Life,
    /// Bytes of the handshake that the kernel did not take yet.
    pub(super) outgoing: Backlog,
    /// The beginning of a record, or of a handshake message, whose rest has not arrived.
    pub(super) partial: Vec<u8>,
    pub(super) readable: bool,
    pub(super) closing: bool,
    /// Waits in the loop's queue of unfinished work to be read.
    pub(super) queued: bool,
    /// Streams that have something to send.
    pub(super) turns: Turns<FlowKey>,
    /// Bytes that the kernel takes ahead of what the network does, some milliseconds' worth.
    pub(super) ahead: usize,
    pub(super) measured: Instant,
    /// The kernel takes no more until the next event.
    pub(super) blocked: bool,
    /// In the list of those to be flushed at the end of the round.
    pub(super) dirty: bool,
    /// Not read for a moment, since its only application does not keep up.
    pub(super) paused: bool,
}

/// How far a tunnel has come.
pub(super) enum State {
    /// Waits for a socket in the pod's namespace.
    Stock,
    /// Waits for TCP.
    Connecting,
    /// Waits for the pod's certificate.
    Uncertified,
    /// TLS. Without it: it is with the threads that do its cryptography.
    Handshake(Option<Box<Handshake>>),
    /// Carries streams.
    Open(Box<Connection>),
    /// We have said that we are done, and wait for the peer to say so.
    Closing,
}

impl Tunnel {
    /// A tunnel that waits for a socket. `number` differs from tunnel to tunnel.
    pub(super) fn new(pod: &Rc<LocalPod>, peer: SocketAddr, role: Role, number: u64, now: Instant) -> Self {
        Self {
            fd: None,
            pod: Rc::clone(pod),
            peer,
            role,
            group: None,
            state: State::Stock,
            identity: None,
            key_exchange: None,
            streams: FxHashMap::default(),
            held: 0,
            unsent: 0,
            proof: Proof::default(),
            life: Life::new(role, number, now),
            outgoing: Backlog::default(),
            partial: Vec::new(),
            readable: false,
            closing: false,
            queued: false,
            turns: Turns::new(),
            ahead: pace::UNLIMITED,
            measured: now,
            blocked: false,
            dirty: false,
            paused: false,
        }
    }

    /// A tunnel to a peer, of a pool's group.
    pub(super) fn to_dial(pod: &Rc<LocalPod>, peer: SocketAddr, group: GroupKey, number: u64, now: Instant) -> Self {
        Self {
            group: Some(group),
            ..Self::new(pod, peer, Role::Client, number, now)
        }
    }

    /// What was read of a record whose rest has not arrived. An idle tunnel has none, and no memory for it.
    pub(super) fn keep_partial(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(bytes);
        }
    }

    /// The protocol, once the tunnel is open.
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            State::Open(connection) => Some(connection),
            _ => None,
        }
    }

    /// What a regular look must know.
    pub(super) fn load(&self) -> Load {
        Load {
            streams: self.streams.len(),
            greeted: matches!(&self.state, State::Open(connection) if connection.is_greeted()),
            paused: self.paused,
        }
    }

    /// Whether bytes are on their way to a peer that still takes them.
    pub(super) fn owes(&mut self, now: Instant) -> bool {
        let Some(fd) = &self.fd else { return false };
        let Ok(state) = tcp_state::send_state(fd.as_fd()) else {
            return false;
        };
        self.life.acknowledge(state.acknowledged, now);
        let queued = matches!(&self.state, State::Open(connection) if connection.has_output());
        queued || state.outstanding
    }

    /// Whether it is worth waiting until the peer has what this tunnel sends.
    pub(super) fn is_sending(&mut self, now: Instant) -> bool {
        self.owes(now) && self.life.is_progressing(now)
    }
}
