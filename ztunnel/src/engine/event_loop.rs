//! The loop itself: its rounds and its mailbox.

use std::{
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    flow::Phase,
    keys::{FlowKey, TunnelKey},
    loop_state::{Again, Loop, Todo},
    poll::{Event, Kind},
    timer::Due,
};
use crate::{descriptors::Use, seam::LoopMessage};

/// How long tunnels without a connection may take to end when the loop drains, once their peers have everything.
const PARTING: Duration = Duration::from_secs(3);

impl Loop {
    /// Runs until drained.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        while !self.is_drained() {
            let timeout = if self.again.is_empty() {
                self.sleep()
            } else {
                Some(Duration::ZERO)
            };
            self.poll.wait(timeout, &mut events)?;
            self.round += 1;
            self.now = Instant::now();
            self.load_snapshots();
            for _ in 0..self.again.len() {
                match self.again.pop_front() {
                    Some(Again::Flow(key)) => self.continue_flow(key),
                    Some(Again::Tunnel(key)) => self.read_tunnel(key),
                    Some(Again::Streams(key)) => self.send_streams(key),
                    None => break,
                }
                self.follow_up();
            }
            for event in &events {
                self.dispatch(event);
                self.follow_up();
            }
            while let Some(due) = self.timers.next(self.now) {
                self.due(due);
                self.follow_up();
            }
            while !self.dirty.is_empty() {
                self.flush_dirty();
                self.follow_up();
            }
        }
        Ok(())
    }

    /// Does what follows from what was just done.
    fn follow_up(&mut self) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::ServeWaiting(group) => self.serve_waiting(group),
                Todo::Open(tunnel) => self.open_tunnel(tunnel),
                Todo::Failed(flow, failure) => self.attempt_failed(flow, failure),
                Todo::Meet(flow) => self.meet(flow),
                Todo::Ask(flow, is_late) => self.ask_on(flow, is_late),
                Todo::Names => self.follow_names(),
                Todo::Read(tunnel) => self.read_tunnel_from(tunnel, true),
                Todo::Unsent(pod) => self.shed_unsent(&pod),
            }
        }
    }

    fn sleep(&mut self) -> Option<Duration> {
        let flows = &self.flows;
        let now = Instant::now();
        self.timers
            .timeout(now, |key| flows.get(key).is_some_and(|flow| flow.phase != Phase::Open))
    }

    fn dispatch(&mut self, event: &Event) {
        match event.token.kind {
            Kind::Mailbox => self.read_mailbox(),
            Kind::Listener => self.accept(event.token.key()),
            Kind::Tunnel => self.tunnel_event(event.token.key(), event),
            Kind::Near => self.near_event(event.token.key(), event),
            Kind::Far => self.far_event(event.token.key(), event),
            Kind::Upstream => self.upstream_event(event.token.key()),
        }
    }

    fn due(&mut self, due: Due<FlowKey, TunnelKey>) {
        match due {
            Due::Deadline(key) => self.deadline(key),
            Due::Retry(key) => self.retry(key),
            Due::Attempt(key, number) => self.attempt_is_slow(key, number),
            Due::Unknown(key) => self.unknown(key),
            Due::Asks => self.ask_rest(),
            Due::Policies => self.policies_are_late(),
            Due::Tunnel(key) => self.tunnel_deadline(key),
            Due::Resume(key) => self.resume_tunnel(key),
            Due::Doubt(key) => self.doubt_tunnel(key),
            Due::Held => self.decide_again(true),
            Due::Queries => self.queries_are_late(),
            Due::Names => self.names_are_late(),
            Due::Accept => self.resume_accepting(),
            Due::Sweep => {
                self.sweep();
                self.sources.sweep(self.now);
                self.resolvers.sweep(self.now);
                self.sweep_names();
                self.report_used();
                self.timers.set(self.now + self.config.sweep, Due::Sweep);
            }
        }
    }

    fn read_mailbox(&mut self) {
        self.mailbox.silence();
        while let Some(step) = self.handshakes.take(|key| self.tunnels.get(key).is_some()) {
            self.shaken(*step);
        }
        while let Some(message) = self.mailbox.take() {
            match message {
                LoopMessage::PodAdded(pod, listeners) => {
                    self.load_snapshots();
                    self.add_pod(pod, listeners);
                }
                LoopMessage::PodRemoved(uid) => self.remove_pod(&uid),
                LoopMessage::Sockets(uid, sockets) => {
                    // Of a pod that is gone: closed.
                    let Some(pod) = self.pods.get(&uid).map(Rc::clone) else {
                        continue;
                    };
                    for (waiter, socket) in pod.add_sockets(sockets, &self.shared.socket_requests) {
                        self.hand_out(&pod, waiter, socket);
                    }
                }
                LoopMessage::Datagrams(uid, sockets) => self.add_datagrams(&uid, sockets),
                LoopMessage::CertificatesChanged => self.certificates_changed(),
                LoopMessage::MeshChanged(change) => self.mesh_changed(&change),
                LoopMessage::Probe(answer) => drop(answer),
                LoopMessage::DescriptorsShort => {
                    self.pods.values().for_each(|pod| pod.shrink());
                    self.pause_accepting(Use::Inbound);
                    self.pause_accepting(Use::Outbound);
                }
                LoopMessage::Drain => self.drain(),
            }
        }
    }

    fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        // What is in the backlog belongs to whoever holds the listening sockets next.
        for key in self.listeners.keys() {
            self.drop_listener(key);
        }
        for key in self.tunnels.keys() {
            self.retire_tunnel(key);
        }
        tracing::info!(connections = self.flows.len(), tunnels = self.tunnels.len(), "draining");
    }

    /// Whether the last connection has ended. Tunnels without one are given [`PARTING`] to end in good order, and longer while
    /// their peers still take bytes: a peer whose node is gone never answers.
    fn is_drained(&mut self) -> bool {
        if !self.draining || !self.flows.is_empty() || self.resolvers.is_busy() {
            self.quiet_since = None;
            return false;
        }
        let quiet_since = *self.quiet_since.get_or_insert(self.now);
        if self.tunnels.is_empty() {
            return true;
        }
        // When the process ends, the kernel resets what it finds unread bytes on, and drops what it had to send.
        let now = self.now;
        now.duration_since(quiet_since) >= PARTING && !self.tunnels.iter_mut().any(|(_, tunnel)| tunnel.is_sending(now))
    }
}
