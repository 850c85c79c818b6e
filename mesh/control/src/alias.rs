//! The names by which addresses and host names are asked for on demand.

use std::net::IpAddr;

use culvert_proto::HOST_ALIAS;

/// That of an address: `network/ip`.
pub(super) fn address_alias(network: &str, address: IpAddr) -> String {
    format!("{network}/{address}")
}

/// The address in such a name.
pub(super) fn address_of_alias(network: &str, name: &str) -> Option<IpAddr> {
    name.strip_prefix(network)?.strip_prefix('/')?.parse().ok()
}

/// That of a host name, whatever service has it.
pub(super) fn host_alias(host: &str) -> String {
    format!("{HOST_ALIAS}{host}")
}
