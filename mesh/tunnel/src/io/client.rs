//! Tunnels that we open to peers, shared by those who may share them.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use culvert_hbone::{Authority, Handshake, HandshakeError, OpenError, Role};
use culvert_identity::{IdentityError, SpiffeId};
use culvert_state::Endpoint;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout, timeout_at},
};

use super::{
    clock,
    driver::{Change, Driver},
    handshake::{Opened, Shaking},
    settings::Settings,
    socket::{CredentialSource, Origin, SocketSource},
    stream::Stream,
    tunnel::{Asking, Tunnel},
};
use crate::{
    arena::{Arena, Key},
    attempts::Attempts,
    failure::Failure,
    pool::{Capacity, GroupKey, Next, Pool},
};

/// What streams have in common that may share a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// On whose behalf.
    pub origin: Origin,
    /// The peer's tunnel port.
    pub node: SocketAddr,
    /// What is reached there, by a name that is never given to another: a workload's uid. Addresses are given to new pods.
    pub destination: Arc<str>,
    /// Who may answer. Empty: nobody.
    pub identities: Arc<[SpiffeId]>,
}

impl Destination {
    /// The listener of an endpoint.
    pub fn new(origin: Origin, endpoint: &Endpoint) -> Self {
        Self {
            origin,
            node: endpoint.tunnel,
            destination: Arc::clone(&endpoint.workload.uid),
            identities: Arc::clone(&endpoint.identities),
        }
    }
}

/// A pool of tunnels over a source of sockets. Dropping the last clone retires all tunnels: what is open goes on.
pub struct Tunnels<S: SocketSource>(Arc<Inner<S>>);

impl<S: SocketSource> Clone for Tunnels<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<S> {
    sockets: S,
    credentials: Arc<dyn CredentialSource>,
    settings: Arc<Settings>,
    number: AtomicU64,
    /// Taken before the locks of tunnels, never after.
    shared: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    pool: Pool<Destination, Key<Slot>, Waiter>,
    tunnels: Arena<Slot>,
}

impl PoolState {
    /// No new streams on this tunnel.
    fn retire(&self, key: Key<Slot>) {
        if let Some(tunnel) = self.tunnels.get(key).and_then(|slot| slot.tunnel.as_ref()) {
            tunnel.retire();
        }
    }
}

/// A tunnel of the pool.
struct Slot {
    /// None: it is being dialled.
    tunnel: Option<Tunnel>,
}

/// Somebody who waits for a tunnel.
struct Waiter {
    authority: Authority,
    headers: Vec<(String, String)>,
    given: oneshot::Sender<Result<Asking, Failure>>,
}

impl<S: SocketSource> Tunnels<S> {
    /// No tunnel yet.
    pub fn new(sockets: S, credentials: Arc<dyn CredentialSource>, settings: Settings) -> Self {
        Self(Arc::new(Inner {
            sockets,
            credentials,
            settings: Arc::new(settings),
            number: AtomicU64::new(0),
            shared: Mutex::default(),
        }))
    }

    /// Opens a stream to `authority` through a tunnel to `to`, which is dialled if there is none with a stream to spare. Where a tunnel
    /// fails before the peer has accepted the stream, no byte has left, and another is tried until `within` is over.
    ///
    /// # Errors
    /// The last attempt's failure, which names the peer; a peer's refusal is passed on at once.
    pub async fn open(
        &self,
        to: &Destination,
        authority: &Authority,
        headers: &[(&str, &str)],
        within: Duration,
    ) -> Result<Stream, Failure> {
        let mut attempts = Attempts::until(clock::now() + within);
        loop {
            attempts.number += 1;
            let attempt = self.attempt(to, authority, headers);
            let failure = match timeout_at(attempts.deadline.into(), attempt).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(too_late(&attempts, to, within)),
            };
            let Some(delay) = attempts.failed(&failure, false) else {
                return Err(failure);
            };
            if clock::now() + delay >= attempts.deadline {
                return Err(too_late(&attempts, to, within));
            }
            tracing::debug!(to = %to.node, %authority, %failure, ?delay, "another attempt at a stream");
            sleep(delay).await;
        }
    }

    async fn attempt(
        &self,
        to: &Destination,
        authority: &Authority,
        headers: &[(&str, &str)],
    ) -> Result<Stream, Failure> {
        let (given, giving) = oneshot::channel();
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let waiter = Waiter {
            authority: authority.clone(),
            headers: headers.collect(),
            given,
        };
        let group = self.0.shared.lock().pool.wait(to.clone(), waiter);
        self.0.serve(group);
        let asking = giving.await.unwrap_or_else(|_| {
            Err(Failure::Tunnel {
                to: to.node,
                why: "its destination is gone".into(),
                final_: true,
            })
        })?;
        asking.answer().await
    }

    /// Takes no new streams to the destinations that `gone` names. What is open goes on; those who wait for a tunnel fail.
    pub fn forget(&self, gone: impl Fn(&Destination) -> bool) {
        let shared = &mut *self.0.shared.lock();
        for group in shared.pool.groups() {
            if !shared.pool.key(group).is_some_and(&gone) {
                continue;
            }
            if let Some(left) = shared.pool.abandon(group) {
                left.tunnels.into_iter().for_each(|key| shared.retire(key));
            }
        }
    }

    /// Tunnels that are open, those that retire included.
    pub fn open_tunnels(&self) -> usize {
        let shared = &mut *self.0.shared.lock();
        shared
            .tunnels
            .iter_mut()
            .filter(|(_, slot)| slot.tunnel.is_some())
            .count()
    }
}

