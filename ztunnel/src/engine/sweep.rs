//! The regular look at everything: what is idle, what is silent, what is owed to statistics.

use std::time::Instant;

use culvert_hbone::{ErrorCode, Role};

use super::{
    Loop,
    arena::Key,
    failure::Failure,
    flow::Phase,
    tunnel::{State, Tunnel},
};

impl Loop {
    /// Closes idle tunnels, asks silent ones for a sign of life, publishes the counters of open connections.
    pub(super) fn sweep(&mut self) {
        self.check_proofs();
        for key in self.tunnels.keys() {
            self.regulate(key);
            self.sweep_tunnel(key);
        }
        self.publish_held();
        for (_, flow) in self.flows.iter_mut() {
            if let Some(record) = &mut flow.record {
                record.publish();
            }
        }
        for pod in self.pods.values() {
            pod.ask_again(&self.shared.socket_requests);
        }
        self.forget_the_dead();
    }

    /// While nothing changes, nobody looks at what waits for a change; what has given up meanwhile must not gather there.
    fn forget_the_dead(&mut self) {
        let (flows, tunnels) = (&self.flows, &self.tunnels);
        self.parked
            .retain(|key| flows.get(*key).is_some_and(|flow| flow.phase == Phase::Parked));
        self.uncertified.retain(|key| {
            let tunnel = tunnels.get(*key);
            tunnel.is_some_and(|tunnel| matches!(tunnel.state, State::Uncertified))
        });
    }

    fn sweep_tunnel(&mut self, key: Key<Tunnel>) {
        let config = &self.config;
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        if tunnel.parting {
            return;
        }
        if tunnel.retiring && tunnel.streams.is_empty() {
            // A peer that does not answer the ping after our GOAWAY must not keep the tunnel for ever.
            if since(self.now, tunnel.idle_since) >= config.parting_timeout {
                self.part(key);
            }
            return;
        }
        if !connection.is_greeted() && since(self.now, tunnel.opened) >= config.handshake_timeout {
            // RFC 9113 section 6.5.3
            connection.abort(ErrorCode::SettingsTimeout);
            let why = "the peer does not begin to speak HTTP/2, or does not acknowledge our settings".into();
            let failure = Failure::Tunnel {
                to: tunnel.peer,
                why,
                final_: false,
            };
            self.flush_tunnel(key);
            return self.lose_tunnel(key, &failure);
        }
        if let (true, Some(group)) = (tunnel.streams.is_empty(), tunnel.group) {
            // The peer may allow more than before.
            self.serve_waiting(group);
        }
        let config = &self.config;
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        if tunnel.streams.is_empty() && !tunnel.doubted {
            // The side that dialled closes first; the other only where that one forgot.
            let limit = if tunnel.role == Role::Client {
                config.idle_timeout
            } else {
                config.idle_timeout * 2
            };
            if since(self.now, tunnel.idle_since) >= limit && since(self.now, tunnel.heard) >= config.ping_interval {
                self.retire_tunnel(key);
            }
            return;
        }
        if since(self.now, tunnel.heard) < config.ping_interval {
            return;
        }
        match tunnel.pinged {
            None => {
                tunnel.pinged = Some(self.now);
                connection.ping(*b"culvert?");
                self.touch(key);
            }
            // A tunnel that is not read at the moment has not heard the answer either.
            Some(at) if since(self.now, at) >= config.ping_timeout && !tunnel.paused => {
                let given_up = &self.shared.telemetry.proxy().tunnels_given_up;
                given_up.get_or_create(&[("reason", "silent")]).inc();
                let why = "the peer does not answer pings".into();
                let failure = Failure::Tunnel {
                    to: tunnel.peer,
                    why,
                    final_: false,
                };
                self.lose_tunnel(key, &failure);
            }
            Some(_) => {}
        }
    }
}

fn since(now: Instant, then: Instant) -> std::time::Duration {
    now.saturating_duration_since(then)
}
