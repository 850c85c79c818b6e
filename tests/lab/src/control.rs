//! The control plane's addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Where the control plane can be reached from both nodes.
pub const CONTROL_IP4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
/// Where the control plane can be reached from both nodes.
pub const CONTROL_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xc01e, 0, 0, 0, 0, 0, 10);
