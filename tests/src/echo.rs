//! An application in a pod that answers bytes by the same bytes, and its clients, all in the test's own process.

use culvert_lab::Pod;
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

/// Answers each connection's bytes, for as long as the test runs. Returns where.
pub fn serve(pod: &Pod, port: u16) -> SocketAddr {
    let address = SocketAddr::from((pod.ip4(), port));
    let listener = pod.listen(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let one = move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            };
            thread::Builder::new().stack_size(64 << 10).spawn(one).unwrap();
        }
    });
    address
}

/// A connection from a pod that has carried a byte there and back.
///
/// # Errors
/// When it cannot be made, breaks, or takes longer than `patience`.
pub fn connect(from: &Pod, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let mut stream = from.connect(to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    round_trip(&mut stream)?;
    Ok(stream)
}

/// A byte there and back.
///
/// # Errors
/// When the connection is broken, or the answer does not come in time.
pub fn round_trip(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[7])?;
    stream.read_exact(&mut [0])
}
