//! What many connections needed is given back when they are gone.

use culvert_net::heap;

/// Fewer connections than this are not worth looking for their memory: some hundred KiB.
const WORTHWHILE: i64 = 500;

/// How many connections there were.
#[derive(Debug, Default)]
pub(super) struct Heap {
    /// At the most, since memory was given back.
    most: i64,
}

impl Heap {
    /// The regular look.
    pub(super) fn look(&mut self, open: i64) {
        if self.is_much_less(open) {
            heap::trim();
        }
    }

    /// Whether there are at most half as many as there were, and many fewer.
    fn is_much_less(&mut self, open: i64) -> bool {
        self.most = self.most.max(open);
        let is_less = open <= self.most / 2 && self.most - open >= WORTHWHILE;
        if is_less {
            self.most = open;
        }
        is_less
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_looked_for_once_each_time_that_many_connections_are_gone() {
        let mut heap = Heap::default();
        let gone = [0, 2000, 1001, 1000, 900, 501, 500, 0].map(|open| heap.is_much_less(open));
        assert_eq!(gone, [false, false, false, true, false, false, true, true]);
        assert!(!heap.is_much_less(400));
        assert!(!heap.is_much_less(0));
    }
}
