//! HTTP/1.1 on epoll: connections with one request at a time each.

use super::{
    BODY,
    options::{Options, Requests},
    pace::Pace,
};
use crate::{
    load::{self, Figures, Window, micros, summary},
    poll::Poll,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Longest answer that is read.
const LONGEST: usize = 16 << 10;

struct Slot {
    stream: TcpStream,
    buffer: Box<[u8; LONGEST]>,
    filled: usize,
    /// When the request that is under way was due, or sent.
    since: Option<Instant>,
}

/// Sends requests, the next one when one is answered, or at a pace.
pub(super) fn run(
    options: &Options,
    requests: &Requests,
    mut window: Window,
    mut pace: Option<Pace>,
) -> Result<Figures> {
    let messages: Vec<Vec<u8>> = requests.paths.iter().map(|path| message(requests, path)).collect();
    let mut next = messages.iter().cycle();
    let mut poll = Poll::new()?;
    let mut slots = Vec::new();
    for number in 0..options.connections {
        let stream = TcpStream::connect(options.to).with_context(|| format!("cannot connect to {}", options.to))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        poll.add_readable(&stream, number as u64)?;
        slots.push(Slot::new(stream));
    }
    let mut idle: VecDeque<usize> = (0..slots.len()).collect();
    let mut due: VecDeque<Instant> = VecDeque::new();
    let mut times = Vec::with_capacity(1 << 20);
    let (mut failed, mut first_failure) = (0u64, None);
    let mut ready = Vec::new();
    let mut last_answer = Instant::now();
    loop {
        let now = Instant::now();
        match &mut pace {
            Some(pace) => due.extend(std::iter::from_fn(|| pace.take(now))),
            None => due.extend(idle.iter().map(|_| now)),
        }
        while let (Some(&number), Some(&since)) = (idle.front(), due.front()) {
            idle.pop_front();
            due.pop_front();
            let slot = &mut slots[number];
            slot.since = Some(since);
            // An idle connection's buffer holds one request.
            slot.stream
                .write_all(next.next().context("no request")?)
                .context("a connection broke")?;
        }
        let timeout = match &pace {
            Some(pace) if !idle.is_empty() => pace.next().saturating_duration_since(Instant::now()),
            _ => Duration::from_secs(10),
        };
        poll.wait(&mut ready, Some(timeout))?;
        ensure!(
            !ready.is_empty() || last_answer.elapsed() < Duration::from_secs(10),
            "no answer for 10 s"
        );
        for number in ready.drain(..) {
            let number = usize::try_from(number)?;
            let slot = &mut slots[number];
            let Some(status) = slot.read()? else { continue };
            let now = Instant::now();
            last_answer = now;
            let since = slot.since.take().context("an answer to no request")?;
            if status != 200 {
                failed += 1;
                first_failure.get_or_insert_with(|| format!("status {status}"));
            } else if window.is_measured() {
                times.push(micros(now - since));
            }
            idle.push_back(number);
        }
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

/// One request on each connection, and then none.
pub(super) fn hold(options: &Options, requests: &Requests) -> Result<()> {
    let path = requests.paths.first().context("no request")?;
    load::hold(options.to, options.connections, &message(requests, path), |stream| {
        let mut slot = Slot::new(stream.try_clone()?);
        let status = loop {
            if let Some(status) = slot.read()? {
                break status;
            }
        };
        ensure!(status == 200, "status {status}");
        Ok(())
    })
}

/// A request as it goes over the wire.
fn message(requests: &Requests, path: &str) -> Vec<u8> {
    let authorization = requests
        .authorization
        .as_ref()
        .map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: culvert-bench\r\ncontent-length: {BODY}\r\n{authorization}\r\n",
        requests.host
    );
    let mut message = head.into_bytes();
    message.extend_from_slice(&[b'q'; BODY]);
    message
}

impl Slot {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Box::new([0; LONGEST]),
            filled: 0,
            since: None,
        }
    }

    /// Reads on; the status once an answer is complete.
    fn read(&mut self) -> Result<Option<u16>> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => bail!("a connection was closed in the middle of the load"),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("a connection broke"),
        }
        let answer = &self.buffer[..self.filled];
        let Some((head, length)) = head_and_length(answer)? else {
            ensure!(self.filled < LONGEST, "an answer's head is too long");
            return Ok(None);
        };
        if self.filled < head + length {
            ensure!(head + length <= LONGEST, "an answer of {length} bytes");
            return Ok(None);
        }
        let status = std::str::from_utf8(answer.get(9..12).unwrap_or_default())?.parse()?;
        self.filled = 0;
        Ok(Some(status))
    }
}

/// The lengths of a message's head, with the empty line, and of its body; none before the head is there.
pub(crate) fn head_and_length(message: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = message.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&message[..end]).context("a head that is no text")?;
    for line in head.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').context("a header without colon")?;
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(Some((end + 4, value.trim().parse()?)));
        }
        ensure!(
            !name.eq_ignore_ascii_case("transfer-encoding"),
            "a body without a length is not read here"
        );
    }
    Ok(Some((end + 4, 0)))
}

#[cfg(test)]
mod tests {
    use super::head_and_length;

    #[test]
    fn the_length_of_a_message_is_what_its_head_says() {
        let message = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(head_and_length(&message[..20]).unwrap(), None);
        assert_eq!(head_and_length(message).unwrap(), Some((message.len() - 3, 3)));
        assert!(head_and_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
