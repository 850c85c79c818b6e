//! The life of a tunnel once it is open: whether it takes streams, whether its peer is still there, and when it ends. No I/O
//! and no clock: the caller says what time it is and does what is decided.
//!
//! ```text
//! open ──(idle, too old, GOAWAY, certificates)──> retiring ──(no stream left)──> parting ──(the peer has everything)──> gone
//!   └────(no sign of life)───> doubted ──(heard of)──> open
//! ```
//! A tunnel that retires carries on what it has. When its last stream has ended it says its last word (`close_notify`, behind
//! all that is queued) and is read until its peer does the same: closing a socket with unread bytes makes the kernel reset the
//! connection and throw away what the peer has not taken (RFC 2525 section 2.17).

use std::time::{Duration, Instant};

use culvert_hbone::Role;

/// How long a tunnel that parts waits for its peer to close too, once the peer has everything; and how often to look.
pub const LINGER: Duration = Duration::from_secs(2);

/// A peer that acknowledges nothing for so long while bytes are on their way to it is gone.
const STALLED: Duration = Duration::from_secs(20);

/// How long tunnels may do what.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For the peer's first SETTINGS and its acknowledgement of ours, from the end of the TLS handshake on.
    pub greeting: Duration,
    /// After which a tunnel without streams is closed by the side that dialled it; the other side waits twice as long.
    pub idle: Duration,
    /// Silence on a tunnel with streams after which the peer is asked for a sign of life.
    pub ping_interval: Duration,
    /// For the answer, before the tunnel is given up.
    pub ping_timeout: Duration,
    /// Silence after which a tunnel is asked for a sign of life together with what it is to carry.
    pub doubt_after: Duration,
    /// How long a tunnel that retires waits, without streams, for the peer to say that it opens no more.
    pub parting: Duration,
    /// How long connections may go on over a tunnel whose certificates no longer hold.
    pub stale_grace: Duration,
    /// After about so long a tunnel takes no new streams, so that new certificates are shown.
    pub most_age: Duration,
}

impl Default for Limits {
    /// The values that HBONE peers in the field use.
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            doubt_after: Duration::from_secs(1),
            parting: Duration::from_secs(5),
            stale_grace: Duration::from_secs(3600),
            most_age: Duration::from_secs(12 * 3600),
        }
    }
}

/// What is to be done with a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Ask the peer for a sign of life.
    Ping,
    /// Take no new streams, and say so.
    Retire,
    /// Say the last word.
    Part,
    /// The peer does not speak HTTP/2 properly: say so, then it is lost.
    Abort,
    /// It is lost: its peer is silent.
    Silent,
    /// It is lost: what its certificates proved has not held for too long.
    Stale,
}

/// What a regular look must know of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many streams it carries.
    pub streams: usize,
    /// [`culvert_hbone::Connection::is_greeted`].
    pub greeted: bool,
    /// It is not read at the moment: an answer would not have been heard.
    pub paused: bool,
}

/// The life of one tunnel.
#[derive(Clone, Debug)]
pub struct Life {
    role: Role,
    opened: Instant,
    /// When the last stream ended, or the tunnel opened.
    idle_since: Instant,
    /// When the peer was last heard of.
    heard: Instant,
    pinged: Option<Instant>,
    doubted: bool,
    retiring: bool,
    /// Since when the certificates no longer hold.
    stale: Option<Instant>,
    parting: bool,
    /// Bytes that the peer had acknowledged when that was last looked at, and when they last grew.
    acknowledged: u64,
    progress: Instant,
    /// From 0 to 999: sets ages of tunnels apart.
    spread: u32,
}

