//! The limit of open descriptors, and what of it is kept back for configuration.
//!
//! Each connection takes two descriptors. If connections could take the last one, the proxy could not reach its
//! controller, take in a pod or answer a probe any more. So traffic stops taking descriptors before the limit: inbound
//! connections first, which strangers open, then those that pods of the node open.

use std::os::fd::{AsFd, AsRawFd};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};

/// Descriptors kept back at most, and at least.
const MOST: u32 = 64;
const LEAST: u32 = 8;

/// The limit of this process. The kernel always gives the lowest number that is free, so a descriptor whose number is
/// high says that all lower ones are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    limit: u32,
    reserve: u32,
}

/// Who takes a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A connection that comes from outside of the pods.
    Inbound,
    /// A connection of a pod, or the second socket of any.
    Outbound,
}

impl Descriptors {
    /// As the kernel says.
    pub(crate) fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::with_limit(u32::try_from(limit).unwrap_or(u32::MAX))
    }

    pub(crate) fn with_limit(limit: u32) -> Self {
        Self {
            limit,
            reserve: (limit / 8).clamp(LEAST, MOST),
        }
    }

    /// How many descriptors this process may have.
    pub(crate) fn limit(self) -> u32 {
        self.limit
    }

    /// Whether this descriptor, just made, is one of those that are kept back from this use.
    pub(crate) fn is_kept_back(self, descriptor: impl AsFd, r#use: Use) -> bool {
        let number = u32::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
        let kept = match r#use {
            Use::Inbound => 2 * self.reserve,
            Use::Outbound => self.reserve,
        };
        number >= self.limit.saturating_sub(kept)
    }

    /// Whether the next descriptor would be one of those that are kept back from this use, or could not be had at all.
    pub(crate) fn are_short(self, r#use: Use) -> bool {
        match rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 0) {
            Ok(next) => self.is_kept_back(&next, r#use),
            Err(error) => matches!(error, Errno::MFILE | Errno::NFILE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbound_connections_stop_before_outbound_ones_and_those_before_the_limit() {
        // Numbers of descriptors that exist in any test: 0, 1 and 2.
        let of = |limit, r#use| Descriptors::with_limit(limit).is_kept_back(std::io::stderr(), r#use);
        assert!(of(10, Use::Inbound) && of(10, Use::Outbound));
        assert!(of(18, Use::Inbound) && !of(18, Use::Outbound));
        assert!(!of(19, Use::Inbound));
        assert!(!Descriptors::with_limit(u32::MAX).are_short(Use::Inbound));
    }
}
