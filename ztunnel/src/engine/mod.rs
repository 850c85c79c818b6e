//! The event loops: everything that touches traffic.
//!
//! Each [`Loop`] is a thread that owns its sockets, tunnels and connections; nothing is shared between loops but
//! listening sockets and the immutable snapshots in [`Shared`]. No lock is taken, and nothing is allocated per read or
//! write. What a request, a connection and a gigabyte cost is measured by
//! `cargo xtask bench`, and told call by call in `docs/performance.md`.
//!
//! # Words
//! - A [`flow::Flow`] is one connection from one application to another, as this proxy sees it: an accepted or dialled
//!   socket (`near`), and a second socket or a stream (`far`).
//! - A [`tunnel::Tunnel`] is one HBONE connection to a peer proxy; its streams carry flows. Those that we dialled are
//!   shared through a [`culvert_tunnel::pool`].
//!
//! # A round
//! 1. [`poll`] waits for events, or until the next deadline ([`timer`]).
//! 2. The mesh and the certificates are loaded, once for the round.
//! 3. Work that a budget cut off in the last round goes on.
//! 4. Each event is handled as far as its budget allows: [`listen`] accepts, [`receive`] reads tunnels (and remembers
//!    in [`events`] what they say), [`relay`] moves bytes. What is to be sent on tunnels gathers in their output.
//! 5. Deadlines that have come are acted on.
//! 6. Each tunnel that something gathered for is flushed, with one `write`: many small messages of many connections
//!    become few TLS records and few packets.
//!
//! # The way of a connection
//! ```text
//! outbound:  listen -> outbound (resolve) -> pooling -> dial, handshake -> CONNECT ... 200 -> open -> relay -> ends, report
//!                                         -> direct: sockets -> TCP                     -> open -> relay -> ends, report
//!            where the application is not answered before the far side is: syns before outbound, meet before open
//!            to an endpoint that is known by its name: outbound -> named (look up), name_questions (asked, by `dns`) -> outbound
//! DNS:       listen -> dns (decide) -> answered, or by a socket of `resolvers` to the pod's own resolver and back
//! inbound:   listen -> dial, handshake (a pool's threads) -> receive -> inbound (authorize) -> sockets -> TCP -> 200 -> open -> relay -> ends, report
//!            listen -> inbound (plaintext, authorize)                            -> sockets -> TCP -> open -> relay -> ends, report
//! ```
//! Bytes flow only once both ends are connected, so a failed attempt loses none and is made again while the connect
//! timeout allows. Whatever happens, a flow ends in [`Loop::end`](ends) and in exactly one line of the access log
//! ([`report`]).
//!
//! # Rooms
//! What decides without I/O is in [`culvert_tunnel`] and [`culvert_state`]. Here, from the ground up; each file calls only
//! those before it, and what must go the other way is put down in [`loop_state::Todo`] and done by the loop as soon as what led
//! to it is over:
//! 1. the ground: [`keys`], [`config`], [`poll`], [`timer`], [`buffers`], [`socket`], [`events`], [`headers`],
//!    [`handshake_pool`], [`held_queries`]; what a loop holds: [`sockets`] (pods), [`flow`], [`tunnel`], [`listener`], [`parked`],
//!    [`pool_key`], [`refusals`], [`resolvers`], [`unanswered`], and all of it together, [`loop_state`];
//! 2. bytes: [`flush`], [`held`], [`load`], [`report`], [`answer`], [`ends`], [`account`], [`relay`], [`open`], [`meet`], [`socket_events`];
//! 3. tunnels: [`pooling`], [`part`], [`questions`], [`handshake`], [`dial`];
//! 4. decisions: [`named`], [`outbound`], [`syns`], [`dns`], [`dns_stream`], [`inbound`], [`resolve`], [`name_questions`], [`recheck`];
//! 5. what happens: [`receive`], [`sweep`], [`listen`], [`changes`], [`event_loop`]. Begin to read there.

mod account;
mod answer;
mod buffers;
mod changes;
mod config;
mod dial;
mod dns;
mod dns_stream;
mod ends;
mod event_loop;
mod events;
mod flow;
mod flush;
mod handshake;
mod handshake_pool;
mod headers;
mod held;
mod held_queries;
mod inbound;
mod keys;
mod listen;
mod listener;
mod load;
mod loop_state;
mod meet;
mod name_questions;
mod named;
mod open;
mod outbound;
mod parked;
mod part;
mod poll;
mod pool_key;
mod pooling;
mod questions;
mod receive;
mod recheck;
mod refusals;
mod relay;
mod report;
mod resolve;
mod resolvers;
mod socket;
mod socket_events;
mod sockets;
mod sweep;
mod syns;
mod timer;
mod tunnel;
mod unanswered;

#[cfg(test)]
mod tests;

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use handshake_pool::HandshakePool;
use loop_state::Loop;

pub(crate) use config::EngineConfig;

use crate::seam::{LoopMessage, Shared};

/// A running loop.
#[derive(Debug)]
pub(crate) struct LoopHandle {
    mailbox: poll::Sender,
    thread: JoinHandle<()>,
}

impl LoopHandle {
    /// Tells the loop something. One that has ended does not hear it.
    pub(crate) fn send(&self, message: LoopMessage) {
        self.mailbox.send(message);
    }

    /// Whether the loop has ended: drained, or failed (which it logs).
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts `loops` event loops.
///
/// # Errors
/// When the kernel gives no epoll instance, eventfd or thread.
pub(crate) fn spawn(shared: &Arc<Shared>, config: EngineConfig, loops: usize) -> io::Result<Vec<LoopHandle>> {
    let config = Arc::new(EngineConfig { loops, ..config });
    let handshakes = HandshakePool::start(config.handshake_threads)?;
    (0..loops)
        .map(|number| {
            let (sender, mailbox) = poll::mailbox()?;
            let (shared, config, handshakes) = (Arc::clone(shared), Arc::clone(&config), handshakes.clone());
            // What a loop owns is not `Send`: it is made where it runs, and says whether that worked.
            let (started, starting) = std::sync::mpsc::channel();
            let thread = thread::Builder::new().name(format!("loop-{number}")).spawn(move || {
                match Loop::new(number, shared, config, mailbox, handshakes) {
                    Ok(event_loop) => {
                        let _ = started.send(Ok(()));
                        if let Err(error) = event_loop.run() {
                            tracing::error!(%error, "an event loop failed");
                        }
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })?;
            starting
                .recv()
                .map_err(|_| io::Error::other("an event loop did not start"))??;
            Ok(LoopHandle {
                mailbox: sender,
                thread,
            })
        })
        .collect()
}
