//! The guard as a filter of the queueing discipline clsact: the way before Linux 6.6.
//!
//! Such a filter is no link: nothing pins it, it stays until somebody removes it or the interface goes, and it is known by its name
//! alone. It is only put on the node's ends of pods' links, where a later agent finds it again. The queueing discipline itself stays:
//! the CNI may use it, too.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use culvert_net::{
    links,
    netlink::{CREATE, DUMP, EXCLUSIVE, Request, find, text, word},
};

use super::load::GUARD;

// `linux/rtnetlink.h`, `linux/pkt_sched.h`, `linux/pkt_cls.h`.
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const QDISC: u32 = 0xffff_0000;
const EGRESS: u32 = 0xffff_fff3;

/// Before all others, and for every protocol (`ETH_P_ALL`, network byte order).
const PRIORITY_AND_PROTOCOL: u32 = 1 << 16 | 3_u16.to_be() as u32;
/// Among programs of the same priority: not 1, which is the CNIs' usual one.
const HANDLE: u32 = 0xc01e;

/// `struct tcmsg`.
const HEADER: usize = 20;

/// Puts the guard on what leaves an interface of the calling thread's network namespace, in the place of the one that is there.
pub(super) fn attach(interface: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    let qdisc = header(interface, QDISC, TC_H_CLSACT, 0);
    let made = Request::new(RTM_NEWQDISC, CREATE | EXCLUSIVE, &qdisc)
        .attribute(TCA_KIND, b"clsact\0")
        .send();
    match made {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    let name = [GUARD.as_bytes(), b"\0"].concat();
    let filter = header(interface, HANDLE, EGRESS, PRIORITY_AND_PROTOCOL);
    Request::new(RTM_NEWTFILTER, CREATE, &filter)
        .attribute(TCA_KIND, b"bpf\0")
        .nested(TCA_OPTIONS, |options| {
            options
                .attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes())
                .attribute(TCA_BPF_NAME, &name)
                .attribute(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes())
        })
        .send()
        .map(drop)
}

/// Removes the guard from an interface of the calling thread's network namespace. True when there was one.
pub(super) fn detach(interface: u32) -> io::Result<bool> {
    if !is_attached(interface)? {
        return Ok(false);
    }
    let filter = header(interface, HANDLE, EGRESS, PRIORITY_AND_PROTOCOL);
    let removed = Request::new(RTM_DELTFILTER, 0, &filter)
        .attribute(TCA_KIND, b"bpf\0")
        .send();
    removed.map(|_| true)
}

/// Whether the guard is on an interface of the calling thread's network namespace. One that is gone has none.
pub(super) fn is_attached(interface: u32) -> io::Result<bool> {
    let asked = Request::new(RTM_GETTFILTER, DUMP, &header(interface, 0, EGRESS, 0)).send();
    let answers = match asked {
        // No such interface, or no queueing discipline on it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::ENOENT)) => {
            return Ok(false);
        }
        asked => asked?,
    };
    let is_ours = |body: &[u8]| {
        let handle = word(body, 8);
        let options = body.get(HEADER..).and_then(|attributes| find(attributes, TCA_OPTIONS));
        let name = options.and_then(|options| find(options, TCA_BPF_NAME)).map(text);
        handle == Some(HANDLE) && name.as_deref() == Some(GUARD)
    };
    Ok(answers.iter().any(|answer| is_ours(&answer.body)))
}

/// Removes every guard in the calling thread's network namespace, and says how many there were.
pub(super) fn sweep() -> io::Result<usize> {
    let mut swept = 0;
    for link in links::links()? {
        swept += usize::from(detach(link.index)?);
    }
    Ok(swept)
}

/// Family and padding, interface, handle, parent, and what depends on the kind.
fn header(interface: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (place, word) in header[4..].chunks_exact_mut(4).zip([interface, handle, parent, info]) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    header
}