fn too_late(attempts: &Attempts, to: &Destination, after: Duration) -> Failure {
    let waiting = match attempts.last() {
        Some(failure) => failure.to_string(),
        None => format!("a tunnel to {}, or its peer's answer", to.node),
    };
    Failure::Timeout {
        after,
        waiting: waiting.into(),
    }
}

impl<S: SocketSource> Inner<S> {
    /// Hands streams to those who wait, and dials another tunnel if there are not enough.
    fn serve(self: &Arc<Self>, group: GroupKey) {
        let mut shared = self.shared.lock();
        let PoolState { pool, tunnels } = &mut *shared;
        loop {
            let capacity = |key| {
                let slot = tunnels.get(key);
                slot.and_then(|slot| slot.tunnel.as_ref())
                    .map_or(Capacity::Full, Tunnel::capacity)
            };
            match pool.next(group, |waiter| !waiter.given.is_closed(), capacity) {
                Next::Nothing => return,
                Next::Give(waiter, key) => {
                    let tunnel = tunnels.get(key).and_then(|slot| slot.tunnel.as_ref());
                    waiter.ask(tunnel);
                }
                Next::Dial => {
                    let key = tunnels.insert(Slot { tunnel: None });
                    pool.dialling(group, key);
                    if let Some(to) = pool.key(group) {
                        tokio::spawn(Arc::clone(self).dial(group, key, to.clone()));
                    }
                }
            }
        }
    }

    /// Opens a tunnel, and runs it to its end.
    async fn dial(self: Arc<Self>, group: GroupKey, key: Key<Slot>, to: Destination) {
        let within = self.settings.handshake_timeout;
        let opened = timeout(within, self.connect(group, key, &to)).await;
        let opened = opened.unwrap_or_else(|_| {
            Err(Failure::NoAnswer {
                to: to.node,
                after: within,
            })
        });
        let (tunnel, driver) = match opened {
            Ok(opened) => opened,
            Err(failure) => return self.dial_failed(group, key, &failure),
        };
        {
            let shared = &mut *self.shared.lock();
            if !shared.pool.joined(group, key) {
                tunnel.retire(); // its destination was forgotten
            }
            if let Some(slot) = shared.tunnels.get_mut(key) {
                slot.tunnel = Some(tunnel);
            }
        }
        self.serve(group);
        // The tunnel must not keep the pool.
        drop(self);
        driver.await;
    }

    fn dial_failed(&self, group: GroupKey, key: Key<Slot>, failure: &Failure) {
        tracing::debug!(%failure, "cannot open a tunnel");
        let shared = &mut *self.shared.lock();
        shared.tunnels.remove(key);
        for waiter in shared.pool.failed(group, key) {
            let _ = waiter.given.send(Err(failure.clone()));
        }
    }

    async fn connect(
        self: &Arc<Self>,
        group: GroupKey,
        key: Key<Slot>,
        to: &Destination,
    ) -> Result<(Tunnel, Driver<S::Socket>), Failure> {
        let Some(own) = self.credentials.credentials(&to.origin.identity) else {
            return Err(Failure::Tunnel {
                to: to.node,
                why: format!("no certificate for {} yet", to.origin.identity).into(),
                final_: false,
            });
        };
        let begin = || {
            let config = own
                .client_config(Arc::clone(&to.identities))
                .map_err(|error| match error {
                    IdentityError::Tls(error) => HandshakeError::Tls(error),
                    other => HandshakeError::Tls(rustls::Error::General(other.to_string())),
                })?;
            Handshake::client(config, ServerName::from(to.node.ip()))
        };
        let handshake = begin().map_err(|error| Failure::handshake(to.node, &error))?;
        let socket = self
            .sockets
            .connect(&to.origin, to.node)
            .await
            .map_err(|error| Failure::tunnel(to.node, &error))?;
        let pool: Weak<Self> = Arc::downgrade(self);
        let shaking = Shaking {
            socket,
            handshake,
            role: Role::Client,
            address: to.node,
            own,
            credentials: Arc::clone(&self.credentials),
            settings: Arc::clone(&self.settings),
            number: self.number.fetch_add(1, Ordering::Relaxed),
            watch: Box::new(move |change| {
                if let Some(pool) = pool.upgrade() {
                    pool.changed(group, key, &change);
                }
            }),
        };
        let Opened { shared, peer, driver } = shaking.open().await?;
        let tunnel = Tunnel {
            shared,
            peer,
            settings: Arc::clone(&self.settings),
        };
        Ok((tunnel, driver))
    }

    /// Something became of a tunnel.
    fn changed(self: &Arc<Self>, group: GroupKey, key: Key<Slot>, change: &Change) {
        let gone = {
            let shared = &mut *self.shared.lock();
            match change {
                Change::Free => None,
                Change::Trusted => {
                    if !shared.pool.joined(group, key) {
                        // Nobody will ask it for anything.
                        shared.retire(key);
                    }
                    None
                }
                Change::Leaves | Change::Doubted => {
                    shared.pool.left(group, key);
                    None
                }
                Change::Over => {
                    shared.pool.left(group, key);
                    shared.tunnels.remove(key)
                }
            }
        };
        drop(gone);
        self.serve(group);
    }
}

impl Waiter {
    /// Asks for the stream on a tunnel.
    fn ask(self, tunnel: Option<&Tunnel>) {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let asked = match tunnel.map(|tunnel| tunnel.open(&self.authority, &headers)) {
            Some(Ok(asking)) => Ok(asking),
            Some(Err(error @ OpenError::TooLarge(_))) => Err(Failure::bad_request(&error)),
            Some(Err(error)) => Err(Failure::TunnelLost(error.to_string().into())),
            None => Err(Failure::TunnelLost("it has ended".into())),
        };
        // Who no longer waits takes the question back.
        let _ = self.given.send(asked);
    }
}
