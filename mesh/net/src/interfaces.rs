//! The addresses of a network namespace, and prefixes that are made local to it.

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    ptr,
};

use rustix::io::Errno;

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
    match change_local(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, prefix, length) {
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

// `linux/rtnetlink.h`, `linux/netlink.h`.
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RTN_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;

/// A request about a local route, as rtnetlink wants it.
#[repr(C)]
struct RouteRequest {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    // `struct rtmsg`
    family: u8,
    destination_length: u8,
    source_length: u8,
    tos: u8,
    table: u8,
    protocol: u8,
    scope: u8,
    route_type: u8,
    route_flags: u32,
    // attributes
    destination_attribute: [u16; 2],
    destination: [u8; 16],
    device_attribute: [u16; 2],
    device: u32,
}

fn change_local(kind: u16, flags: u16, prefix: Ipv6Addr, length: u8) -> io::Result<()> {
    let request = RouteRequest {
        length: size_of::<RouteRequest>() as u32,
        kind,
        flags: NLM_F_REQUEST | NLM_F_ACK | flags,
        sequence: 1,
        port: 0,
        family: libc::AF_INET6 as u8,
        destination_length: length,
        source_length: 0,
        tos: 0,
        table: RT_TABLE_LOCAL,
        protocol: RTPROT_STATIC,
        scope: 0,
        route_type: RTN_LOCAL,
        route_flags: 0,
        destination_attribute: [20, RTA_DST],
        destination: prefix.octets(),
        device_attribute: [8, RTA_OIF],
        device: LOOPBACK,
    };
    // SAFETY: plain integers without padding: as many bytes as the type has.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const request).cast::<u8>(), size_of::<RouteRequest>()) };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: three integers.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    rustix::net::send(&socket, bytes, rustix::net::SendFlags::empty())?;
    // The header, then the error number; then the request once more.
    let mut answer = [0u8; 512];
    let (count, _) = rustix::net::recv(socket.as_fd(), &mut answer, rustix::net::RecvFlags::empty())?;
    let error = answer[..count].get(16..20).and_then(|bytes| bytes.try_into().ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
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
