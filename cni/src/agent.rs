//! Asking the agent.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use crate::wire::{Answer, MAX_LINE, Request};

/// How long an agent that lives takes to say that it has heard, on a busy node.
const HEARD: Duration = Duration::from_millis(500);

/// Why there is no answer. What is printed completes "the agent ...".
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// Nobody listens.
    #[error("does not run: {0}")]
    Absent(io::Error),
    /// It ended, or was replaced, before it answered.
    #[error("ended before it answered")]
    Ended,
    /// It has not said that it heard, or not answered in time.
    #[error("does not answer in time")]
    Late,
    /// The conversation broke down otherwise.
    #[error("cannot be talked to: {0}")]
    Io(io::Error),
    /// What it says makes no sense.
    #[error("answered something that is no answer: {0}")]
    Unintelligible(String),
    /// It is of another version.
    #[error("is of another version than this plug-in, which will be replaced soon")]
    Version,
}

/// Asks, and waits for the answer until `timeout` is over, or [`HEARD`] if nothing is heard until then.
///
/// # Errors
/// There is no answer; see [`Silence`].
pub fn ask(socket: &Path, request: &Request, timeout: Duration) -> Result<Answer, Silence> {
    let deadline = Instant::now() + timeout;
    match converse(socket, request, deadline) {
        // An agent that is replaced by its successor leaves callers behind. The successor listens already.
        Err(Silence::Ended) => converse(socket, request, deadline),
        outcome => outcome,
    }
}

fn converse(socket: &Path, request: &Request, deadline: Instant) -> Result<Answer, Silence> {
    let mut stream = UnixStream::connect(socket).map_err(Silence::Absent)?;
    let heard_by = deadline.min(Instant::now() + HEARD);
    stream
        .set_write_timeout(Some(remaining(heard_by)?))
        .map_err(Silence::Io)?;
    stream.write_all(request.line().as_bytes()).map_err(silence)?;
    let mut lines = Lines {
        stream,
        received: Vec::new(),
    };
    match lines.next(heard_by)? {
        Answer::Heard => {}
        other => return finish(other),
    }
    finish(lines.next(deadline)?)
}

fn finish(answer: Answer) -> Result<Answer, Silence> {
    match answer {
        Answer::Ok | Answer::Error { .. } => Ok(answer),
        Answer::Unsupported => Err(Silence::Version),
        Answer::Heard => Err(Silence::Unintelligible("heard twice".to_owned())),
    }
}

/// What comes in, line by line.
struct Lines {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Lines {
    fn next(&mut self, deadline: Instant) -> Result<Answer, Silence> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let rest = self.received.split_off(end + 1);
                let line = std::mem::replace(&mut self.received, rest);
                return Answer::parse(&line).map_err(|error| Silence::Unintelligible(error.to_string()));
            }
            if self.received.len() >= MAX_LINE {
                return Err(Silence::Unintelligible("a line without end".to_owned()));
            }
            self.stream
                .set_read_timeout(Some(remaining(deadline)?))
                .map_err(Silence::Io)?;
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Silence::Ended),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(silence(error)),
            }
        }
    }
}

fn remaining(deadline: Instant) -> Result<Duration, Silence> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    // Zero would mean for ever.
    if remaining.is_zero() {
        return Err(Silence::Late);
    }
    Ok(remaining)
}

fn silence(error: io::Error) -> Silence {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Silence::Late,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Silence::Ended,
        _ => Silence::Io(error),
    }
}
