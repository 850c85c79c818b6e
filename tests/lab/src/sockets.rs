//! A pod's own sockets, for the program that uses the lab.
//!
//! Whether a socket is captured depends on the namespace and on the cgroup that it was made in. A thread can change its
//! namespace but not its cgroup, so a helper process in the pod (`bin/culvert-lab-sockets.rs`) makes the sockets and passes them
//! here.
//!
//! A request is three numbers (address family, type, protocol), 32 bits each in the machine's byte order; the answer is
//! an errno, 0 for success, with the socket attached. Both are single messages on a SOCK_SEQPACKET pair.

use crate::process::{self, Place};
use anyhow::{Context, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg,
    send, socketpair,
};
use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command},
    sync::{Mutex, PoisonError},
};

/// A helper process in a pod, and the way to ask it.
#[derive(Debug)]
pub(crate) struct SocketMaker {
    /// One at a time: answers say nothing of what was asked.
    ask: Mutex<OwnedFd>,
    child: Child,
}

impl SocketMaker {
    /// Starts the helper at `place`.
    pub(crate) fn start(place: &Place<'_>) -> Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context("socket pair")?;
        let mut command = Command::new(program("culvert-lab-sockets")?);
        let child =
            process::start_with_stdin(&mut command, place, Some(theirs)).context("start culvert-lab-sockets")?;
        Ok(Self {
            ask: Mutex::new(ours),
            child,
        })
    }

    /// One socket; an error is the one that socket(2) gave in the pod.
    pub(crate) fn socket(&self, family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
        let request: Vec<u8> = [family, kind, protocol]
            .iter()
            .flat_map(|number| number.to_ne_bytes())
            .collect();
        let ask = self.ask.lock().unwrap_or_else(PoisonError::into_inner);
        send(&*ask, &request, SendFlags::NOSIGNAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut errno = [0; 4];
        let received = recvmsg(
            &*ask,
            &mut [IoSliceMut::new(&mut errno)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes != errno.len() {
            return Err(io::Error::other("the pod's socket maker has gone"));
        }
        let made = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match (i32::from_ne_bytes(errno), made) {
            (0, Some(fd)) => Ok(fd),
            (0, None) => Err(io::Error::other("the pod's socket maker sent no socket")),
            (errno, _) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for SocketMaker {
    fn drop(&mut self) {
        // It ends by itself when our end of the pair closes, but that happens only after this; do not leave a zombie.
        let _killed = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The path of a program that cargo built beside the running one.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the running program")?;
    // Test programs are one folder deeper, in `deps`.
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "{name} is not beside {}: build it first with `cargo build`",
                own.display()
            )
        })
}
