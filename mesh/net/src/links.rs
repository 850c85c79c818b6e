//! Network interfaces, and where the other end of a pair of them is.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use crate::netlink::{Answer, DUMP, Request, find, text, word};

// `linux/rtnetlink.h`, `linux/if_link.h`, `linux/net_namespace.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// `struct rtgenmsg`, padded.
const NAMESPACE_HEADER: usize = 4;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What made it, such as `veth`; empty for hardware.
    pub kind: String,
    /// The index of the interface that it belongs to or is paired with, if there is one.
    pub other: Option<u32>,
    /// The namespace of that one, where it is not this one's, by the number that this namespace has for it: see
    /// [`namespace_number`].
    pub other_namespace: Option<i32>,
}

impl Link {
    /// The index of the other end of a pair, if that is in the namespace with this number: what is sent there comes out here.
    pub fn peer_in(&self, namespace: i32) -> Option<u32> {
        const PAIRS: [&str; 2] = ["veth", "netkit"];
        let is_pair = PAIRS.contains(&&*self.kind);
        self.other
            .filter(|_| is_pair && self.other_namespace == Some(namespace))
    }
}

/// An interface of the calling thread's network namespace.
///
/// # Errors
/// `ENODEV` when there is none with this index.
pub fn link(index: u32) -> io::Result<Link> {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let answers = Request::new(RTM_GETLINK, 0, &header).send()?;
    let found = answers.iter().find_map(read);
    found.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// All interfaces of the calling thread's network namespace.
///
/// # Errors
/// From the kernel.
pub fn links() -> io::Result<Vec<Link>> {
    let answers = Request::new(RTM_GETLINK, DUMP, &[0; LINK_HEADER]).send()?;
    Ok(answers.iter().filter_map(read).collect())
}

/// The number that the calling thread's network namespace has for another one; none where it never had to do with it.
///
/// # Errors
/// From the kernel.
pub fn namespace_number(other: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let answers = Request::new(RTM_GETNSID, 0, &[0; NAMESPACE_HEADER])
        .attribute(NETNSA_FD, &other.as_raw_fd().to_ne_bytes())
        .send()?;
    let answer = answers.iter().find(|answer| answer.kind == RTM_NEWNSID);
    let number = answer.and_then(|answer| find(answer.body.get(NAMESPACE_HEADER..)?, NETNSA_NSID));
    let number = number.and_then(|bytes| word(bytes, 0)).map(u32::cast_signed);
    Ok(number.filter(|number| *number >= 0))
}

fn read(answer: &Answer) -> Option<Link> {
    if answer.kind != RTM_NEWLINK {
        return None;
    }
    let attributes = answer.body.get(LINK_HEADER..)?;
    let kind = find(attributes, IFLA_LINKINFO).and_then(|info| find(info, IFLA_INFO_KIND));
    let number = |kind| find(attributes, kind).and_then(|bytes| word(bytes, 0));
    Some(Link {
        index: word(&answer.body, 4)?,
        name: text(find(attributes, IFLA_IFNAME)?),
        kind: kind.map(text).unwrap_or_default(),
        other: number(IFLA_LINK).filter(|index| *index != 0),
        other_namespace: number(IFLA_LINK_NETNSID).map(u32::cast_signed),
    })
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd as _, process::Command};

    use super::*;
    use crate::Netns;

    fn fresh() -> Netns {
        let fresh = std::thread::spawn(|| {
            // SAFETY: only this thread's network namespace changes.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
            Netns::current().expect("proc is mounted")
        });
        fresh.join().expect("no panic")
    }

    fn ip(netns: &Netns, arguments: &str) {
        let run = || Command::new("ip").args(arguments.split(' ')).output();
        let output = netns.run(run).expect("enter").expect("run ip");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn the_other_end_of_a_pair_is_found_in_the_namespace_that_it_is_in_alone() {
        let (pod, node, elsewhere) = (fresh(), fresh(), fresh());
        ip(&node, "link add p7 index 77 type veth peer name inside");
        // The same index as that of the node's end.
        ip(&elsewhere, "link add other index 77 type veth peer name again");
        let path = |netns: &Netns| format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
        ip(&node, &format!("link set inside netns {}", path(&pod)));
        ip(&pod, "link add within type veth peer name without");
        let look = || {
            let all = links().expect("links");
            let named = |name: &str| all.iter().find(|link| link.name == name).expect("listed").clone();
            let inside = named("inside");
            assert_eq!(link(inside.index).expect("by index"), inside);
            let number = |netns: &Netns| namespace_number(netns.as_fd()).expect("ask");
            (inside, named("within"), number(&node), number(&elsewhere))
        };
        let (inside, within, of_node, of_elsewhere) = pod.run(look).expect("enter");
        assert_eq!(inside.kind, "veth");
        let of_node = of_node.expect("the pair leads there");
        assert_eq!(inside.peer_in(of_node), Some(77));
        assert_eq!(of_elsewhere, None);
        assert_eq!(within.peer_in(of_node), None, "its other end is in the pod");
        assert_eq!(inside.peer_in(of_node + 1), None);
        let missing = pod.run(|| link(4711)).expect("enter").expect_err("no such interface");
        assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
    }
}
