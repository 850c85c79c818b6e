//! The server: answers each request of HTTP/1.1 by 200 and a body of [`BODY`] bytes, and those of HTTP/2 and gRPC in `http2`.

use super::{BODY, http1::head_and_length, http2};
use crate::poll::Poll;
use anyhow::{Context, Result};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Options of `culvert-bench http-serve`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to listen for HTTP/1.1
    #[arg(long, value_name = "ADDRESS:PORT")]
    http1: SocketAddr,
    /// Where to listen for HTTP/2
    #[arg(long, value_name = "ADDRESS:PORT")]
    http2: SocketAddr,
}

/// The listener's number; connections have their index in the table.
const LISTENER: u64 = u64::MAX;

/// Longest request that is read.
const LONGEST: usize = 16 << 10;

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Serves until the process is killed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let listen = |address: SocketAddr| -> Result<TcpListener> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let (http1, http2) = (listen(options.http1)?, listen(options.http2)?);
    thread::spawn(move || http2::serve(http2));
    let mut poll = Poll::new()?;
    poll.add_readable(&http1, LISTENER)?;
    println!("listening on {} and {}", options.http1, options.http2);

    let answer = {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY}\r\n\r\n").into_bytes();
        answer.extend_from_slice(&[b'a'; BODY]);
        answer
    };
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut ready = Vec::new();
    loop {
        poll.wait(&mut ready, None)?;
        for number in ready.drain(..) {
            if number == LISTENER {
                accept(&http1, &poll, &mut connections)?;
                continue;
            }
            let Some(slot) = connections.get_mut(usize::try_from(number)?) else {
                continue;
            };
            let Some(connection) = slot else { continue };
            // A connection that fails is the client's to report.
            if !connection.turn(&answer).unwrap_or(false) {
                *slot = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Vec<Option<Connection>>) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        poll.add_readable(&stream, connections.len() as u64)?;
        connections.push(Some(Connection {
            stream,
            buffer: Vec::with_capacity(LONGEST),
        }));
    }
}

impl Connection {
    /// Reads once and answers what is complete; false when the connection is over.
    fn turn(&mut self, answer: &[u8]) -> Result<bool> {
        let filled = self.buffer.len();
        self.buffer.resize(LONGEST, 0);
        let read = self.stream.read(&mut self.buffer[filled..]);
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        while let Some((head, length)) = head_and_length(&self.buffer)? {
            if self.buffer.len() < head + length {
                break;
            }
            self.buffer.drain(..head + length);
            self.stream.write_all(answer)?;
        }
        Ok(self.buffer.len() < LONGEST)
    }
}
