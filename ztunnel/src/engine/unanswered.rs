//! Connections whose application still waits for its `connect`: it is answered when the far side is known.
//!
//! ```text
//! listen (SYN tap) -> syns -> outbound (resolve, tunnel, ..) -> far side is there -> meet the application's socket -> relay
//!                                                             -> refused           -> a reset: ECONNREFUSED
//!                                                             -> nothing in time   -> no answer, given back
//! ```
//! The first two packets of such a connection are both SYNs: the application's, which the kernel programs left without an
//! answer, and ours (RFC 9293 section 3.5). See `culvert_net::hold`. What is given back is claimed again when the
//! application's kernel repeats its SYN, so an application waits as long as it would without a mesh.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
};

use culvert_net::{
    hold::{Syn, SynTap},
    sockopt,
};

/// Where a pod's SYNs are seen.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) syns: SynTap,
    /// The cookie of the pod's network namespace.
    pub(super) cookie: u64,
}

impl Tap {
    /// # Errors
    /// It is no tap.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let cookie = sockopt::netns_cookie(fd.as_fd())?;
        Ok(Self {
            syns: SynTap::from_fd(fd)?,
            cookie,
        })
    }
}

/// An application's SYN that nobody has answered yet.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) tap: Rc<Tap>,
    pub(super) syn: Syn,
}
