//! The addresses of a network namespace, and prefixes that are made local to it.

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

use rustix::io::Errno;

use crate::netlink::{self, Request};

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub name: String,
    /// The interface's index.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Whether the interface is a loopback interface.
    pub is_loopback: bool,
}

/// All addresses of the calling thread's network namespace.
///
/// # Errors
/// Those of `getifaddrs`.
pub fn addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut first = ptr::null_mut();
    // SAFETY: writes a pointer to a list, which is ours until `freeifaddrs`.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = first;
    // SAFETY: each element of the list is valid until it is freed, and ends with a null pointer.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: as above.
        let Some(address) = (unsafe { ip_address(entry.ifa_addr) }) else {
            continue;
        };
        // SAFETY: a terminated string, as above.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        // SAFETY: the same string.
        let index = unsafe { libc::if_nametoindex(entry.ifa_name) };
        found.push(InterfaceAddress {
            name: name.to_string_lossy().into_owned(),
            index,
            address,
            is_loopback: entry.ifa_flags & libc::IFF_LOOPBACK as u32 != 0,
        });
    }
    // SAFETY: the list from above, which nothing refers to any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// # Safety
/// Null, or an address as long as its family says.
unsafe fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise.
    unsafe {
        match i32::from(address.as_ref()?.sa_family) {
            libc::AF_INET => {
                let v4 = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let v6 = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// Makes every address of an IPv6 prefix an address of the calling thread's network namespace, reached on its loopback
/// interface (`ip -6 route add local PREFIX dev lo`). A second time is no error.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`; the kernel's answer where it has no IPv6, or none on the loopback interface.
pub fn make_local(prefix: Ipv6Addr, length: u8) -> io::Result<()> {
    match change_local(RTM_NEWROUTE, netlink::CREATE | netlink::EXCLUSIVE, prefix, length) {
        Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => Ok(()),
        outcome => outcome,
    }
}

/// Undoes [`make_local`]. What is not there is no error.
///
/// # Errors
/// As for [`make_local`].
pub fn unmake_local(prefix: Ipv6Addr, length: u8) -> io::Result<()> {
    match change_local(RTM_DELROUTE, 0, prefix, length) {
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
        outcome => outcome,
    }
}

// `linux/rtnetlink.h`.
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RTN_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;

fn change_local(kind: u16, flags: u16, prefix: Ipv6Addr, length: u8) -> io::Result<()> {
    // `struct rtmsg`: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
    let family = libc::AF_INET6 as u8;
    let route = [
        family,
        length,
        0,
        0,
        RT_TABLE_LOCAL,
        RTPROT_STATIC,
        0,
        RTN_LOCAL,
        0,
        0,
        0,
        0,
    ];
    let request = Request::new(kind, flags, &route)
        .attribute(RTA_DST, &prefix.octets())
        .attribute(RTA_OIF, &LOOPBACK.to_ne_bytes());
    request.send().map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use super::*;

    /// Inside a network namespace of its own, with the loopback interface up.
    fn inside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                // SAFETY: only this thread's network namespace changes.
                unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
                let up = std::process::Command::new("ip")
                    .args(["link", "set", "lo", "up"])
                    .status();
                assert!(up.expect("run ip").success());
                work()
            };
            scope.spawn(inside).join().expect("no panic")
        })
    }

    #[test]
    fn a_namespace_tells_its_addresses() {
        let found = inside(|| addresses().expect("addresses"));
        let loopback = found.iter().find(|one| one.address == IpAddr::from([127, 0, 0, 1]));
        let loopback = loopback.expect("every namespace has it");
        assert_eq!(
            (loopback.name.as_str(), loopback.index, loopback.is_loopback),
            ("lo", 1, true)
        );
    }

    #[test]
    fn a_prefix_becomes_local_and_is_given_back() {
        let prefix: Ipv6Addr = "fd00:c01e:15::".parse().expect("an address");
        let to = SocketAddr::new("fd00:c01e:15::77".parse().expect("an address"), 9);
        let reach = || UdpSocket::bind("[::]:0").and_then(|socket| socket.connect(to));
        let (before, during, after) = inside(|| {
            let before = reach().is_ok();
            make_local(prefix, 64).expect("make it local");
            make_local(prefix, 64).expect("twice");
            let during = reach().is_ok();
            unmake_local(prefix, 64).expect("give it back");
            unmake_local(prefix, 64).expect("twice");
            (before, during, reach().is_ok())
        });
        assert_eq!((before, during, after), (false, true, false));
    }
}
