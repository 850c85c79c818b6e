//! Connections that are opened, used once, and then only held.

use super::{
    line::{Line, say},
    options::connect,
};
use crate::poll::Poll;
use anyhow::{Context, Result, bail};
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// So many are opened before their answers are waited for.
const AT_ONCE: usize = 64;

/// Opens so many connections, sends this message on each, and has its answer read. Says that it has started once all are open, and goes on
/// until it is killed.
///
/// # Errors
/// When one cannot be opened, is not answered, or ends while it is held.
pub(crate) fn hold(
    to: SocketAddr,
    connections: usize,
    message: &[u8],
    mut read: impl FnMut(&mut TcpStream) -> Result<()>,
) -> Result<()> {
    let mut open: Vec<TcpStream> = Vec::with_capacity(connections);
    while open.len() < connections {
        let first = open.len();
        for _ in 0..AT_ONCE.min(connections - first) {
            let mut stream = connect(to).with_context(|| format!("after {} connections", open.len()))?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(message)?;
            open.push(stream);
        }
        for (number, stream) in open.iter_mut().enumerate().skip(first) {
            read(stream).with_context(|| format!("no answer on connection {}", number + 1))?;
        }
    }
    let mut poll = Poll::new()?;
    for (number, stream) in open.iter().enumerate() {
        poll.add_readable(stream, number as u64)?;
    }
    say(&Line::Started)?;
    let mut ended = Vec::new();
    while ended.is_empty() {
        poll.wait(&mut ended, None)?;
    }
    bail!(
        "{} of {} connections ended while they were held",
        ended.len(),
        open.len()
    )
}
