//! Asking the agent.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use crate::wire::{Answer, MAX_LINE, Request};

/// How long an agent is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until it says that it has the request: an agent that hangs must not hold up a node.
    pub heard: Duration,
    /// Until it answers, counted from the beginning.
    pub answer: Duration,
}

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

/// Asks, and waits for the answer as long as `limits` allow.
///
/// # Errors
/// There is no answer; see [`Silence`].
pub fn ask(socket: &Path, request: &Request, limits: Limits) -> Result<Answer, Silence> {
    ask_by(&Instant::now, socket, request, limits)
}

/// As [`ask`], by this clock.
fn ask_by(now: Clock<'_>, socket: &Path, request: &Request, limits: Limits) -> Result<Answer, Silence> {
    let deadline = now() + limits.answer;
    let converse = || converse(now, socket, request, (now() + limits.heard).min(deadline), deadline);
    match converse() {
        // An agent that is replaced by its successor leaves callers behind. The successor listens already.
        Err(Silence::Ended) => converse(),
        outcome => outcome,
    }
}

/// What the time is.
type Clock<'a> = &'a dyn Fn() -> Instant;

fn converse(
    now: Clock<'_>,
    socket: &Path,
    request: &Request,
    heard_by: Instant,
    deadline: Instant,
) -> Result<Answer, Silence> {
    let mut stream = UnixStream::connect(socket).map_err(Silence::Absent)?;
    stream
        .set_write_timeout(Some(remaining(now, heard_by)?))
        .map_err(Silence::Io)?;
    stream.write_all(request.line().as_bytes()).map_err(silence)?;
    let mut lines = Lines {
        now,
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
struct Lines<'a> {
    now: Clock<'a>,
    stream: UnixStream,
    received: Vec<u8>,
}

impl Lines<'_> {
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
                .set_read_timeout(Some(remaining(self.now, deadline)?))
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

fn remaining(now: Clock<'_>, deadline: Instant) -> Result<Duration, Silence> {
    let remaining = deadline.saturating_duration_since(now());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Command, VERSION};
    use std::{
        cell::Cell,
        io::{BufRead as _, BufReader},
        os::unix::net::UnixListener,
        sync::mpsc::{self, Receiver},
        thread::{self, JoinHandle},
    };

    const HOUR: Duration = Duration::from_secs(3600);

    const LIMITS: Limits = Limits {
        heard: HOUR,
        answer: Duration::from_secs(10 * 3600),
    };

    fn request() -> Request {
        Request {
            version: VERSION,
            command: Command::Add,
            namespace: "shop".to_owned(),
            name: "a".to_owned(),
            uid: None,
            netns: None,
            container_id: "c1".to_owned(),
            addresses: Vec::new(),
        }
    }

    /// An agent that says that it has the request, and answers when the gate is opened, or ends when the gate is gone.
    fn agent(listener: UnixListener, gate: Receiver<()>) -> JoinHandle<()> {
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            BufReader::new(&stream).read_line(&mut String::new()).expect("request");
            stream.write_all(Answer::Heard.line().as_bytes()).expect("heard");
            if gate.recv().is_ok() {
                // The caller may have had enough.
                let _ = stream.write_all(Answer::Ok.line().as_bytes());
            }
        })
    }

    /// What comes of asking that agent when this much time has passed between its two lines. The gate opens when the clock has
    /// been looked at after that time.
    fn asked_with_a_pause(pause: Duration) -> Result<Answer, Silence> {
        let folder = tempfile::tempdir().expect("folder");
        let socket = folder.path().join("cni.sock");
        let (open, gate) = mpsc::channel();
        let agent = agent(UnixListener::bind(&socket).expect("listen"), gate);
        let (begin, looks) = (Instant::now(), Cell::new(0));
        let clock = || {
            looks.set(looks.get() + 1);
            // The deadline, the time to be heard, before writing, before reading what the agent says first.
            if looks.get() <= 4 {
                return begin;
            }
            let _ = open.send(());
            begin + pause
        };
        let outcome = ask_by(&clock, &socket, &request(), LIMITS);
        drop(open);
        agent.join().expect("agent");
        outcome
    }

    #[test]
    fn an_agent_that_has_heard_is_waited_for_until_the_time_for_its_answer_is_over() {
        assert!(matches!(asked_with_a_pause(HOUR * 9), Ok(Answer::Ok)));
        assert!(matches!(asked_with_a_pause(HOUR * 10), Err(Silence::Late)));
    }

    #[test]
    fn an_agent_that_has_not_heard_in_time_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("folder");
        let socket = folder.path().join("cni.sock");
        let _hangs = UnixListener::bind(&socket).expect("listen");
        let (begin, looks) = (Instant::now(), Cell::new(0));
        let clock = || {
            looks.set(looks.get() + 1);
            begin + if looks.get() <= 3 { Duration::ZERO } else { HOUR }
        };
        let outcome = ask_by(&clock, &socket, &request(), LIMITS);
        assert!(matches!(outcome, Err(Silence::Late)), "{outcome:?}");
    }
}
