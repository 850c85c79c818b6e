//! What is known of local legs in the kernel (`ebpf/src/legs.rs`).

use super::{KernelError, maps};
use aya::{
    Ebpf,
    maps::{MapData, SkStorage, SockHash},
};
use culvert_abi::Leg;

/// What becomes of [`super::LocalLegs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegsStatus {
    /// It was not asked for.
    Tcp,
    /// The kernel carries new legs.
    Kernel,
    /// It was asked for, and legs go by TCP for this reason.
    Refused(String),
}

/// The maps of the legs.
pub(super) struct Legs {
    pub(super) senders: SockHash<MapData, u64>,
    /// What sockets know of theirs.
    pub(super) known: SkStorage<MapData, Leg>,
}

impl Legs {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            senders: maps::take(ebpf, "SENDERS")?,
            known: maps::take(ebpf, "LEGS")?,
        })
    }

    /// Lets all applications' sockets send by TCP from now on. What was sent before stays where it is read first.
    pub(super) fn end(&mut self) -> Result<(), KernelError> {
        let keys: Vec<u64> = self.senders.keys().filter_map(Result::ok).collect();
        let removed = keys
            .into_iter()
            .map(|key| maps::absent_is_fine("SENDERS", self.senders.remove(&key)));
        removed.collect()
    }
}
