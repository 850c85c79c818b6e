//! The loop itself: what it owns, its rounds, and its mailbox.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    ops::Deref,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Cache};
use culvert_identity::{Credentials, SpiffeId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    EngineConfig,
    admission::Sources,
    arena::{Arena, Key},
    budget::Budget,
    buffers::ReadBuffer,
    events::Events,
    flow::{Flow, Phase},
    handshake_pool::{HandshakePool, Handshakes},
    listen::Listener,
    parked::Parked,
    poll::{Event, Kind, Mailbox, Poll, Token},
    pool::Pool,
    report::Refusals,
    sockets::{LocalPod, Waiter},
    timer::{Due, Timers},
    tunnel::Tunnel,
};
use crate::{
    descriptors::Use,
    seam::{Ask, ListenerRole, LoopMessage, Shared},
    state::Mesh,
    state::MeshChange,
    telemetry::Direction,
};

/// How long tunnels without a connection may take to end when the loop drains, once their peers have everything.
const PARTING: Duration = Duration::from_secs(3);

/// Certificates by identity.
pub(super) type CredentialMap = FxHashMap<SpiffeId, Arc<Credentials>>;

/// One event loop. Everything in it belongs to its thread; `impl` blocks are spread over the files of this folder by
/// subject.
pub(super) struct Loop {
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<EngineConfig>,
    pub(super) poll: Poll,
    pub(super) timers: Timers<Key<Flow>, Key<Tunnel>>,
    /// Counts rounds.
    pub(super) round: u64,
    /// When this round began.
    pub(super) now: Instant,
    /// The mesh as of this round.
    pub(super) mesh: Arc<Mesh>,
    pub(super) credentials: Arc<CredentialMap>,
    pub(super) pods: FxHashMap<Arc<str>, Rc<LocalPod>>,
    pub(super) listeners: Arena<Listener>,
    /// Listeners that are paused will be looked at again.
    pub(super) resuming: bool,
    /// Who opens tunnels, and how many.
    pub(super) sources: Sources,
    /// Lines of the access log about tunnels that were refused.
    pub(super) refusals: Refusals,
    pub(super) flows: Arena<Flow>,
    pub(super) tunnels: Arena<Tunnel>,
    pub(super) pool: Pool,
    /// Flows that wait until something is known.
    pub(super) parked: Parked,
    /// Pods' questions that wait will be looked at.
    pub(super) asking: bool,
    /// Open connections wait for policies, until a deadline.
    pub(super) awaiting_policies: bool,
    /// Addresses that connections of pods went to since the last sweep.
    pub(super) used: FxHashSet<IpAddr>,
    /// Tunnels that wait for a certificate.
    pub(super) uncertified: Vec<Key<Tunnel>>,
    /// Work that a budget cut off, for the next round.
    pub(super) again: VecDeque<Again>,
    /// Tunnels with something to send, at the end of the round.
    pub(super) dirty: Vec<Key<Tunnel>>,
    pub(super) buffer: ReadBuffer,
    /// Handshakes that are with the threads that do their cryptography.
    pub(super) handshakes: Handshakes,
    /// What connections hold.
    pub(super) budget: Budget,
    /// Memory for the events of a tunnel, between reads.
    pub(super) events: Events<'static>,
    /// On which held connections are claimed; made for the first.
    pub(super) claims: Option<std::os::fd::OwnedFd>,
    pub(super) draining: bool,
    /// Since when there is no connection any more while draining.
    quiet_since: Option<Instant>,
    /// The generation of policies against which open connections were checked.
    checked: u64,
    mailbox: Mailbox,
    mesh_cache: Cache<MeshOf, Arc<Mesh>>,
    credentials_cache: Cache<CredentialsOf, Arc<CredentialMap>>,
}

/// Work that is continued in the next round.
#[derive(Clone, Copy, Debug)]
pub(super) enum Again {
    /// Bytes of a flow, in either direction.
    Flow(Key<Flow>),
    /// Reading a tunnel.
    Tunnel(Key<Tunnel>),
    /// Sending on a tunnel.
    Streams(Key<Tunnel>),
}

/// Where `Cache` finds the mesh.
struct MeshOf(Arc<Shared>);

