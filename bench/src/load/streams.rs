//! Streams: as many bytes as the connections carry, to the server or from it.

use super::{
    line::Figures,
    options::{Options, connect},
    window::{Window, monotonic_seconds},
};
use crate::{
    poll::Poll,
    protocol::{SINK, SOURCE},
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

/// Bytes of one read or write at most.
const CHUNK: usize = 1 << 20;

/// To the server, which says in the end how much arrived.
pub(super) fn upload(options: &Options) -> Result<Figures> {
    let chunk = vec![SINK; CHUNK];
    let mut streams = Vec::new();
    let poll = Poll::new()?;
    for number in 0..options.connections {
        let stream = connect(options.to)?;
        stream.set_nonblocking(true)?;
        poll.add_writable(&stream, number as u64)?;
        streams.push((stream, 0));
    }
    let figures = carry(options, poll, &mut streams, |stream| stream.write(&chunk))?;
    for (stream, sent) in &mut streams {
        stream.set_nonblocking(false)?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = [0u8; 8];
        stream
            .read_exact(&mut answer)
            .context("the server did not say how much it received")?;
        let received = u64::from_be_bytes(answer);
        ensure!(received == *sent, "{sent} bytes were sent, {received} arrived");
    }
    Ok(figures)
}

/// From the server.
pub(super) fn download(options: &Options) -> Result<Figures> {
    let mut streams = Vec::new();
    let poll = Poll::new()?;
    for number in 0..options.connections {
        let mut stream = connect(options.to)?;
        stream.write_all(&[SOURCE])?;
        stream.set_nonblocking(true)?;
        poll.add_readable(&stream, number as u64)?;
        streams.push((stream, 0));
    }
    let mut buffer = vec![0; CHUNK];
    carry(options, poll, &mut streams, |stream| stream.read(&mut buffer))
}

/// Moves bytes on whatever stream is ready, and counts them beside it.
fn carry(
    options: &Options,
    mut poll: Poll,
    streams: &mut [(TcpStream, u64)],
    mut turn: impl FnMut(&mut TcpStream) -> std::io::Result<usize>,
) -> Result<Figures> {
    let mut window = Window::new(options.warm_up, options.seconds);
    let mut ready = Vec::new();
    let (mut total, mut before) = (0, 0);
    loop {
        poll.wait(&mut ready, Some(Duration::from_secs(10)))?;
        ensure!(!ready.is_empty(), "no stream moved for 10 s");
        for number in ready.drain(..) {
            let (stream, carried) = &mut streams[usize::try_from(number)?];
            match turn(stream) {
                Ok(0) => anyhow::bail!("a stream ended in the middle of the load"),
                Ok(count) => {
                    *carried += count as u64;
                    total += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("a stream broke"),
            }
        }
        let now = Instant::now();
        if window.begins_at(now)? {
            before = total;
        }
        if window.is_over(now) {
            return Ok(Figures {
                seconds: window.seconds(),
                ended: monotonic_seconds(),
                cpu_seconds: window.cpu_seconds(),
                bytes: total - before,
                ..Figures::default()
            });
        }
    }
}