impl Life {
    /// A tunnel that has not opened yet. `number` differs from tunnel to tunnel, so that they do not grow old together.
    pub fn new(role: Role, number: u64, now: Instant) -> Self {
        Self {
            role,
            opened: now,
            idle_since: now,
            heard: now,
            pinged: None,
            doubted: false,
            retiring: false,
            stale: None,
            parting: false,
            acknowledged: 0,
            progress: now,
            // Knuth's multiplicative hash: numbers that follow one another land far apart.
            spread: (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % 1000,
        }
    }

    /// The handshake is complete. Returns whether it was to retire as soon as it is open; that is still to be done.
    pub fn open(&mut self, now: Instant) -> bool {
        (self.opened, self.idle_since, self.heard) = (now, now, now);
        std::mem::take(&mut self.retiring)
    }

    /// Its only stream has ended.
    pub fn idle(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// Since when it has carried no stream, if it carries none.
    pub fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// Something came from the peer. Returns whether it was doubted: it may take streams again.
    pub fn hear(&mut self, now: Instant) -> bool {
        self.heard = now;
        self.pinged = None;
        std::mem::take(&mut self.doubted)
    }

    /// A stream was opened on it. Returns whether the peer must answer soon ([`Life::doubt`]) and, if so, whether to ask it.
    pub fn ask(&mut self, now: Instant, limits: &Limits) -> Option<bool> {
        if now.saturating_duration_since(self.heard) < limits.doubt_after {
            return None;
        }
        let asks = self.pinged.is_none();
        self.pinged.get_or_insert(now);
        Some(asks)
    }

    /// The peer had time to answer. `None` if it has; else whether it is news that it has not.
    pub fn doubt(&mut self) -> Option<bool> {
        self.pinged?;
        Some(!std::mem::replace(&mut self.doubted, true))
    }

    /// No new streams from now on. Returns whether that is news.
    pub fn retire(&mut self, streams: usize, now: Instant) -> bool {
        let news = !std::mem::replace(&mut self.retiring, true);
        if news && streams == 0 {
            self.idle_since = now;
        }
        news
    }

    /// Whether it takes no new streams.
    pub fn is_retiring(&self) -> bool {
        self.retiring
    }

    /// What its certificates proved does not hold any more.
    pub fn expire(&mut self, now: Instant) {
        self.stale = Some(now);
    }

    /// Whether what its certificates proved does not hold any more.
    pub fn is_stale(&self) -> bool {
        self.stale.is_some()
    }

    /// The last word is said, or will be as soon as there is room. Returns whether that is news.
    pub fn part(&mut self, now: Instant) -> bool {
        let news = !std::mem::replace(&mut self.parting, true);
        if news {
            self.progress = now;
        }
        news
    }

    /// Whether the last word is said.
    pub fn is_parting(&self) -> bool {
        self.parting
    }

    /// The peer has acknowledged so many bytes in all.
    pub fn acknowledge(&mut self, bytes: u64, now: Instant) {
        if bytes > self.acknowledged {
            (self.acknowledged, self.progress) = (bytes, now);
        }
    }

    /// Whether a peer that is owed bytes still takes them.
    pub fn is_progressing(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.progress) < STALLED
    }

    /// Whether to wait longer for the peer of a tunnel that parts; `owes` if bytes are on their way to it.
    pub fn may_linger(&self, owes: bool, now: Instant) -> bool {
        let limit = if owes { STALLED } else { LINGER };
        now.saturating_duration_since(self.progress) < limit
    }

    /// The regular look at an open tunnel.
    pub fn look(&mut self, now: Instant, limits: &Limits, load: Load) -> Act {
        let since = |then| now.saturating_duration_since(then);
        if self.parting {
            return Act::Nothing;
        }
        if self.stale.is_some_and(|at| since(at) >= limits.stale_grace) {
            return Act::Stale;
        }
        if !self.retiring && since(self.opened) >= self.most_age(limits) {
            return Act::Retire;
        }
        if self.retiring && load.streams == 0 {
            // A peer that does not answer the ping behind our GOAWAY must not keep the tunnel for ever.
            return if since(self.idle_since) >= limits.parting {
                Act::Part
            } else {
                Act::Nothing
            };
        }
        if !load.greeted && since(self.opened) >= limits.greeting {
            return Act::Abort; // RFC 9113 section 6.5.3
        }
        if load.streams == 0 && !self.doubted {
            // The side that dialled closes first; the other only where that one forgot.
            let limit = if self.role == Role::Client {
                limits.idle
            } else {
                limits.idle * 2
            };
            let is_idle = since(self.idle_since) >= limit && since(self.heard) >= limits.ping_interval;
            return if is_idle { Act::Retire } else { Act::Nothing };
        }
        if since(self.heard) < limits.ping_interval {
            return Act::Nothing;
        }
        match self.pinged {
            None => {
                self.pinged = Some(now);
                Act::Ping
            }
            Some(at) if since(at) >= limits.ping_timeout && !load.paused => Act::Silent,
            Some(_) => Act::Nothing,
        }
    }

    /// The age at which it makes room for another: from 80 to 100 % of the most, so that tunnels do not all do so at once.
    fn most_age(&self, limits: &Limits) -> Duration {
        limits.most_age.mul_f64(1.0 - 0.2 * f64::from(self.spread) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Load = Load {
        streams: 1,
        greeted: true,
        paused: false,
    };
    const IDLE: Load = Load { streams: 0, ..BUSY };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn tunnels_do_not_reach_their_age_together() {
        let limits = Limits::default();
        let now = Instant::now();
        let ages = (0..100).map(|number| Life::new(Role::Client, number, now).most_age(&limits));
        let ages: std::collections::BTreeSet<_> = ages.collect();
        let (most, least) = (limits.most_age, limits.most_age.mul_f64(0.8));
        assert!(ages.len() > 50 && ages.iter().all(|age| (least..=most).contains(age)));
    }

    #[test]
    fn a_silent_peer_is_asked_once_and_given_up_after_its_time_unless_nobody_listened() {
        let (limits, now) = (Limits::default(), Instant::now());
        let mut life = Life::new(Role::Client, 0, now);
        assert_eq!(life.look(now + seconds(9), &limits, BUSY), Act::Nothing);
        assert_eq!(life.look(now + seconds(10), &limits, BUSY), Act::Ping);
        assert_eq!(life.look(now + seconds(29), &limits, BUSY), Act::Nothing);
        let paused = Load { paused: true, ..BUSY };
        assert_eq!(life.look(now + seconds(30), &limits, paused), Act::Nothing);
        assert_eq!(life.clone().look(now + seconds(30), &limits, BUSY), Act::Silent);
        life.hear(now + seconds(30));
        assert_eq!(life.look(now + seconds(39), &limits, BUSY), Act::Nothing);
    }

    #[test]
    fn who_dialled_closes_an_idle_tunnel_first_and_the_other_side_in_twice_the_time() {
        let (limits, now) = (Limits::default(), Instant::now());
        let mut client = Life::new(Role::Client, 0, now);
        let mut server = Life::new(Role::Server, 0, now);
        assert_eq!(client.look(now + seconds(300), &limits, IDLE), Act::Retire);
        assert_eq!(server.look(now + seconds(300), &limits, IDLE), Act::Nothing);
        assert_eq!(server.look(now + seconds(600), &limits, IDLE), Act::Retire);
        assert!(client.retire(0, now + seconds(300)));
        assert!(!client.retire(0, now + seconds(304)), "no news");
        assert_eq!(client.look(now + seconds(304), &limits, IDLE), Act::Nothing);
        assert_eq!(client.look(now + seconds(305), &limits, IDLE), Act::Part);
        assert!(client.part(now + seconds(305)));
        assert!(client.may_linger(true, now + seconds(324)) && !client.may_linger(false, now + seconds(324)));
    }

    #[test]
    fn a_tunnel_that_gives_no_sign_of_life_is_doubted_until_it_does() {
        let (limits, now) = (Limits::default(), Instant::now());
        let mut life = Life::new(Role::Client, 0, now);
        assert_eq!(life.ask(now, &limits), None, "it was just heard of");
        assert_eq!(life.ask(now + seconds(1), &limits), Some(true));
        assert_eq!(life.ask(now + seconds(2), &limits), Some(false), "it was asked before");
        assert_eq!(life.doubt(), Some(true));
        assert_eq!(life.doubt(), Some(false));
        assert!(life.hear(now + seconds(3)));
        assert_eq!(life.doubt(), None);
    }

    #[test]
    fn connections_outlive_certificates_for_their_grace_and_a_peer_without_settings_is_not_waited_for() {
        let (limits, now) = (Limits::default(), Instant::now());
        let mut life = Life::new(Role::Server, 0, now);
        life.expire(now);
        life.retire(1, now);
        life.hear(now + seconds(3599));
        assert_eq!(life.look(now + seconds(3599), &limits, BUSY), Act::Nothing);
        assert_eq!(life.look(now + seconds(3600), &limits, BUSY), Act::Stale);
        let mut life = Life::new(Role::Server, 0, now);
        let silent = Load { greeted: false, ..IDLE };
        assert_eq!(life.look(now + seconds(10), &limits, silent), Act::Abort);
    }
}