impl Deref for MeshOf {
    type Target = ArcSwap<Mesh>;

    fn deref(&self) -> &Self::Target {
        &self.0.mesh
    }
}

/// Where `Cache` finds certificates.
struct CredentialsOf(Arc<Shared>);

impl Deref for CredentialsOf {
    type Target = ArcSwap<CredentialMap>;

    fn deref(&self) -> &Self::Target {
        &self.0.credentials
    }
}

impl Loop {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: Arc<EngineConfig>,
        mailbox: Mailbox,
        handshakes: HandshakePool,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.watch(mailbox.bell(), Token::MAILBOX)?;
        let now = Instant::now();
        let mut timers = Timers::new();
        timers.set(now + config.sweep, Due::Sweep);
        Ok(Self {
            handshakes: Handshakes::new(handshakes, mailbox.bell_handle()),
            budget: Budget::new(Arc::clone(&config.held)),
            poll,
            timers,
            round: 1,
            now,
            mesh: shared.mesh.load_full(),
            credentials: shared.credentials.load_full(),
            pods: FxHashMap::default(),
            listeners: Arena::new(),
            resuming: false,
            sources: Sources::new(config.admission.source, now),
            refusals: Refusals::new(config.admission.refusal_lines, now),
            flows: Arena::new(),
            tunnels: Arena::new(),
            pool: Pool::new(),
            parked: Parked::default(),
            asking: false,
            awaiting_policies: false,
            used: FxHashSet::default(),
            uncertified: Vec::new(),
            again: VecDeque::new(),
            dirty: Vec::new(),
            buffer: ReadBuffer::new(),
            events: Events::default(),
            claims: None,
            draining: false,
            quiet_since: None,
            checked: shared.mesh.load().policy_generation(),
            mailbox,
            mesh_cache: Cache::new(MeshOf(Arc::clone(&shared))),
            credentials_cache: Cache::new(CredentialsOf(Arc::clone(&shared))),
            shared,
            config,
        })
    }

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
            }
            for event in &events {
                self.dispatch(event);
            }
            while let Some(due) = self.timers.next(self.now) {
                self.due(due);
            }
            self.flush_dirty();
        }
        Ok(())
    }

    fn sleep(&mut self) -> Option<Duration> {
        let flows = &self.flows;
        let now = Instant::now();
        self.timers
            .timeout(now, |key| flows.get(key).is_some_and(|flow| flow.phase != Phase::Open))
    }

    fn load_snapshots(&mut self) {
        let mesh = self.mesh_cache.load();
        if !Arc::ptr_eq(mesh, &self.mesh) {
            self.mesh = Arc::clone(mesh);
        }
        let credentials = self.credentials_cache.load();
        if !Arc::ptr_eq(credentials, &self.credentials) {
            self.credentials = Arc::clone(credentials);
        }
    }

    fn dispatch(&mut self, event: &Event) {
        match event.token.kind {
            Kind::Mailbox => self.read_mailbox(),
            Kind::Listener => self.accept(event.token.key()),
            Kind::Tunnel => self.tunnel_event(event.token.key(), event),
            Kind::Near => self.near_event(event.token.key(), event),
            Kind::Far => self.far_event(event.token.key(), event),
        }
    }

    fn due(&mut self, due: Due<Key<Flow>, Key<Tunnel>>) {
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
            Due::Accept => self.resume_accepting(),
            Due::Sweep => {
                self.sweep();
                self.sources.sweep(self.now);
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
                LoopMessage::Changed => {
                    self.certificates_changed();
                    self.mesh_changed(&MeshChange {
                        everything: true,
                        ..MeshChange::default()
                    });
                }
                LoopMessage::CertificatesChanged => self.certificates_changed(),
                LoopMessage::MeshChanged(change) => self.mesh_changed(&change),
                LoopMessage::DescriptorsShort => {
                    self.pods.values().for_each(|pod| pod.shrink());
                    self.pause_accepting(Use::Inbound);
                    self.pause_accepting(Use::Outbound);
                }
                LoopMessage::Drain => self.drain(),
            }
        }
    }

    fn hand_out(&mut self, pod: &LocalPod, waiter: Waiter, socket: std::os::fd::OwnedFd) {
        let unused = match waiter {
            Waiter::Flow(key) => self.dial_flow(key, socket),
            Waiter::Tunnel(key) => self.dial_tunnel(key, socket),
        };
        if let Some(socket) = unused {
            pod.return_socket(socket);
        }
    }

    fn add_pod(&mut self, pod: Arc<crate::pod::Pod>, listeners: Vec<(ListenerRole, std::os::fd::OwnedFd)>) {
        if self.draining {
            return;
        }
        let uid = Arc::clone(&pod.uid);
        let listening = listeners.iter().filter(|(role, _)| *role != ListenerRole::SynTap);
        let ports = listening.filter_map(|(role, fd)| {
            use std::os::fd::AsFd as _;
            let address = super::socket::local_address(fd.as_fd()).ok()?;
            Some((*role, address.port()))
        });
        let ports = ports.collect();
        let before = self.pods.remove(&uid);
        if before.is_some() {
            self.unlisten(&uid, true);
        }
        if !self.credentials.contains_key(&pod.identity) {
            let _ = self.shared.asks.send(Ask::Certificate(pod.identity.clone()));
        }
        tracing::debug!(pod = %uid, identity = %pod.identity, listeners = listeners.len(), "serving a pod");
        let pod = Rc::new(LocalPod::new(pod, ports, before.as_deref()));
        pod.refill(&self.shared.socket_requests);
        self.pods.insert(uid, Rc::clone(&pod));
        for (role, fd) in listeners {
            self.listen(&pod, role, fd);
        }
    }

    fn remove_pod(&mut self, uid: &Arc<str>) {
        self.unlisten(uid, true);
        for key in self.tunnels.keys() {
            if self.tunnels.get(key).is_some_and(|tunnel| tunnel.pod.pod.uid == *uid) {
                self.retire_tunnel(key);
            }
        }
        self.pods.remove(uid);
    }

    /// Certificates that tunnels wait for may be there.
    fn certificates_changed(&mut self) {
        self.load_snapshots();
        for key in std::mem::take(&mut self.uncertified) {
            self.certify(key);
        }
    }

    /// Something that connections wait for, or that open ones depend on, may be there.
    fn mesh_changed(&mut self, change: &MeshChange) {
        self.load_snapshots();
        let mut woken = if change.everything {
            self.parked.take_all()
        } else {
            self.parked.take(change.addresses.iter().copied())
        };
        if change.policies {
            woken.extend(self.parked.take_others());
        }
        for key in woken {
            if self.flows.get(key).is_some_and(|flow| flow.phase == Phase::Parked) {
                self.resolve(key);
            }
        }
        let generation = self.mesh.policy_generation();
        if std::mem::replace(&mut self.checked, generation) != generation {
            self.check_open_connections();
        }
        if change.everything {
            self.check_pool(|_| true);
        } else {
            self.check_pool(|address| change.addresses.contains(&address.to_canonical()));
        }
    }

    /// Says which addresses are in use: what nobody uses need not stay subscribed.
    fn report_used(&mut self) {
        if !self.mesh.on_demand() {
            return;
        }
        for (_, flow) in self.flows.iter_mut() {
            if flow.direction == Direction::Outbound {
                self.used.insert(flow.destination.ip());
            }
        }
        if !self.used.is_empty() {
            let used = self.used.drain().collect();
            // Control outlives the loops.
            let _ = self.shared.asks.send(Ask::Used(used));
        }
    }

    fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        // What is in the backlog belongs to whoever holds the listening sockets next.
        for key in self.listeners.keys() {
            if let Some(listener) = self.listeners.remove(key) {
                self.poll.forget(listener.fd());
            }
        }
        for key in self.tunnels.keys() {
            self.retire_tunnel(key);
        }
        tracing::info!(connections = self.flows.len(), tunnels = self.tunnels.len(), "draining");
    }

    /// Whether the last connection has ended. Tunnels without one are given [`PARTING`] to end in good order, and longer while
    /// their peers still take bytes: a peer whose node is gone never answers.
    fn is_drained(&mut self) -> bool {
        if !self.draining || !self.flows.is_empty() {
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
