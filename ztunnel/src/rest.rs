//! A process that rests lets go of its code.

use std::time::Duration;

use culvert_net::text;
use rustix::time::{ClockId, clock_gettime};

/// CPU time between two looks, five to ten seconds apart, below which little happened but these looks and the like.
const LITTLE: Duration = Duration::from_millis(100);

/// When it was last looked.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// CPU time of the process until then.
    spent: Duration,
}

impl Rest {
    /// The regular look: whoever did next to nothing since the last one has no use for most of the code that is mapped, such as that of handshakes.
    /// It is found in the page cache again: a tenth of a millisecond for the first connection after a rest.
    pub(crate) fn look(&mut self) {
        let now = clock_gettime(ClockId::ProcessCPUTime);
        let now = Duration::new(
            now.tv_sec.try_into().unwrap_or_default(),
            now.tv_nsec.try_into().unwrap_or_default(),
        );
        if self.has_rested(now) {
            text::release();
        }
    }

    fn has_rested(&mut self, spent: Duration) -> bool {
        let before = std::mem::replace(&mut self.spent, spent);
        spent.saturating_sub(before) < LITTLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_did_next_to_nothing_since_the_last_look_has_rested() {
        let mut rest = Rest::default();
        let looks = [300, 390, 391, 900, 901].map(|spent| rest.has_rested(Duration::from_millis(spent)));
        assert_eq!(looks, [false, true, true, false, true]);
    }
}
