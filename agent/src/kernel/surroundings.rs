//! What a pod's network namespace has beside the addresses that the mesh knows, as far as the programs' verdicts need it.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use culvert_abi::{Address, Pod};
use culvert_net::{
    Netns,
    interfaces::{self, InterfaceAddress},
};

use super::KernelError;

/// Which interfaces are the mesh's, and what they have that the mesh does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// As [`Pod::devices`].
    pub(super) devices: [u32; 2],
    /// [`Pod::UNKNOWN_V4`], [`Pod::UNKNOWN_V6`].
    pub(super) flags: u32,
}

impl Surroundings {
    /// Looks into the namespace.
    ///
    /// # Errors
    /// It cannot be entered.
    pub(super) fn of(netns: BorrowedFd<'_>, addresses: &[Address]) -> Result<Self, KernelError> {
        let failed = |source| KernelError::system("look at a pod's interfaces".to_owned(), source);
        let netns = netns.as_fd().try_clone_to_owned().map_err(failed)?;
        let found = Netns::from_fd(netns)
            .and_then(|netns| netns.run(interfaces::addresses))
            .map_err(|error| failed(io::Error::other(error)))?
            .map_err(failed)?;
        Ok(Self::among(&found, addresses))
    }

    fn among(found: &[InterfaceAddress], addresses: &[Address]) -> Self {
        let is_known = |one: &InterfaceAddress| addresses.contains(&one.address.into());
        let device = |is_v4: bool| {
            let first = addresses.iter().find(|address| address.is_v4() == is_v4);
            let holder = found.iter().find(|one| Some(&Address::from(one.address)) == first);
            holder.map_or(0, |one| one.index)
        };
        let devices = [device(true), device(false)];
        let is_unknown = |one: &&InterfaceAddress| devices.contains(&one.index) && !is_known(one) && is_global(one);
        let flag = |is_v4: bool, flag: u32| {
            let is_known = addresses.iter().any(|address| address.is_v4() == is_v4);
            let unknown = found
                .iter()
                .filter(is_unknown)
                .any(|one| one.address.is_ipv4() == is_v4);
            if unknown && !is_known { flag } else { 0 }
        };
        Self {
            devices,
            flags: flag(true, Pod::UNKNOWN_V4) | flag(false, Pod::UNKNOWN_V6),
        }
    }
}

/// Whether anything beyond the link can be reached from this address.
fn is_global(one: &InterfaceAddress) -> bool {
    !one.is_loopback
        && match one.address {
            IpAddr::V4(v4) => !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u32, address: &str) -> InterfaceAddress {
        InterfaceAddress {
            name: format!("if{index}"),
            index,
            address: address.parse().unwrap(),
            is_loopback: index == 1,
        }
    }

    fn among(found: &[InterfaceAddress], known: &[&str]) -> Surroundings {
        let known: Vec<Address> = known.iter().map(|one| one.parse::<IpAddr>().unwrap().into()).collect();
        Surroundings::among(found, &known)
    }

    #[test]
    fn the_meshs_interfaces_are_those_that_have_the_pods_addresses() {
        let pod = [
            at(1, "127.0.0.1"),
            at(2, "198.18.7.1"),
            at(2, "fe80::1"),
            at(3, "fd00:c01e::1"),
        ];
        let of = |devices, flags| Surroundings { devices, flags };
        assert_eq!(among(&pod, &["198.18.7.1", "fd00:c01e::1"]), of([2, 3], 0));
        // A side interface is none of the mesh's; an address of the mesh's interface that nobody told of is.
        assert_eq!(among(&pod, &["198.18.7.1"]), of([2, 0], 0));
        let dual = [at(2, "198.18.7.1"), at(2, "fd00:c01e::1")];
        assert_eq!(among(&dual, &["198.18.7.1"]), of([2, 0], Pod::UNKNOWN_V6));
        assert_eq!(among(&dual, &["fd00:c01e::1"]), of([0, 2], Pod::UNKNOWN_V4));
        assert_eq!(among(&[], &["198.18.7.1"]), of([0, 0], 0));
    }
}
