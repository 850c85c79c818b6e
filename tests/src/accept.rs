//! Taking in a connection that must come.

use crate::patience::PATIENCE;
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

/// The next connection, and who made it. Reads from it end after [`PATIENCE`] as well.
///
/// # Panics
/// When none comes in time: a test that waited without end would end by the runner's hand, and not say where it was.
#[track_caller]
pub fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    set_timeout(listener, Some(PATIENCE));
    let accepted = listener.accept();
    set_timeout(listener, None);
    let (stream, peer) = accepted.unwrap_or_else(|error| panic!("no connection comes: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (stream, peer)
}

/// Linux lets `accept` wait no longer than reads may (socket(7), `SO_RCVTIMEO`).
fn set_timeout(listener: &TcpListener, timeout: Option<Duration>) {
    socket2::SockRef::from(listener).set_read_timeout(timeout).unwrap();
}
