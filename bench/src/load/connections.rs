//! New connections, so many at a time, each with one request and answer.

use super::{
    figures::{micros, summary},
    line::Figures,
    options::Options,
    window::Window,
};
use crate::{
    poll::Poll,
    protocol::{MESSAGE, ONCE},
};
use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// One connection of the connection load, from `connect` to the end of its stream.
struct Attempt {
    stream: TcpStream,
    since: Instant,
    sent: bool,
    received: usize,
}

/// Runs it.
pub(super) fn run(options: &Options) -> Result<Figures> {
    let mut poll = Poll::new()?;
    let mut slots = Vec::new();
    for number in 0..options.connections {
        slots.push(attempt(options.to, &poll, number as u64)?);
    }
    let mut window = Window::new(options.warm_up, options.seconds);
    let mut times = Vec::with_capacity(1 << 18);
    let (mut failed, mut first_failure) = (0u64, None);
    let mut ready = Vec::new();
    loop {
        poll.wait(&mut ready, Some(Duration::from_secs(10)))?;
        ensure!(!ready.is_empty(), "no connection moved for 10 s");
        for number in ready.drain(..) {
            let slot = &mut slots[usize::try_from(number)?];
            match slot.turn(&poll, number) {
                Ok(false) => continue,
                Ok(true) if window.is_measured() => times.push(micros(slot.since.elapsed())),
                Ok(true) => {}
                Err(error) => {
                    failed += 1;
                    first_failure.get_or_insert_with(|| error.to_string());
                }
            }
            *slot = attempt(options.to, &poll, number)?;
        }
        ensure!(
            failed < 1000,
            "1000 connections failed, the first one: {}",
            first_failure.unwrap_or_default()
        );
        let now = Instant::now();
        window.begins_at(now)?;
        if window.is_over(now) {
            return Ok(Figures {
                failed,
                first_failure,
                ..summary(&window, times)
            });
        }
    }
}

fn attempt(to: SocketAddr, poll: &Poll, number: u64) -> Result<Attempt> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    let since = Instant::now();
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot connect to {to}")),
    }
    let stream = TcpStream::from(socket);
    poll.add_writable(&stream, number)?;
    Ok(Attempt {
        stream,
        since,
        sent: false,
        received: 0,
    })
}

impl Attempt {
    /// Goes on as far as possible; true when the connection has been served and closed.
    fn turn(&mut self, poll: &Poll, number: u64) -> io::Result<bool> {
        if !self.sent {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            self.stream.write_all(&[ONCE; MESSAGE])?;
            self.sent = true;
            poll.now_readable(&self.stream, number)?;
            return Ok(false);
        }
        let mut buffer = [0u8; 2 * MESSAGE];
        match self.stream.read(&mut buffer) {
            Ok(0) if self.received == MESSAGE => Ok(true),
            Ok(0) => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "closed before the answer was complete",
            )),
            Ok(count) => {
                self.received += count;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}
