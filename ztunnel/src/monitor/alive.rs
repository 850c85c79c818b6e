//! Whether the worker serves: the monitor asks it, and tells the kernel programs as long as it answers.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use culvert_net::serving::ServingWord;

/// How often the worker is asked.
pub(super) const BEAT: Duration = Duration::from_millis(250);

/// How long after an answer the worker is taken to serve: pods that may go without a proxy do so then.
const VALID: Duration = Duration::from_secs(1);

/// What the monitor knows of it.
#[derive(Debug, Default)]
pub(super) struct Alive {
    /// Where it is told; none for an agent that does not ask for it.
    word: Option<ServingWord>,
    /// Asked, and not answered. One that hangs is not asked again: what it does not read must not keep the monitor waiting.
    asked: Option<Instant>,
}

impl Alive {
    /// The agent says where.
    ///
    /// # Errors
    /// It is no place to say it.
    pub(super) fn tell_in(&mut self, descriptors: &[OwnedFd]) -> Result<(), String> {
        let [map] = descriptors else {
            return Err(format!("{} descriptors in place of one", descriptors.len()));
        };
        let word = ServingWord::map(map).map_err(|error| format!("cannot map it: {error}"))?;
        self.word = Some(word);
        Ok(())
    }

    /// Whether the worker is to be asked now.
    pub(super) fn ask(&mut self) -> bool {
        let is_due = self.word.is_some() && self.asked.is_none();
        if is_due {
            self.asked = Some(Instant::now());
        }
        is_due
    }

    /// The worker has answered. A late answer is none: what holds then is known at the next one.
    pub(super) fn answered(&mut self) {
        let asked = self.asked.take();
        let left = asked.and_then(|asked| VALID.checked_sub(asked.elapsed()));
        if let (Some(word), Some(left)) = (&self.word, left) {
            word.push(left);
        }
    }

    /// Another worker, which was not asked yet.
    pub(super) fn replaced(&mut self) {
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_asked_once_until_it_answers_or_is_replaced() {
        let mut alive = Alive::default();
        assert!(!alive.ask(), "there is nobody to tell");
        let memory = rustix::fs::memfd_create("serving", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, 4096).unwrap();
        assert!(alive.tell_in(&[]).is_err());
        alive.tell_in(&[memory]).unwrap();
        assert!(alive.ask());
        assert!(!alive.ask());
        alive.answered();
        assert!(alive.ask());
        alive.replaced();
        assert!(alive.ask());
    }
}
