//! What the kernel knows about the sending side of a TCP connection and about a listener's queue (`TCP_INFO`), and how much it takes ahead.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use crate::sockopt;

/// Bytes of `struct tcp_info` that are asked for: up to `tcpi_delivery_rate` (Linux 4.9).
const LENGTH: usize = 168;

/// The sending side of a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendState {
    /// Bytes that the peer has acknowledged since the connection was made.
    pub acknowledged: u64,
    /// Whether something that was written, or the end, has not been acknowledged.
    pub outstanding: bool,
    /// The rate at which the peer took bytes lately, per second.
    pub delivery_rate: u64,
    /// Whether that rate was limited by how much was written, rather than by the network.
    pub rate_is_ours: bool,
}

/// Asks the kernel how far the peer has taken what was written.
///
/// # Errors
/// Those of `getsockopt`, for what is not a TCP socket.
pub fn send_state(fd: BorrowedFd<'_>) -> io::Result<SendState> {
    let info = tcp_info(fd)?;
    Ok(SendState {
        acknowledged: u64::from_ne_bytes(field(&info, 120)),
        outstanding: u32::from_ne_bytes(field(&info, 24)) > 0 || u32::from_ne_bytes(field(&info, 144)) > 0,
        delivery_rate: u64::from_ne_bytes(field(&info, 160)),
        rate_is_ours: info[7] & 1 == 1,
    })
}

/// How many connections wait in a listening socket to be accepted.
///
/// # Errors
/// Those of `getsockopt`, for what is not a TCP socket.
pub fn accept_queue(listener: BorrowedFd<'_>) -> io::Result<u32> {
    // Of a listening socket, `tcpi_unacked` is that.
    Ok(u32::from_ne_bytes(field(&tcp_info(listener)?, 24)))
}

/// `struct tcp_info`, include/uapi/linux/tcp.h. A field that an old kernel does not fill stays zero.
fn tcp_info(fd: BorrowedFd<'_>) -> io::Result<[u8; LENGTH]> {
    let mut info = [0u8; LENGTH];
    let mut length = LENGTH as libc::socklen_t;
    // SAFETY: pointer and length are those of `info`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info)
}

/// Bounds what the kernel takes beyond what it can send (`TCP_NOTSENT_LOWAT`): everything written later waits behind it.
///
/// # Errors
/// Those of `setsockopt`.
pub fn set_unsent_limit(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    sockopt::set(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, &bytes)
}

/// By its offset.
fn field<const N: usize>(info: &[u8; LENGTH], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&info[offset..offset + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn what_the_peer_has_taken_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let mut client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (mut server, _) = listener.accept().expect("accept");
        client.set_nonblocking(true).expect("set");
        set_unsent_limit(client.as_fd(), 64 << 10).expect("set");
        let mut written = 0u64;
        while let Ok(count) = client.write(&[7; 1 << 16]) {
            written += count as u64;
        }
        let full = send_state(client.as_fd()).expect("state");
        assert!(full.outstanding && full.acknowledged < written, "{full:?} of {written}");
        client.set_nonblocking(false).expect("set");
        client.shutdown(std::net::Shutdown::Write).expect("shutdown");
        let mut got = Vec::new();
        server.read_to_end(&mut got).expect("read");
        assert_eq!(got.len() as u64, written);
        let deadline = Instant::now() + Duration::from_secs(20);
        while send_state(client.as_fd()).expect("state").outstanding {
            assert!(Instant::now() < deadline, "what was read is never acknowledged");
            std::thread::yield_now();
        }
        let end = send_state(client.as_fd()).expect("state");
        assert!(end.acknowledged >= written, "{end:?} of {written}");
    }
}
