//! Makes sockets where it runs, and passes them on: see `sockets.rs` in the library for the messages.

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socket_with,
};
use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    num::NonZeroU32,
    os::fd::{AsFd, OwnedFd},
};

fn main() -> io::Result<()> {
    let stdin = io::stdin();
    let mut request = [0; 12];
    loop {
        if recv(&stdin, &mut request, RecvFlags::empty())?.1 != request.len() {
            return Ok(());
        }
        let number = |at: usize| u32::from_ne_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
        answer(make(number(0), number(4), number(8)))?;
    }
}

fn make(family: u32, kind: u32, protocol: u32) -> rustix::io::Result<OwnedFd> {
    let family = u16::try_from(family).map_err(|_| rustix::io::Errno::AFNOSUPPORT)?;
    let protocol = NonZeroU32::new(protocol).map(Protocol::from_raw);
    socket_with(
        AddressFamily::from_raw(family),
        SocketType::from_raw(kind),
        SocketFlags::CLOEXEC,
        protocol,
    )
}

fn answer(made: rustix::io::Result<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let (errno, fd) = match made {
        Ok(fd) => (0, Some(fd)),
        Err(error) => (error.raw_os_error(), None),
    };
    let fds = fd.as_ref().map(|fd| [fd.as_fd()]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(
        io::stdin(),
        &[IoSlice::new(&errno.to_ne_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
