//! Connections that are open while policies come into force.
//!
//! Each has sent half of an HTTP request, so that the server waits for the rest: whoever is still let in can finish it.

use anyhow::{Context, Result};
use culvert_lab::{Mesh, Pod, wait_until};
use serde_json::Value;
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// How long a connection may take to open, and an answer to come.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a connection is listened to before the next one's turn.
const TURN: Duration = Duration::from_millis(20);

/// Some open connections.
#[derive(Default)]
pub(super) struct OpenConnections {
    streams: Vec<Open>,
}

struct Open {
    stream: TcpStream,
    from: SocketAddr,
    to: SocketAddr,
}

impl OpenConnections {
    /// Opens a connection from a pod to each of these addresses.
    pub(super) fn open(&mut self, from: &Pod, to: &[SocketAddr]) -> Result<()> {
        for &to in to {
            let mut stream = from
                .connect(to, ANSWER)
                .with_context(|| format!("connect from {} to {to}", from.name()))?;
            write!(stream, "GET /health HTTP/1.0\r\n")?;
            stream.set_read_timeout(Some(ANSWER))?;
            let from_address = stream.local_addr()?;
            self.streams.push(Open {
                stream,
                from: from_address,
                to,
            });
        }
        Ok(())
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.streams.len() as u64
    }

    /// Waits until the destinations' proxies say that they carry all of them.
    pub(super) fn wait_until_carried(&self, mesh: &Mesh<'_>, patience: Duration) -> Result<()> {
        wait_until("the proxies to carry the open connections", patience, || {
            let pages = [1, 2].map(|node| mesh.get(node, 15000, "/connections"));
            let carried: Vec<Value> = pages
                .into_iter()
                .flatten()
                .filter_map(|page| serde_json::from_str::<Value>(&page.body).ok())
                .flat_map(|page| page["connections"].as_array().cloned().unwrap_or_default())
                .collect();
            let is_carried = |open: &Open| {
                carried.iter().any(|one| {
                    one["direction"] == "inbound"
                        && one["destination"] == open.to.to_string()
                        && one["source"]
                            .as_str()
                            .is_some_and(|source| same_address(source, open.from))
                })
            };
            self.streams.iter().all(is_carried)
        })
    }

    /// Waits until they have ended, and returns how many have when the time is up.
    pub(super) fn wait_until_closed(&mut self, patience: Duration) -> u64 {
        let deadline = Instant::now() + patience;
        let all = self.streams.len();
        while !self.streams.is_empty() && Instant::now() < deadline {
            self.streams.retain_mut(|open| !has_ended(&mut open.stream));
        }
        (all - self.streams.len()) as u64
    }

    /// Sends the rest of each request, and returns how many were answered.
    pub(super) fn finish(&mut self) -> u64 {
        let answered = self.streams.iter_mut().filter_map(|open| {
            open.stream.write_all(b"\r\n").ok()?;
            let mut status = [0; 12];
            open.stream.read_exact(&mut status).ok()?;
            status.ends_with(b" 200").then_some(())
        });
        answered.count() as u64
    }
}

fn has_ended(stream: &mut TcpStream) -> bool {
    if stream.set_read_timeout(Some(TURN)).is_err() {
        return true;
    }
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
        ),
    }
}

/// Whether an address with a port is that of this socket. The port that arrives is not the one that was sent from where a
/// tunnel is in between.
fn same_address(text: &str, socket: SocketAddr) -> bool {
    text.parse::<SocketAddr>().is_ok_and(|found| found.ip() == socket.ip())
}
