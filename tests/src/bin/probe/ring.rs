//! `connect` through io_uring.

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, opcode, types::Fd};
use socket2::{SockAddr, Socket};
use std::{net::SocketAddr, os::fd::AsRawFd};

/// Connects by one submission and waits for its completion.
pub(crate) fn connect(socket: &Socket, to: SocketAddr) -> Result<()> {
    let mut ring = IoUring::new(4).context("no io_uring (kernel.io_uring_disabled?)")?;
    let address = SockAddr::from(to);
    let entry = opcode::Connect::new(Fd(socket.as_raw_fd()), address.as_ptr().cast(), address.len()).build();
    // SAFETY: `address` and `socket` outlive the operation, which is complete when `submit_and_wait` returns.
    unsafe { ring.submission().push(&entry)? };
    // Waiting may be interrupted where `connect` does not end at once; the operation goes on.
    while let Err(error) = ring.submit_and_wait(1) {
        ensure!(error.kind() == std::io::ErrorKind::Interrupted, "io_uring: {error}");
    }
    let completion = ring.completion().next().context("no completion")?;
    let result = completion.result();
    ensure!(
        result == 0,
        "io_uring connect: {}",
        std::io::Error::from_raw_os_error(-result)
    );
    Ok(())
}
