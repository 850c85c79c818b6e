//! Pairs of pods whose connections go past the proxy and that nobody uses any more: they leave the map, so that it does not fill with
//! pairs of the past.
//!
//! First no connection is opened by such a pair any more, while one that is being opened is still let in. Only when none has come until
//! the next look is the proxy told to forget the pair, and takes it back as any other. So nothing that is open is ever of a pair that
//! goes for its age, and the next connection goes through the proxy, which decides anew.

use std::{collections::HashMap, time::Duration};

use culvert_abi::SameNodePair;
use tokio::time::Instant;

/// Between two looks at the latest. A look asks the kernel for each pair.
const LOOK: Duration = Duration::from_secs(30);

/// What is known of pairs that are entered.
#[derive(Default)]
pub(super) struct Ageing {
    pairs: HashMap<SameNodePair, Age>,
    next: Option<Instant>,
    forgotten: u64,
}

struct Age {
    opened: u64,
    since: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Used,
    Ending,
    Told,
}

/// What is to be done about a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing new is to be opened by it.
    End,
    /// It is used all the same.
    GoOn,
    /// The proxy is to forget it.
    Forget,
}

/// A pair as it is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) pair: SameNodePair,
    /// How many connections were opened by it, ever.
    pub(super) opened: u64,
    /// One is open, or being opened.
    pub(super) is_open: bool,
}

impl Ageing {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// Looks at all pairs that are entered; `idle` is for how long a pair may go unused.
    pub(super) fn look(&mut self, uses: &[Use], idle: Duration, now: Instant) -> Vec<(SameNodePair, Step)> {
        self.next = Some(now + LOOK.min(idle / 4));
        uses.iter()
            .filter_map(|found| Some((found.pair, self.look_at(found, idle, now)?)))
            .collect()
    }

    fn look_at(&mut self, found: &Use, idle: Duration, now: Instant) -> Option<Step> {
        let age = self.pairs.entry(found.pair).or_insert(Age {
            opened: found.opened,
            since: now,
            stage: Stage::Used,
        });
        if found.is_open || age.opened != found.opened {
            age.opened = found.opened;
            age.since = now;
            let before = std::mem::replace(&mut age.stage, Stage::Used);
            return (before != Stage::Used).then_some(Step::GoOn);
        }
        match age.stage {
            Stage::Used if now.duration_since(age.since) < idle => None,
            Stage::Used => {
                age.stage = Stage::Ending;
                Some(Step::End)
            }
            Stage::Ending => {
                age.stage = Stage::Told;
                self.forgotten += 1;
                Some(Step::Forget)
            }
            // Its answer is on the way, or another proxy has said the pair since.
            Stage::Told => Some(Step::Forget),
        }
    }

    /// Forgets all pairs but these: another is a new one should it come again.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&SameNodePair) -> bool) {
        self.pairs.retain(|pair, _| is_kept(pair));
    }

    /// How many pairs have gone for their age.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use culvert_abi::Endpoint;

    use super::*;

    const IDLE: Duration = Duration::from_secs(600);

    fn found(opened: u64, is_open: bool) -> Use {
        let destination = SocketAddr::from(([198, 18, 0, 2], 80));
        Use {
            pair: SameNodePair::new(1, Endpoint::from(destination)),
            opened,
            is_open,
        }
    }

    struct World {
        ageing: Ageing,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self {
                ageing: Ageing::default(),
                now: Instant::now(),
            }
        }

        fn after(&mut self, time: Duration, found: Use) -> Option<Step> {
            self.now += time;
            assert!(self.ageing.is_due(self.now));
            let steps = self.ageing.look(&[found], IDLE, self.now);
            assert!(!self.ageing.is_due(self.now));
            steps.first().map(|(_, step)| *step)
        }
    }

    #[test]
    fn a_pair_that_nobody_uses_is_ended_first_and_forgotten_at_a_later_look() {
        let mut world = World::new();
        assert_eq!(world.after(IDLE, found(5, false)), None, "seen for the first time");
        assert_eq!(world.after(IDLE / 2, found(5, false)), None);
        assert_eq!(world.after(IDLE / 2, found(5, false)), Some(Step::End));
        assert_eq!(world.ageing.forgotten(), 0);
        assert_eq!(world.after(LOOK, found(5, false)), Some(Step::Forget));
        assert_eq!(
            world.after(LOOK, found(5, false)),
            Some(Step::Forget),
            "again, but counted once"
        );
        assert_eq!(world.ageing.forgotten(), 1);
        // It has gone, and has come again.
        world.ageing.keep(|_| false);
        assert_eq!(world.after(LOOK, found(5, false)), None);
    }

    #[test]
    fn a_pair_is_used_while_a_connection_is_open_and_when_one_has_been_opened() {
        let mut world = World::new();
        for _ in 0..3 {
            assert_eq!(world.after(IDLE, found(5, true)), None);
        }
        assert_eq!(world.after(IDLE, found(6, false)), None);
        assert_eq!(world.after(IDLE, found(6, false)), Some(Step::End));
        // The SYN was on its way.
        assert_eq!(world.after(LOOK, found(6, true)), Some(Step::GoOn));
        assert_eq!(world.after(LOOK, found(7, false)), None);
        assert_eq!(world.after(IDLE, found(7, false)), Some(Step::End));
        assert_eq!(world.after(LOOK, found(7, false)), Some(Step::Forget));
        assert_eq!(world.after(LOOK, found(8, false)), Some(Step::GoOn), "however late");
        assert_eq!(world.after(LOOK, found(8, false)), None);
    }
}
