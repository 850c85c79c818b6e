//! What should be, compared with what is, on a beat and when a pin changes: programs, pins, entries of maps, listeners and
//! settings of pods. What differs is put right, counted and shown.

use std::{collections::BTreeMap, net::IpAddr};

use culvert_net::sockopt::FORWARDING_PREFIX;

use crate::kernel::Found;

/// What was found wrong so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// How often something was put right, by what it was.
    pub repaired: BTreeMap<&'static str, u64>,
    /// The last of these.
    pub last: Option<Found>,
    /// What is wrong and could not be put right, as of the last look.
    pub failed: Vec<Found>,
}

impl Upkeep {
    pub(super) fn repaired(&mut self, found: Found) {
        tracing::warn!(
            kind = found.kind.as_str(),
            what = found.what,
            "was not as it should be: repaired"
        );
        *self.repaired.entry(found.kind.as_str()).or_default() += 1;
        self.last = Some(found);
    }

    pub(super) fn failed(&mut self, before: &[Found], found: Found) {
        if !before.contains(&found) {
            tracing::error!(
                kind = found.kind.as_str(),
                what = found.what,
                "is not as it should be, and cannot be repaired"
            );
        }
        self.failed.push(found);
    }
}

/// Whether a proxy connects to applications of a pod from there.
pub(super) fn is_forwarding_source(address: IpAddr) -> bool {
    let (prefix, bits) = FORWARDING_PREFIX;
    match address {
        IpAddr::V6(address) => (address.to_bits() ^ prefix.to_bits()) >> (128 - u32::from(bits)) == 0,
        IpAddr::V4(_) => false,
    }
}
