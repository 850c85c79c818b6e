//! Epoll, and the mailbox that wakes it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc},
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, Timespec, epoll, eventfd},
    io::Errno,
};

use culvert_tunnel::arena::Key;

use crate::seam::LoopMessage;

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// Which of the loop's tables a [`Token`] points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Mailbox = 0,
    Listener = 1,
    Tunnel = 2,
    /// The socket of a flow that faces its application, or the client of a plaintext connection.
    Near = 3,
    /// The second socket of a flow that goes from socket to socket.
    Far = 4,
    /// A socket towards a resolver.
    Upstream = 5,
}

impl Token {
    pub(super) const MAILBOX: Self = Self {
        kind: Kind::Mailbox,
        index: 0,
        generation: 0,
    };

    pub(super) const fn new<T>(kind: Kind, key: Key<T>) -> Self {
        Self {
            kind,
            index: key.index(),
            generation: key.generation(),
        }
    }

    pub(super) const fn key<T>(self) -> Key<T> {
        Key::new(self.index, self.generation)
    }

    const fn pack(self) -> u64 {
        (self.kind as u64) << 56 | (self.generation as u64) << 32 | self.index as u64
    }

    const fn unpack(data: u64) -> Self {
        let kind = match data >> 56 {
            1 => Kind::Listener,
            2 => Kind::Tunnel,
            3 => Kind::Near,
            4 => Kind::Far,
            5 => Kind::Upstream,
            _ => Kind::Mailbox,
        };
        Self {
            kind,
            index: data as u32,
            generation: (data >> 32) as u32 & 0xff_ffff,
        }
    }
}

/// What the kernel said about one descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) token: Token,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer will send nothing more, or the connection is broken: read to learn which.
    pub(super) closing: bool,
    /// Both directions are shut, or an error is pending.
    pub(super) hangup: bool,
    /// An error is pending (`SO_ERROR`): a reset, a refused connect.
    pub(super) error: bool,
}

/// An epoll instance.
pub(super) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Watches a connection, edge-triggered, in both directions, for as long as it is open.
    pub(super) fn watch(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        use epoll::EventFlags as F;
        self.add(fd, token, F::IN | F::OUT | F::RDHUP | F::ET)
    }

    /// Watches a listening socket that other loops watch too: level-triggered, so that what one round leaves is
    /// reported again, and exclusive, so that one arrival wakes one loop.
    pub(super) fn watch_listener(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        self.add(fd, token, epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE)
    }

    /// Watches a socket for datagrams, level-triggered: what one round leaves is reported again.
    pub(super) fn watch_datagrams(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        self.add(fd, token, epoll::EventFlags::IN)
    }

    /// Stops watching, before a descriptor is closed that others hold duplicates of: they would keep it in the set.
    pub(super) fn forget(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    fn add(&self, fd: impl AsFd, token: Token, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            epoll::EventData::new_u64(token.pack()),
            flags,
        )?)
    }

    /// Waits for events, at most `timeout` (for ever if `None`), and replaces `into` by them.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, into: &mut Vec<Event>) -> io::Result<()> {
        use epoll::EventFlags as F;
        into.clear();
        self.events.clear();
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs() as i64,
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        into.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            Event {
                token: Token::unpack(event.data.u64()),
                readable: flags.contains(F::IN),
                writable: flags.contains(F::OUT),
                closing: flags.intersects(F::RDHUP | F::HUP | F::ERR),
                hangup: flags.intersects(F::HUP | F::ERR),
                error: flags.contains(F::ERR),
            }
        }));
        Ok(())
    }
}

/// Wakes a loop.
#[derive(Clone, Debug)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(super) fn ring(&self) {
        // A full counter means that it is ringing already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// The sending half of a loop's mailbox.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    messages: mpsc::Sender<LoopMessage>,
    bell: Bell,
}

/// The receiving half; its descriptor becomes readable when something was sent.
#[derive(Debug)]
pub(super) struct Mailbox {
    messages: mpsc::Receiver<LoopMessage>,
    bell: Arc<OwnedFd>,
}

/// A mailbox for one loop.
pub(super) fn mailbox() -> io::Result<(Sender, Mailbox)> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = mpsc::channel();
    Ok((
        Sender {
            messages: sender,
            bell: Bell(Arc::clone(&bell)),
        },
        Mailbox {
            messages: receiver,
            bell,
        },
    ))
}

impl Sender {
    /// Delivers a message. A loop that has ended takes none, and nobody needs to know.
    pub(super) fn send(&self, message: LoopMessage) {
        if self.messages.send(message).is_ok() {
            self.bell.ring();
        }
    }
}

impl Mailbox {
    /// Where to watch for arrivals.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// For others that have something for the loop.
    pub(super) fn bell_handle(&self) -> Bell {
        Bell(Arc::clone(&self.bell))
    }

    /// Silences the bell. To be done before taking messages, so that one sent in between rings again.
    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0u8; 8]);
    }

    pub(super) fn take(&self) -> Option<LoopMessage> {
        self.messages.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for kind in [
            Kind::Mailbox,
            Kind::Listener,
            Kind::Tunnel,
            Kind::Near,
            Kind::Far,
            Kind::Upstream,
        ] {
            let token = Token {
                kind,
                index: u32::MAX - 1,
                generation: 0xff_fffe,
            };
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }

    #[test]
    fn a_message_wakes_the_loop_once() {
        let (sender, mailbox) = mailbox().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.watch(mailbox.bell(), Token::MAILBOX).unwrap();
        let mut events = Vec::new();
        poll.wait(Some(Duration::ZERO), &mut events).unwrap(); // an eventfd is always writable
        sender.send(LoopMessage::CertificatesChanged);
        sender.send(LoopMessage::Drain);
        poll.wait(None, &mut events).unwrap();
        assert_eq!(events[0].token, Token::MAILBOX);
        assert!(events[0].readable);
        mailbox.silence();
        assert!(matches!(mailbox.take(), Some(LoopMessage::CertificatesChanged)));
        assert!(matches!(mailbox.take(), Some(LoopMessage::Drain)));
        assert!(mailbox.take().is_none());
    }
}
