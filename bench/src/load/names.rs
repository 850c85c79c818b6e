//! DNS queries over UDP: an address of a name that only the resolver asked knows.

use super::{
    figures::{micros, summary},
    line::Figures,
    options::Options,
    window::Window,
};
use crate::{poll::Poll, protocol::NAME};
use anyhow::{Context, Result, ensure};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// A query without an answer for so long has failed, and the next one is sent.
const LOST: Duration = Duration::from_secs(1);
const SOME: u64 = 1000;

struct Slot {
    socket: UdpSocket,
    id: u16,
    since: Instant,
}

/// Runs it.
pub(super) fn run(options: &Options) -> Result<Figures> {
    let mut poll = Poll::new()?;
    let mut slots = Vec::new();
    for number in 0..options.connections {
        let mut slot = Slot::new(options.to, u16::try_from(number)?)?;
        poll.add_readable(&slot.socket, number as u64)?;
        slot.ask()?;
        slots.push(slot);
    }
    let mut window = Window::new(options.warm_up, options.seconds);
    let mut times = Vec::with_capacity(1 << 18);
    let mut failed = 0;
    let mut ready = Vec::new();
    let mut looked = Instant::now();
    loop {
        poll.wait(&mut ready, Some(LOST / 10))?;
        for number in ready.drain(..) {
            let slot = &mut slots[usize::try_from(number)?];
            if !slot.is_answered()? {
                continue;
            }
            if window.is_measured() {
                times.push(micros(slot.since.elapsed()));
            }
            slot.ask()?;
        }
        let now = Instant::now();
        if now - looked > LOST / 10 {
            looked = now;
            for slot in slots.iter_mut().filter(|slot| now - slot.since > LOST) {
                failed += 1;
                slot.ask()?;
            }
            ensure!(failed < SOME, "{SOME} queries had no answer");
        }
        window.begins_at(now)?;
        if window.is_over(now) {
            return Ok(Figures {
                failed,
                first_failure: (failed > 0).then(|| format!("no answer within {} s", LOST.as_secs())),
                ..summary(&window, times)
            });
        }
    }
}

impl Slot {
    fn new(to: SocketAddr, id: u16) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(to).with_context(|| format!("cannot send to {to}"))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            id,
            since: Instant::now(),
        })
    }

    /// RFC 1035 section 4.1: a header that asks for recursion, and one question, type A.
    fn ask(&mut self) -> Result<()> {
        self.id = self.id.wrapping_add(1);
        let [high, low] = self.id.to_be_bytes();
        let mut query = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(NAME);
        query.extend_from_slice(&[0, 1, 0, 1]);
        self.since = Instant::now();
        match self.socket.send(&query) {
            Ok(_) => Ok(()),
            // A full buffer loses it, as any router would.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("cannot send a query"),
        }
    }

    fn is_answered(&self) -> Result<bool> {
        let mut answer = [0; 512];
        match self.socket.recv(&mut answer) {
            Ok(count) => {
                let [high, low] = self.id.to_be_bytes();
                if count < 12 || answer[..2] != [high, low] {
                    // Of a query that was given up.
                    return Ok(false);
                }
                ensure!(
                    answer[2] & 0x80 != 0 && answer[3] & 0xf == 0,
                    "code {} of DNS",
                    answer[3] & 0xf
                );
                ensure!(answer[7] == 1, "{} records were answered instead of one", answer[7]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("the resolver cannot be reached"),
        }
    }
}
