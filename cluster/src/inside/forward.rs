//! A forwarder of TCP connections between two network namespaces.

use crate::{Error, error::Doing};
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    thread,
};

/// Accepts on the listening socket that is this process's standard input, and carries each connection to `target`.
///
/// The socket belongs to the network namespace in which it was made, and each connection to `target` to the one that
/// this process is in; so nothing but this process joins the two.
///
/// # Errors
/// Standard input is no listening socket.
pub fn forward(target: SocketAddr) -> Result<(), Error> {
    let input = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .doing(|| "take the listening socket".into())?;
    let listener = TcpListener::from(input);
    listener
        .local_addr()
        .doing(|| "use standard input as a listening socket".into())?;
    loop {
        let (outside, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept: {error}");
                crate::wait::pause();
                continue;
            }
        };
        let carried = thread::Builder::new().spawn(move || {
            if let Err(error) = carry(&outside, target) {
                eprintln!("{peer}: {error}");
            }
        });
        if let Err(error) = carried {
            eprintln!("{peer}: {error}");
        }
    }
}

fn carry(outside: &TcpStream, target: SocketAddr) -> io::Result<()> {
    let inside = TcpStream::connect(target)?;
    for stream in [outside, &inside] {
        stream.set_nodelay(true)?;
    }
    thread::scope(|scope| {
        scope.spawn(|| one_way(outside, &inside));
        one_way(&inside, outside);
    });
    Ok(())
}

/// Carries bytes until the end of `from`, and passes the end on.
fn one_way(mut from: &TcpStream, mut to: &TcpStream) {
    // A reset ends both ways like an end does: neither side has anybody to tell.
    let copied = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    if copied.is_err() {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
