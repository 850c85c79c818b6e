//! Flow-control windows (RFC 9113 section 5.2).

/// Window of every stream and of the connection before anything else is said.
pub(crate) const INITIAL: u32 = 65_535;
/// Largest window.
pub(crate) const MAX: u32 = (1 << 31) - 1;

/// What we may send. May be negative after the peer lowered it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// Bytes that may be sent now.
    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(crate) fn take(&mut self, n: usize) {
        self.0 -= n as i64;
    }

    /// Widens it, or narrows it after a change of settings. Says whether it had been used up and is no longer; none when it would
    /// exceed 2^31-1.
    pub(crate) fn change(&mut self, by: i64) -> Option<bool> {
        let shut = self.0 <= 0;
        let changed = self.0 + by;
        if changed > i64::from(MAX) {
            return None;
        }
        self.0 = changed;
        Some(shut && changed > 0)
    }
}

/// What the peer may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    /// Bytes it may still send.
    open: i64,
    /// Bytes that are due to be given back, but too few to be worth a frame yet.
    credit: u32,
    /// Given back when this many have gathered.
    step: u32,
}

impl ReceiveWindow {
    /// A window that we announced as `size`. A peer that has not heard of it yet takes it for [`INITIAL`].
    pub(crate) fn new(size: u32) -> Self {
        Self {
            open: i64::from(size.max(INITIAL)),
            credit: 0,
            step: (size / 4).max(1),
        }
    }

    /// The peer sent `n` bytes; false when it may not.
    pub(crate) fn take(&mut self, n: u32) -> bool {
        self.open -= i64::from(n);
        self.open >= 0
    }

    /// Gives `n` bytes back. Returns the increment to announce, when it is time.
    pub(crate) fn give(&mut self, n: u32) -> Option<u32> {
        self.credit = self.credit.saturating_add(n);
        if self.credit < self.step {
            return None;
        }
        let increment = std::mem::take(&mut self.credit).min(MAX);
        self.open += i64::from(increment);
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX, ReceiveWindow, SendWindow};

    #[test]
    fn send_window_tells_when_it_opens() {
        let mut window = SendWindow::new(10);
        window.take(10);
        assert_eq!(window.available(), 0);
        assert_eq!(window.change(-5), Some(false));
        assert_eq!(window.change(5), Some(false));
        assert_eq!(window.change(1), Some(true));
        assert_eq!(window.change(1), Some(false));
        assert_eq!(window.available(), 2);
        assert_eq!(window.change(i64::from(MAX)), None);
    }

    #[test]
    fn receive_window_gives_credit_in_steps() {
        let mut window = ReceiveWindow::new(100_000);
        assert!(window.take(100_000));
        assert_eq!(window.give(24_999), None);
        assert_eq!(window.give(1), Some(25_000));
        assert!(window.take(25_000));
        assert!(!window.take(1));
    }
}
