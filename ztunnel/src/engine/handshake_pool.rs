//! Threads for the cryptography of handshakes.
//!
//! A handshake costs some hundred microseconds of signatures and key exchange, and whoever reaches a pod's tunnel port can
//! ask for one. On the thread that carries traffic they would take turns with every connection of the node. So a handshake
//! leaves its tunnel for one step, with what has been read, and comes back while the loop's bell rings. There are as many
//! steps under way as [`UNDER_WAY`] says; the others wait in the loop, those that this node dials first.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, mpsc},
    thread,
};

use culvert_hbone::{Handshake, HandshakeError, Progress};
use parking_lot::Mutex;

use super::{keys::TunnelKey, poll::Bell};

/// Steps that are under way at a time, for each loop. Few, so that those that we dial need not wait behind a flood.
const UNDER_WAY: usize = 8;

/// How much less often than the loops the threads run where processors are few.
const NICE: i32 = 5;

/// Makes a handshake: a client's begins with cryptography, too.
type Begin = Box<dyn FnOnce() -> Result<Handshake, HandshakeError> + Send>;

/// A handshake with what it has not used up.
pub(super) struct Step {
    pub(super) tunnel: TunnelKey,
    begin: Option<Begin>,
    pub(super) handshake: Option<Box<Handshake>>,
    /// Bytes of the peer.
    pub(super) incoming: Vec<u8>,
    /// Bytes for the peer.
    pub(super) outgoing: Vec<u8>,
    /// What it came to.
    pub(super) result: Result<Progress, HandshakeError>,
}

impl Step {
    /// The first of a client.
    pub(super) fn first(tunnel: TunnelKey, begin: Begin) -> Box<Self> {
        let mut step = Self::next(tunnel, None, Vec::new());
        step.begin = Some(begin);
        step
    }

    pub(super) fn next(tunnel: TunnelKey, handshake: Option<Box<Handshake>>, incoming: Vec<u8>) -> Box<Self> {
        Box::new(Self {
            tunnel,
            begin: None,
            handshake,
            incoming,
            outgoing: Vec::new(),
            result: Ok(Progress::Waiting),
        })
    }

    fn take(&mut self) {
        if let Some(begin) = self.begin.take() {
            match begin() {
                Ok(handshake) => self.handshake = Some(Box::new(handshake)),
                Err(error) => self.result = Err(error),
            }
        }
        if let Some(handshake) = &mut self.handshake {
            self.result = handshake.advance(&mut self.incoming, &mut self.outgoing);
        }
    }
}

/// A step on its way, and where it goes back to.
struct Job {
    step: Box<Step>,
    done: mpsc::Sender<Box<Step>>,
    bell: Bell,
}

/// The threads, shared by all loops. They end when the last loop has.
#[derive(Clone)]
pub(super) struct HandshakePool(mpsc::Sender<Job>);

impl HandshakePool {
    /// Starts `threads` threads.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads.max(1) {
            let receiver = Arc::clone(&receiver);
            let name = format!("handshake-{number}");
            thread::Builder::new().name(name).spawn(move || {
                // Traffic goes first. On Linux this is the thread's own; it fails only where that is forbidden.
                let _ = rustix::process::nice(NICE);
                loop {
                    // One thread waits here, the others for the lock.
                    let received = receiver.lock().recv();
                    let Ok(Job { mut step, done, bell }) = received else {
                        return;
                    };
                    step.take();
                    if done.send(step).is_ok() {
                        bell.ring();
                    }
                }
            })?;
        }
        Ok(Self(sender))
    }
}

/// What one loop has under way.
pub(super) struct Handshakes {
    pool: HandshakePool,
    bell: Bell,
    sender: mpsc::Sender<Box<Step>>,
    done: mpsc::Receiver<Box<Step>>,
    under_way: usize,
    waiting: VecDeque<Box<Step>>,
}

impl Handshakes {
    pub(super) fn new(pool: HandshakePool, bell: Bell) -> Self {
        let (sender, done) = mpsc::channel();
        Self {
            pool,
            bell,
            sender,
            done,
            under_way: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Sends a step on its way, or keeps it until there is room; `first` before all that wait.
    pub(super) fn send(&mut self, step: Box<Step>, first: bool) {
        if first {
            self.waiting.push_front(step);
        } else {
            self.waiting.push_back(step);
        }
        self.fill();
    }

    /// A step that came back, if any has. `wanted` says whose tunnels are still there: what waits for others is dropped.
    pub(super) fn take(&mut self, wanted: impl Fn(TunnelKey) -> bool) -> Option<Box<Step>> {
        let step = self.done.try_recv().ok()?;
        self.under_way = self.under_way.saturating_sub(1);
        while self.waiting.front().is_some_and(|step| !wanted(step.tunnel)) {
            self.waiting.pop_front();
        }
        self.fill();
        Some(step)
    }

    fn fill(&mut self) {
        while self.under_way < UNDER_WAY {
            let Some(step) = self.waiting.pop_front() else { return };
            let job = Job {
                step,
                done: self.sender.clone(),
                bell: self.bell.clone(),
            };
            // Fails only when all threads have panicked; the tunnel's deadline ends it then.
            if self.pool.0.send(job).is_ok() {
                self.under_way += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::poll;

    #[test]
    fn few_steps_are_under_way_and_those_that_we_dial_go_first() {
        let (_sender, mailbox) = poll::mailbox().unwrap();
        // Nobody takes the steps out: what is under way stays so.
        let (sender, jobs) = mpsc::channel();
        let mut handshakes = Handshakes::new(HandshakePool(sender), mailbox.bell_handle());
        for index in 0..100 {
            handshakes.send(Step::next(TunnelKey::new(index, 0), None, Vec::new()), false);
        }
        handshakes.send(Step::next(TunnelKey::new(1000, 0), None, Vec::new()), true);
        assert_eq!(
            (handshakes.under_way, handshakes.waiting.len()),
            (UNDER_WAY, 101 - UNDER_WAY)
        );
        let Job { mut step, done, .. } = jobs.recv().unwrap();
        step.take();
        done.send(step).unwrap();
        assert_eq!(handshakes.take(|_| true).unwrap().tunnel, TunnelKey::new(0, 0));
        let under_way: Vec<u32> = jobs.try_iter().map(|job: Job| job.step.tunnel.index()).collect();
        assert_eq!(under_way.last(), Some(&1000));
        // Those whose tunnels are gone do not wait any longer.
        done.send(Step::next(TunnelKey::new(1, 0), None, Vec::new())).unwrap();
        handshakes.take(|tunnel| tunnel.index() > 90).unwrap();
        assert_eq!(jobs.try_iter().next().map(|job| job.step.tunnel.index()), Some(91));
    }
}
