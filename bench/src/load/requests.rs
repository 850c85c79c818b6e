//! Requests and answers on a fixed number of connections, the next request when the last is answered.

use super::{
    figures::{micros, summary},
    line::Figures,
    options::{Options, connect},
    window::Window,
};
use crate::{
    poll::Poll,
    protocol::{EXCHANGE, MESSAGE},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

/// Runs it.
pub(super) fn run(options: &Options) -> Result<Figures> {
    let mut poll = Poll::new()?;
    let message = vec![EXCHANGE; MESSAGE];
    let mut slots = Vec::new();
    for number in 0..options.connections {
        let mut stream = connect(options.to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        poll.add_readable(&stream, number as u64)?;
        stream.write_all(&message)?;
        slots.push((stream, 0usize, Instant::now()));
    }
    let mut window = Window::new(options.warm_up, options.seconds);
    let mut times = Vec::with_capacity(1 << 20);
    let mut ready = Vec::new();
    let mut buffer = vec![0u8; MESSAGE];
    loop {
        poll.wait(&mut ready, Some(Duration::from_secs(10)))?;
        ensure!(!ready.is_empty(), "no answer for 10 s");
        for number in ready.drain(..) {
            let (stream, received, since) = &mut slots[usize::try_from(number)?];
            match stream.read(&mut buffer[*received..]) {
                Ok(0) => bail!("a connection was closed in the middle of the load"),
                Ok(count) => *received += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("a connection broke"),
            }
            if *received == MESSAGE {
                let now = Instant::now();
                if window.is_measured() {
                    times.push(micros(now - *since));
                }
                (*received, *since) = (0, now);
                stream.write_all(&message)?;
            }
        }
        let now = Instant::now();
        window.begins_at(now)?;
        if window.is_over(now) {
            return Ok(summary(&window, times));
        }
    }
}
