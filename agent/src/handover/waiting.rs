//! Connections that wait in a pod's listeners for a proxy, and are reset when none comes in time.
//!
//! The kernel says how many wait, not for how long. So their number is noted at each look, and as many as waited a while ago are taken
//! from the front when that while is over: the kernel hands them out in the order in which they came.

use std::{
    collections::VecDeque,
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use culvert_net::tcp_state;
use socket2::SockRef;

use super::listeners::{Extras, Listeners};

/// What was noted of a pod's listeners, since the last proxy served.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queues: Vec<Queue>,
}

impl Waiting {
    /// Resets the connections that have waited for at least `limit`, as far as was looked; how many.
    pub(crate) fn reset_overdue(&mut self, listeners: &Listeners, now: Instant, limit: Duration) -> u64 {
        // Those for held connections have no queue: their SYNs are answered by nobody. Nor has UDP any connection.
        let sockets = listeners.descriptors(Extras::NONE);
        self.queues.resize_with(sockets.len(), Queue::default);
        let resets = self.queues.iter_mut().zip(sockets);
        resets
            .map(|(queue, socket)| queue.reset_overdue(socket, now, limit))
            .sum()
    }

    /// A proxy serves: what waits is its.
    pub(crate) fn forget(&mut self) {
        self.queues.clear();
    }
}

/// What was noted of one listener.
#[derive(Debug, Default)]
struct Queue {
    /// How many had come, and when that was noted.
    noted: VecDeque<(Instant, u64)>,
    /// How many were taken from the front.
    taken: u64,
}

impl Queue {
    fn reset_overdue(&mut self, listener: BorrowedFd<'_>, now: Instant, limit: Duration) -> u64 {
        let mut count = 0;
        for _ in 0..self.overdue(now, limit) {
            match reset_first(listener) {
                Ok(()) => count += 1,
                // The listener does not wait; an application that has given up leaves the queue by itself.
                Err(_) => break,
            }
        }
        self.taken += count;
        if let Ok(waiting) = tcp_state::accept_queue(listener) {
            self.note(now, waiting.into());
        }
        count
    }

    fn note(&mut self, now: Instant, waiting: u64) {
        let come = self.taken + waiting;
        let known = self.noted.back().map_or(self.taken, |(_, come)| *come);
        if come > known {
            self.noted.push_back((now, come));
        }
    }

    /// How many from the front have waited for the limit.
    fn overdue(&mut self, now: Instant, limit: Duration) -> u64 {
        let mut overdue = self.taken;
        while let Some((noted, come)) = self.noted.front().copied()
            && now.duration_since(noted) >= limit
        {
            overdue = come;
            self.noted.pop_front();
        }
        overdue.saturating_sub(self.taken)
    }
}

fn reset_first(listener: BorrowedFd<'_>) -> io::Result<()> {
    let (connection, _) = SockRef::from(&listener).accept()?;
    connection.set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn each_waits_for_the_limit_and_the_first_goes_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut queue = Queue::default();
        queue.note(at(0), 2);
        queue.note(at(30), 5);
        assert_eq!(queue.overdue(at(59), LIMIT), 0);
        assert_eq!(queue.overdue(at(60), LIMIT), 2);
        queue.taken += 2;
        queue.note(at(60), 3);
        assert_eq!(queue.overdue(at(89), LIMIT), 0);
        assert_eq!(queue.overdue(at(90), LIMIT), 3);
    }

    #[test]
    fn what_has_waited_is_reset_and_what_came_later_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        listener.set_nonblocking(true).expect("set");
        let connect = || TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let start = Instant::now();
        let mut queue = Queue::default();
        let mut first = connect();
        assert_eq!(queue.reset_overdue(listener.as_fd(), start, LIMIT), 0);
        let second = connect();
        assert_eq!(queue.reset_overdue(listener.as_fd(), start + LIMIT, LIMIT), 1);
        let error = first.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let (mut kept, _) = listener.accept().expect("the second");
        drop(second);
        assert_eq!(kept.read(&mut [0]).expect("its end"), 0);
    }
}
