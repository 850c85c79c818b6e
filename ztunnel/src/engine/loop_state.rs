//! What a loop owns, and the smallest things that are done with it.

use std::{collections::VecDeque, io, net::IpAddr, ops::Deref, os::fd::OwnedFd, rc::Rc, sync::Arc, time::Instant};

use arc_swap::{ArcSwap, Cache};
use culvert_dns::Names;
use culvert_identity::{Credentials, SpiffeId};
use culvert_state::Mesh;
use culvert_tunnel::{
    admission::Sources,
    arena::Arena,
    budget::Budget,
    failure::Failure,
    pool::{GroupKey, Pool},
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    buffers::ReadBuffer,
    config::EngineConfig,
    events::Events,
    flow::Flow,
    handshake_pool::{HandshakePool, Handshakes},
    keys::{FlowKey, FlowKind, ListenerKind, TunnelKey, TunnelKind},
    listener::Listener,
    parked::Parked,
    poll::{Mailbox, Poll, Token},
    pool_key::PoolKey,
    refusals::Refusals,
    resolvers::Resolvers,
    sockets::LocalPod,
    timer::{Due, Timers},
    tunnel::Tunnel,
};
use crate::{seam::Shared, telemetry::Load};

/// Certificates by identity.
pub(super) type CredentialMap = FxHashMap<SpiffeId, Arc<Credentials>>;

/// One event loop. Everything in it belongs to its thread. What it does is spread over the files of this folder by subject,
/// in the order that the folder's page tells: each calls only what stands before it. What must go the other way is said in
/// [`Loop::todo`].
pub(super) struct Loop {
    /// Which one it is, from 0.
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<EngineConfig>,
    pub(super) poll: Poll,
    pub(super) timers: Timers<FlowKey, TunnelKey>,
    /// Counts rounds.
    pub(super) round: u64,
    /// When this round began.
    pub(super) now: Instant,
    /// The mesh as of this round.
    pub(super) mesh: Arc<Mesh>,
    pub(super) credentials: Arc<CredentialMap>,
    pub(super) pods: FxHashMap<Arc<str>, Rc<LocalPod>>,
    pub(super) listeners: Arena<Listener, ListenerKind>,
    /// Listeners that are paused will be looked at again.
    pub(super) resuming: bool,
    /// Who opens tunnels, and how many.
    pub(super) sources: Sources,
    /// Where pods' DNS queries go.
    pub(super) resolvers: Resolvers,
    /// Addresses of endpoints that are known by their names.
    pub(super) names: Names<FlowKey>,
    /// Resolvers that are asked for names will be looked at.
    pub(super) naming: bool,
    /// What waits for resolvers will be looked at.
    pub(super) expecting: bool,
    /// What waits for the controller's word about names will be looked at.
    pub(super) holding: bool,
    /// Lines of the access log about tunnels that were refused.
    pub(super) refusals: Refusals,
    /// Of connections that go direct for want of a proxy at their peer's node.
    pub(super) went_direct: Refusals,
    /// Lines of the log about names that cannot be resolved.
    pub(super) unresolved: Refusals,
    /// Lines of the log about peers that misbehave.
    pub(super) complaints: Refusals,
    /// Accepted tunnels, the oldest first, whose peers had proved nothing when they were last looked at.
    pub(super) unproven: VecDeque<TunnelKey>,
    pub(super) flows: Arena<Flow, FlowKind>,
    pub(super) tunnels: Arena<Tunnel, TunnelKind>,
    /// Tunnels that there have been.
    pub(super) tunnels_made: u64,
    pub(super) pool: Pool<PoolKey, TunnelKey, FlowKey>,
    /// Flows that wait until something is known.
    pub(super) parked: Parked,
    /// Pods' questions that wait will be looked at.
    pub(super) asking: bool,
    /// Open connections wait for policies, until a deadline.
    pub(super) awaiting_policies: bool,
    /// Addresses that connections of pods went to since the last sweep.
    pub(super) used: FxHashSet<IpAddr>,
    /// Host names by which waypoints were found that connections went through since it was last said.
    pub(super) used_hosts: FxHashSet<Arc<str>>,
    /// Tunnels that wait for a certificate.
    pub(super) uncertified: Vec<TunnelKey>,
    /// What follows from what was just done, before anything else is.
    pub(super) todo: VecDeque<Todo>,
    /// Work that a budget cut off, for the next round.
    pub(super) again: VecDeque<Again>,
    /// Tunnels with something to send, at the end of the round.
    pub(super) dirty: Vec<TunnelKey>,
    pub(super) buffer: ReadBuffer,
    /// Handshakes that are with the threads that do their cryptography.
    pub(super) handshakes: Handshakes,
    /// What connections hold.
    pub(super) budget: Budget,
    /// Resets for want of room have been logged; once for each time that there is too little.
    pub(super) warned_of_room: bool,
    /// Memory for the events of a tunnel, between reads.
    pub(super) events: Events<'static>,
    /// On which held connections are claimed; made for the first.
    pub(super) claims: Option<OwnedFd>,
    pub(super) draining: bool,
    /// Since when there is no connection any more while draining.
    pub(super) quiet_since: Option<Instant>,
    /// The generation of policies against which open connections were checked.
    pub(super) checked: u64,
    /// What metrics say that is open.
    pub(super) load_shown: Load,
    pub(super) mailbox: Mailbox,
    mesh_cache: Cache<MeshOf, Arc<Mesh>>,
    credentials_cache: Cache<CredentialsOf, Arc<CredentialMap>>,
}

