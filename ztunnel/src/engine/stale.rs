//! Tunnels that may no longer be used: their certificates do not hold any more, or nobody is at the other end.
//!
//! TLS checks certificates once. A tunnel that outlived them would carry new connections for an identity that was taken away.
//! So a tunnel remembers what was proved, and a regular look compares it with the clock and the roots of the day: where it
//! does not hold, no new stream is opened or taken, and what is open is cut after a grace. Before that, at an age that
//! differs from tunnel to tunnel, a fresh one takes its place.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    Loop,
    arena::Key,
    failure::Failure,
    flow::{Flow, Phase},
    timer::Due,
    tunnel::{State, Tunnel},
};

/// Chains that are verified again in one look: each costs some 0.1 ms of the thread that carries traffic.
const VERIFICATIONS: usize = 64;

impl Loop {
    /// Compares what was proved with the clock and with the roots of today.
    pub(super) fn check_proofs(&mut self) {
        let today = SystemTime::now();
        let mut verifications = 0;
        for key in self.tunnels.keys() {
            let Some(tunnel) = self.tunnels.get_mut(key) else {
                continue;
            };
            if !matches!(tunnel.state, State::Open(_)) {
                continue;
            }
            if let Some(since) = tunnel.stale {
                if self.now.saturating_duration_since(since) >= self.config.stale_grace && !tunnel.parting {
                    let failure = stale(tunnel, "the certificates that opened it no longer hold");
                    self.lose_tunnel(key, &failure);
                }
                continue;
            }
            let age = self.now.saturating_duration_since(tunnel.opened);
            if !tunnel.retiring && age >= most_age(self.config.most_age, key) {
                self.retire_tunnel(key);
                continue;
            }
            if tunnel.proof.expires.is_some_and(|at| today >= at) {
                self.give_up(key, "a certificate has expired");
                continue;
            }
            let Some(credentials) = self.credentials.get(&tunnel.pod.pod.identity) else {
                continue; // its own is gone: at the latest, expired
            };
            let roots = credentials.bundle().roots();
            if verifications == VERIFICATIONS
                || tunnel
                    .proof
                    .roots
                    .as_ref()
                    .is_some_and(|known| Arc::ptr_eq(known, roots))
            {
                continue;
            }
            let Some(identity) = &tunnel.identity else { continue };
            verifications += 1;
            match credentials
                .bundle()
                .verify(&tunnel.proof.chain, identity.trust_domain(), today)
            {
                Ok(_) => tunnel.proof.roots = Some(Arc::clone(roots)),
                Err(error) => {
                    tracing::debug!(peer = %tunnel.peer, %error, "a peer's certificate is no longer trusted");
                    self.give_up(key, "the peer's certificate is no longer trusted");
                }
            }
        }
    }

    /// No new streams on this tunnel; those that are open may go on for a while.
    fn give_up(&mut self, key: Key<Tunnel>, why: &'static str) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        tunnel.stale = Some(self.now);
        tracing::info!(
            peer = %tunnel.peer, identity = ?tunnel.identity, pod = %tunnel.pod.pod.uid, streams = tunnel.streams.len(),
            grace = ?self.config.stale_grace, why, "a tunnel takes no new connections"
        );
        let given_up = &self.shared.telemetry.proxy().tunnels_given_up;
        given_up.get_or_create(&[("reason", "certificate")]).inc();
        self.retire_tunnel(key);
    }

    /// A connection was asked for on this tunnel: if nothing was heard of the peer for a while, it must answer soon.
    pub(super) fn ask_for_life(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if self.now.saturating_duration_since(tunnel.heard) < self.config.doubt_after {
            return;
        }
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        if tunnel.pinged.is_none() {
            connection.ping(*b"culvert?");
            tunnel.pinged = Some(self.now);
        }
        self.timers.set(self.now + self.config.doubt_timeout, Due::Doubt(key));
    }

    /// The peer had time to answer. If it has not, what waits for it goes to another tunnel.
    pub(super) fn doubt_tunnel(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if tunnel.pinged.is_none() || tunnel.paused || !matches!(tunnel.state, State::Open(_)) {
            return;
        }
        let failure = stale(tunnel, "no sign of life from the peer");
        let flows = &self.flows;
        let waits = |flow: &Key<Flow>| flows.get(*flow).is_some_and(|flow| flow.phase == Phase::Requested);
        let waiting: Vec<_> = tunnel
            .streams
            .iter()
            .filter(|(_, flow)| waits(flow))
            .map(|(id, flow)| (*id, *flow))
            .collect();
        if !std::mem::replace(&mut tunnel.doubted, true) {
            tracing::info!(peer = %tunnel.peer, pod = %tunnel.pod.pod.uid, "a tunnel gives no sign of life; opening another beside it");
            let given_up = &self.shared.telemetry.proxy().tunnels_given_up;
            given_up.get_or_create(&[("reason", "silent")]).inc();
        }
        if let Some(group) = tunnel.group {
            self.leave_pool(group, key);
        }
        for (id, flow) in waiting {
            if let Some(State::Open(connection)) = self.tunnels.get_mut(key).map(|tunnel| &mut tunnel.state) {
                connection.reset(id, culvert_hbone::ErrorCode::Cancel);
            }
            self.stream_gone(key, id);
            // No byte of the application has left: it may be tried again.
            self.attempt_failed(flow, failure.clone());
        }
    }

    /// A doubted peer was heard of after all.
    pub(super) fn trust_tunnel(&mut self, key: Key<Tunnel>) {
        let Some(tunnel) = self.tunnels.get(key) else { return };
        match tunnel.group {
            _ if tunnel.retiring => {}
            Some(group) if self.pool.group(group).is_some() => self.join_pool(group, key),
            _ => self.retire_tunnel(key), // nobody will ask it for anything
        }
    }
}

fn stale(tunnel: &Tunnel, why: &str) -> Failure {
    Failure::Tunnel {
        to: tunnel.peer,
        why: why.into(),
        final_: false,
    }
}

/// The age at which a tunnel makes room for another: from 80 to 100 % of the most, so that they do not all do so at once.
fn most_age(most: Duration, key: Key<Tunnel>) -> Duration {
    let spread = key
        .index()
        .wrapping_mul(0x9e37_79b9)
        .wrapping_add(key.generation().wrapping_mul(0x85eb_ca6b))
        % 1000;
    most.mul_f64(1.0 - 0.2 * f64::from(spread) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_do_not_reach_their_age_together() {
        let hour = Duration::from_secs(3600);
        let ages: std::collections::BTreeSet<_> = (0..100).map(|index| most_age(hour, Key::new(index, 0))).collect();
        assert!(ages.len() > 50 && ages.iter().all(|age| *age <= hour && *age >= hour.mul_f64(0.8)));
    }
}
