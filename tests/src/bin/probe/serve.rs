//! The server: a thread for each connection, whose first line says what it is about.
//!
//! - `peer`: answers with the addresses that `accept`, `getpeername` and `getsockname` gave, as JSON, and closes.
//! - `transfer UP DOWN SEED ORDER`: receives UP bytes and sends DOWN bytes, each way a pattern and then its end; in which order
//!   is said by ORDER, see [`crate::session::Order`].
//! - `echo`: sends back what it receives, up to the end.

use crate::{
    pattern,
    session::{Order, down_seed},
};
use anyhow::{Context, Result, bail};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Serves until killed.
pub(crate) fn run(listen: &[SocketAddr], mptcp: bool) -> Result<()> {
    let mut threads = Vec::new();
    for address in listen {
        let listener = listener(*address, mptcp).with_context(|| format!("cannot listen on {address}"))?;
        threads.push(thread::spawn(move || accept(&listener)));
    }
    println!("listening");
    for thread in threads {
        if let Ok(done) = thread.join() {
            done?;
        }
    }
    Ok(())
}

fn listener(address: SocketAddr, mptcp: bool) -> Result<TcpListener> {
    let protocol = if mptcp { Protocol::MPTCP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener) -> Result<()> {
    loop {
        let (stream, accepted_from) = listener.accept()?;
        thread::spawn(move || match session(&stream, accepted_from) {
            Ok(None) => {}
            Ok(Some(topic)) => println!("{}", json!({ "session": topic, "ok": true })),
            Err(error) => println!("{}", json!({ "ok": false, "error": format!("{error:#}") })),
        });
    }
}

/// One connection; returns the first line of what is worth reporting.
fn session(stream: &TcpStream, accepted_from: SocketAddr) -> Result<Option<String>> {
    let line = first_line(stream)?;
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["peer"] => {
            let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
            let answer = json!({ "accept": accepted_from, "getpeername": peer, "getsockname": local });
            let mut stream = stream;
            stream.write_all(answer.to_string().as_bytes())?;
            Ok(None)
        }
        ["echo"] => {
            let mut buffer = vec![0u8; 64 * 1024];
            let mut stream = stream;
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return Ok(None),
                    Ok(count) => stream.write_all(&buffer[..count])?,
                }
            }
        }
        ["transfer", up, down, seed, order] => {
            transfer(stream, up.parse()?, down.parse()?, seed.parse()?, Order::parse(order)?).context(line.clone())?;
            Ok(Some(line))
        }
        _ => bail!("unknown first line {line:?}"),
    }
}

fn transfer(stream: &TcpStream, up: u64, down: u64, seed: u64, order: Order) -> Result<()> {
    let send = || -> Result<()> {
        pattern::send(stream, down_seed(seed), down)?;
        Ok(stream.shutdown(Shutdown::Write)?)
    };
    match order {
        Order::Together => thread::scope(|scope| {
            let sender = scope.spawn(send);
            let received = pattern::receive(stream, seed, up);
            sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
            received
        }),
        Order::ClientFirst => {
            pattern::receive(stream, seed, up)?;
            send()
        }
        Order::ServerFirst => {
            send()?;
            pattern::receive(stream, seed, up)
        }
    }
}

/// Reads up to the first newline, byte by byte, so that nothing behind it is taken.
fn first_line(mut stream: &TcpStream) -> Result<String> {
    let mut line = Vec::new();
    let mut byte = [0u8; 1];
    while stream.read(&mut byte)? == 1 {
        if byte[0] == b'\n' {
            return Ok(String::from_utf8(line)?);
        }
        line.push(byte[0]);
        if line.len() > 200 {
            bail!("no line");
        }
    }
    bail!("closed before the first line was complete")
}