/// What follows from something, and is done where that can be done: as soon as what led to it is over.
#[derive(Debug)]
pub(super) enum Todo {
    /// Connections wait for a tunnel of this group, and one may take a stream.
    ServeWaiting(GroupKey),
    /// A tunnel that was just added to the pool is to be opened.
    Open(TunnelKey),
    /// An attempt to connect failed.
    Failed(FlowKey, Failure),
    /// The far side of a connection is there whose application still waits.
    Meet(FlowKey),
    /// A DNS query may have come on a connection to a resolver; and whether it has waited long enough for the controller's word.
    Ask(FlowKey, bool),
    /// Names of endpoints are to be asked for, or have been.
    Names,
    /// A tunnel may have come with its last handshake message.
    Read(TunnelKey),
    /// A peer takes less than is sent to it, on tunnels of this pod.
    Unsent(Arc<str>),
}

/// Work that is continued in the next round.
#[derive(Clone, Copy, Debug)]
pub(super) enum Again {
    /// Bytes of a flow, in either direction.
    Flow(FlowKey),
    /// Reading a tunnel.
    Tunnel(TunnelKey),
    /// Sending on a tunnel.
    Streams(TunnelKey),
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
        number: usize,
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
            number,
            handshakes: Handshakes::new(handshakes, mailbox.bell_handle()),
            budget: Budget::new(Arc::clone(&config.held)),
            warned_of_room: false,
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
            resolvers: Resolvers::default(),
            names: Names::default(),
            naming: false,
            expecting: false,
            holding: false,
            refusals: Refusals::new(config.admission.refusal_lines, now),
            went_direct: Refusals::new(config.admission.refusal_lines, now),
            unresolved: Refusals::new(config.admission.refusal_lines, now),
            complaints: Refusals::new(config.admission.refusal_lines, now),
            unproven: VecDeque::new(),
            flows: Arena::new(),
            tunnels: Arena::new(),
            tunnels_made: 0,
            pool: Pool::default(),
            parked: Parked::default(),
            asking: false,
            awaiting_policies: false,
            used: FxHashSet::default(),
            used_hosts: FxHashSet::default(),
            uncertified: Vec::new(),
            todo: VecDeque::new(),
            again: VecDeque::new(),
            dirty: Vec::new(),
            buffer: ReadBuffer::new(),
            events: Events::default(),
            claims: None,
            draining: false,
            quiet_since: None,
            checked: shared.mesh.load().policy_generation(),
            load_shown: Load::default(),
            mailbox,
            mesh_cache: Cache::new(MeshOf(Arc::clone(&shared))),
            credentials_cache: Cache::new(CredentialsOf(Arc::clone(&shared))),
            shared,
            config,
        })
    }

    /// Looks whether mesh or certificates have changed.
    pub(super) fn load_snapshots(&mut self) {
        let mesh = self.mesh_cache.load();
        if !Arc::ptr_eq(mesh, &self.mesh) {
            self.mesh = Arc::clone(mesh);
        }
        let credentials = self.credentials_cache.load();
        if !Arc::ptr_eq(credentials, &self.credentials) {
            self.credentials = Arc::clone(credentials);
        }
    }

    /// A new flow. Its time to connect runs.
    pub(super) fn add_flow(&mut self, flow: Flow) -> FlowKey {
        let deadline = flow.attempts.deadline;
        let key = self.flows.insert(flow);
        self.timers.set_deadline(deadline, key);
        key
    }

    /// Something is to be sent on this tunnel, at the end of the round.
    pub(super) fn touch(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if !tunnel.dirty {
            tunnel.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Reads a tunnel in the next round.
    pub(super) fn read_again(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut tunnel.queued, true) {
            self.again.push_back(Again::Tunnel(key));
        }
    }

    /// A tunnel's pause is over.
    pub(super) fn resume_tunnel(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if std::mem::take(&mut tunnel.paused) && tunnel.readable {
            self.read_again(key);
        }
    }
}
