//! What reaches a loop from outside: pods that come and go, sockets, and news of the mesh.

use std::{
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    sync::Arc,
};

use culvert_accounting::Direction;
use culvert_control::Ask;
use culvert_state::{MeshChange, Pod, WaypointAt};

use super::{
    flow::Phase,
    loop_state::{Loop, Todo},
    socket,
    sockets::{LocalPod, Waiter},
};
use crate::seam::ListenerRole;

impl Loop {
    pub(super) fn hand_out(&mut self, pod: &LocalPod, waiter: Waiter, socket: OwnedFd) {
        let mut next = Some((waiter, socket));
        while let Some((waiter, socket)) = next.take() {
            let unused = match waiter {
                Waiter::Flow(key) => self.dial_flow(key, socket),
                Waiter::Tunnel(key) => self.dial_tunnel(key, socket),
            };
            next = unused.and_then(|socket| pod.return_socket(socket));
        }
    }

    pub(super) fn add_pod(&mut self, pod: Arc<Pod>, listeners: Vec<(ListenerRole, OwnedFd)>) {
        if self.draining {
            return;
        }
        let uid = Arc::clone(&pod.uid);
        let is_listening = |role: &ListenerRole| !matches!(role, ListenerRole::SynTap | ListenerRole::Dns);
        let listening = listeners.iter().filter(|(role, _)| is_listening(role));
        let ports = listening.filter_map(|(role, fd)| {
            let address = socket::local_address(fd.as_fd()).ok()?;
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
        let resolves = listeners.iter().any(|(role, _)| *role == ListenerRole::Dns);
        let pod = Rc::new(
            LocalPod::new(pod, ports, before.as_deref())
                .with_dns(resolves)
                .among(self.config.loops),
        );
        pod.refill(&self.shared.socket_requests);
        self.pods.insert(uid, Rc::clone(&pod));
        for (role, fd) in listeners {
            self.listen(&pod, role, fd);
        }
    }

    pub(super) fn remove_pod(&mut self, uid: &Arc<str>) {
        self.unlisten(uid, true);
        for key in self.tunnels.keys() {
            if self.tunnels.get(key).is_some_and(|tunnel| tunnel.pod.pod.uid == *uid) {
                self.retire_tunnel(key);
            }
        }
        self.pods.remove(uid);
        self.resolvers.close_own(uid);
        self.names.forget(uid);
        self.todo.push_back(Todo::Names);
    }

    /// Certificates that tunnels wait for may be there.
    pub(super) fn certificates_changed(&mut self) {
        self.load_snapshots();
        for key in std::mem::take(&mut self.uncertified) {
            self.certify(key);
        }
    }

    /// Something that connections wait for, or that open ones depend on, may be there.
    pub(super) fn mesh_changed(&mut self, change: &MeshChange) {
        self.load_snapshots();
        let mut woken = if change.everything {
            self.parked.take_all()
        } else {
            let mut woken = self.parked.take(change.addresses.iter().copied());
            woken.extend(self.parked.take_hosts(&change.hosts));
            woken
        };
        if change.policies {
            woken.extend(self.parked.take_others());
        }
        for key in woken {
            if self.flows.get(key).is_some_and(|flow| flow.phase == Phase::Parked) {
                self.resolve(key);
            }
        }
        if change.everything || !change.hosts.is_empty() {
            self.decide_again(false);
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

    /// The mesh changed at some addresses: no new stream goes to a workload that it no longer has at its address.
    fn check_pool(&mut self, changed: impl Fn(IpAddr) -> bool) {
        for group in self.pool.groups() {
            let Some(key) = self.pool.key(group).filter(|key| changed(key.tunnel.ip())) else {
                continue;
            };
            let workload = self.mesh.workload_at(key.tunnel.ip());
            if workload.is_some_and(|workload| workload.uid == key.workload) {
                continue;
            }
            tracing::debug!(workload = %key.workload, "closing the tunnels to a workload that is gone");
            let Some(left) = self.pool.abandon(group) else { continue };
            for tunnel in left.tunnels {
                self.retire_tunnel(tunnel);
            }
            for flow in left.waiting {
                if self.flows.get(flow).is_some_and(|flow| flow.phase == Phase::Queued) {
                    self.resolve(flow);
                }
            }
        }
    }

    /// Says which addresses are in use: what nobody uses need not stay subscribed.
    pub(super) fn report_used(&mut self) {
        if !self.mesh.on_demand() {
            return;
        }
        for (_, flow) in self.flows.iter_mut() {
            if flow.direction == Direction::Outbound {
                self.used.insert(flow.destination.ip());
                self.used_hosts
                    .extend(flow.waypoint.as_ref().and_then(WaypointAt::host).cloned());
                // No object names it.
                if flow.named.is_some() {
                    self.used.insert(flow.target.ip());
                }
            }
        }
        if !self.used.is_empty() {
            let used = self.used.drain().collect();
            // Control outlives the loops.
            let _ = self.shared.asks.send(Ask::Used(used));
        }
        if !self.used_hosts.is_empty() {
            let used = self.used_hosts.drain().collect();
            let _ = self.shared.asks.send(Ask::UsedHosts(used));
        }
    }
}
