//! Whose turn it is to send on a tunnel: deficit round robin (Shreedhar and Varghese), with a lane for those that were idle.
//!
//! Streams of a tunnel share one TCP connection. When the network is the bottleneck, the order in which they get to send is
//! the order in which they get bandwidth. Each turn gives a stream a quantum of bytes; one that is cut off keeps what is left
//! of it and its place. A stream that had nothing to send goes before those that send without end, as in `fq_codel` (RFC
//! 8290 section 4.1), but every second turn at most: small messages are quick, and nobody starves.

use std::collections::VecDeque;

/// Those that have something to send. `F` names a flow.
#[derive(Debug)]
pub struct Turns<F> {
    fresh: VecDeque<Turn<F>>,
    regular: VecDeque<Turn<F>>,
    /// The last turn was one of `fresh`.
    favoured: bool,
    /// The caller has the tunnel in its queue of unfinished work.
    pub scheduled: bool,
}

/// A flow's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn<F> {
    /// Whose.
    pub flow: F,
    /// Bytes that it may send before the next one's turn.
    pub deficit: usize,
    /// Its turn was cut off: it gets no new quantum.
    cut: bool,
}

impl<F> Default for Turns<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> Turns<F> {
    /// Nobody has anything to send.
    pub const fn new() -> Self {
        Self {
            fresh: VecDeque::new(),
            regular: VecDeque::new(),
            favoured: false,
            scheduled: false,
        }
    }

    /// Whether nobody has anything to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many have something to send.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.regular.len()
    }

    /// Adds a flow that had nothing to send until now. It must not be here already.
    pub fn enter(&mut self, flow: F) {
        self.fresh.push_back(Turn {
            flow,
            deficit: 0,
            cut: false,
        });
    }

    /// Takes out whose turn it is, with `quantum` more bytes to send.
    pub fn next(&mut self, quantum: usize) -> Option<Turn<F>> {
        let favour = self.regular.is_empty() || !self.favoured;
        let mut turn = if favour && let Some(turn) = self.fresh.pop_front() {
            self.favoured = true;
            turn
        } else {
            self.favoured = false;
            self.regular.pop_front().or_else(|| self.fresh.pop_front())?
        };
        if !std::mem::take(&mut turn.cut) {
            turn.deficit += quantum;
        }
        Some(turn)
    }

    /// Its bytes are used up and it has more to send: waits until it is its turn again.
    pub fn again(&mut self, turn: Turn<F>) {
        self.regular.push_back(turn);
    }

    /// The tunnel takes no more: it is still this one's turn.
    pub fn cut_off(&mut self, mut turn: Turn<F>) {
        turn.cut = true;
        if std::mem::take(&mut self.favoured) {
            self.fresh.push_front(turn);
        } else {
            self.regular.push_front(turn);
            // Those that were idle have had theirs.
            self.favoured = !self.fresh.is_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const QUANTUM: usize = 1000;

    #[test]
    fn streams_that_send_without_end_get_the_same_however_they_are_cut_off() {
        let mut turns: Turns<u32> = Turns::new();
        (0..7).for_each(|flow| turns.enter(flow));
        let mut sent: HashMap<u32, usize> = HashMap::new();
        let mut room = 0usize;
        for round in 0..10_000usize {
            // The tunnel takes a varying number of bytes, then is blocked.
            room += 100 + (round * 7919) % 2500;
            while room > 0 {
                let mut turn = turns.next(QUANTUM).expect("all have more");
                let size = turn.deficit.min(room);
                *sent.entry(turn.flow).or_default() += size;
                (turn.deficit, room) = (turn.deficit - size, room - size);
                if turn.deficit == 0 {
                    turns.again(turn);
                } else {
                    turns.cut_off(turn);
                }
            }
        }
        let (least, most) = (sent.values().min().expect("some"), sent.values().max().expect("some"));
        // What is in the lane of those that were idle at first gets its turns there.
        assert!(most - least <= 8 * QUANTUM, "{sent:?}");
    }

    #[test]
    fn a_small_message_waits_for_one_turn_and_cannot_starve_the_others() {
        let mut turns: Turns<u32> = Turns::new();
        (0..7).for_each(|flow| turns.enter(flow));
        for _ in 0..20 {
            let turn = turns.next(QUANTUM).expect("all have more");
            turns.again(Turn { deficit: 0, ..turn });
        }
        let mut others = 0;
        for _ in 0..100 {
            turns.enter(99);
            let waited = (0..3).find(|_| {
                let turn = turns.next(QUANTUM).expect("all have more");
                if turn.flow != 99 {
                    others += 1;
                    turns.again(Turn { deficit: 0, ..turn });
                }
                turn.flow == 99
            });
            assert!(waited.is_some_and(|turns| turns <= 1), "{waited:?}");
        }
        assert!(others >= 99, "{others}");
    }
}
