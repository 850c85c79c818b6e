//! Who has which address. Every cluster uses the same ones: each has network namespaces of its own.
//!
//! IPv4 is from 198.18.0.0/15, which is reserved for benchmarks, and IPv6 from a ULA prefix, so that a packet that
//! escaped by a mistake would meet no stranger's machine.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The control plane's end of the network between the nodes.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same in IPv6.
pub const CONTROL_PLANE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xc01e, 0, 0, 0, 0, 0, 1);
/// The Service `kubernetes`.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 18, 64, 1);
/// The Service `kube-dns`.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 18, 64, 10);
/// The API server's port.
pub const API_PORT: u16 = 6443;

pub(crate) const SERVICES: &str = "198.18.64.0/18";
pub(crate) const SERVICES_V6: &str = "fd00:c01e:2::/112";
pub(crate) const PODS: &str = "198.19.0.0/16";
pub(crate) const PODS_V6: &str = "fd00:c01e:1::/48";

/// Address of a node on the network between the nodes.
pub(crate) fn node(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 10 + number)
}

/// The same in IPv6.
pub(crate) fn node_v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0xc01e, 0, 0, 0, 0, 0, 10 + u16::from(number))
}

/// The pods of a node.
pub(crate) fn pods(number: u8) -> String {
    format!("198.19.{number}.0/24")
}

/// The same in IPv6.
pub(crate) fn pods_v6(number: u8) -> String {
    format!("fd00:c01e:1:{number}::/64")
}

/// IPv4 alone, or both families with a comma between.
pub(crate) fn both(v4: &str, v6: &str, dual_stack: bool) -> String {
    if dual_stack {
        format!("{v4},{v6}")
    } else {
        v4.to_owned()
    }
}
