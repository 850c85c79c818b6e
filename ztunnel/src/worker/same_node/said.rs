//! Pairs as messages hold them.

use std::net::{IpAddr, SocketAddr};

use culvert_proto::zds;

use crate::seam::Together;

/// None for what is no pair.
pub(super) fn together(pair: zds::SameNodePair) -> Option<Together> {
    Some(Together {
        client: pair.client.into(),
        source: address(&pair.source)?,
        destination: socket(&pair.address, pair.port)?,
    })
}

/// A service's address, as messages hold it.
pub(super) fn service(service: SocketAddr) -> zds::SameNodeService {
    zds::SameNodeService {
        address: bytes(service.ip()),
        port: service.port().into(),
    }
}

/// None for what is no address with a port.
pub(super) fn socket(bytes: &[u8], port: u32) -> Option<SocketAddr> {
    Some(SocketAddr::new(address(bytes)?, u16::try_from(port).ok()?))
}

pub(super) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}
