//! Whether the node's proxy serves.

/// Until when the node's proxy is taken to serve, for pods that may go without it (see [`crate::Pod::FALLBACK`]).
///
/// One word for the node, in memory that the agent shares with proxies: whoever pushes it forward has looked that a proxy serves.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Nanoseconds on the clock that stands still while the machine is suspended (`CLOCK_MONOTONIC`), or one of the constants.
    pub until: u64,
}

impl Serving {
    /// No proxy serves.
    pub const GONE: Self = Self { until: 0 };
    /// Until something else is said: for proxies that do not say by themselves that they serve.
    pub const UNTIL_TOLD: Self = Self { until: u64::MAX };
    /// Raised when the map, which outlives a change of layout, changes its meaning, but not its size.
    pub const FORMAT: u32 = 1;

    /// Whether a proxy serves at this moment.
    #[inline(always)]
    pub const fn is_serving(&self, now: u64) -> bool {
        self.until > now
    }
}

#[cfg(test)]
mod tests {
    use super::Serving;

    #[test]
    fn a_proxy_serves_until_its_time_has_come() {
        let serving = Serving { until: 1000 };
        assert!(serving.is_serving(999));
        assert!(!serving.is_serving(1000));
        assert!(!Serving::GONE.is_serving(0));
        assert!(Serving::UNTIL_TOLD.is_serving(u64::MAX - 1));
    }
}
