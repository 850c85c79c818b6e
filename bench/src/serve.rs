//! The server application: one thread that answers everything in `protocol`.

use crate::{
    poll::Poll,
    protocol::{EXCHANGE, MESSAGE, ONCE, SINK, SOURCE},
    resolver,
};
use anyhow::{Context, Result};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
};

/// Options of `culvert-bench serve`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where to answer DNS queries over UDP
    #[arg(long, value_name = "ADDRESS:PORT")]
    dns: Option<SocketAddr>,
}

/// The listener's number; connections have their index in the table.
const LISTENER: u64 = u64::MAX;
/// The number of the socket for DNS.
const RESOLVER: u64 = u64::MAX - 1;

/// One accepted connection.
struct Connection {
    stream: TcpStream,
    /// The first byte received; `None` before it.
    purpose: Option<u8>,
    /// Bytes swallowed in all (sink), or received of the current message.
    received: u64,
}

/// Serves until the process is killed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen).with_context(|| format!("cannot listen on {}", options.listen))?;
    listener.set_nonblocking(true)?;
    // The standard library's backlog of 128 would drop connections of the connection load.
    rustix::net::listen(&listener, 4096)?;
    let mut poll = Poll::new()?;
    poll.add_readable(&listener, LISTENER)?;
    let resolver = options
        .dns
        .map(|at| UdpSocket::bind(at).with_context(|| format!("cannot listen on {at}")));
    let resolver = resolver.transpose()?;
    if let Some(resolver) = &resolver {
        resolver.set_nonblocking(true)?;
        poll.add_readable(resolver, RESOLVER)?;
    }
    println!("listening on {}", options.listen);

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut ready = Vec::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        poll.wait(&mut ready, None)?;
        for number in ready.drain(..) {
            if number == LISTENER {
                accept(&listener, &poll, &mut connections, &mut free)?;
                continue;
            }
            if let (RESOLVER, Some(resolver)) = (number, &resolver) {
                resolver::answer(resolver, &mut buffer)?;
                continue;
            }
            let index = usize::try_from(number)?;
            let Some(slot) = connections.get_mut(index) else {
                continue;
            };
            let Some(connection) = slot else { continue };
            // A connection that fails is the client's to report.
            if !connection.turn(&poll, number, &mut buffer).unwrap_or(false) {
                *slot = None;
                free.push(index);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The client gave up between its handshake and our accept.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let index = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        poll.add_readable(&stream, index as u64)?;
        connections[index] = Some(Connection {
            stream,
            purpose: None,
            received: 0,
        });
    }
}

impl Connection {
    /// Reads once and answers what is complete; false when the connection is over.
    fn turn(&mut self, poll: &Poll, number: u64, buffer: &mut [u8]) -> io::Result<bool> {
        if self.purpose == Some(SOURCE) {
            return self.send(buffer);
        }
        let count = match self.stream.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        if count == 0 {
            if self.purpose == Some(SINK) {
                self.stream.write_all(&self.received.to_be_bytes())?;
            }
            return Ok(false);
        }
        let purpose = *self.purpose.get_or_insert(buffer[0]);
        self.received += count as u64;
        match purpose {
            SINK => Ok(true),
            SOURCE => {
                poll.now_writable(&self.stream, number)?;
                Ok(true)
            }
            EXCHANGE | ONCE => {
                while self.received >= MESSAGE as u64 {
                    self.received -= MESSAGE as u64;
                    // A client has one request in flight, so the answer always fits the socket's buffer.
                    self.stream.write_all(&buffer[..MESSAGE])?;
                    if purpose == ONCE {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Sends once, whatever bytes; a client that has closed is an error of the next write.
    fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        match self.stream.write(bytes) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }
}
