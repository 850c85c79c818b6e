//! What the reconciler does with connections that were open before capture (see [`Existing`](super::existing::Existing)).

use std::{collections::BTreeMap, io, sync::Arc};

use super::{Reconciler, existing::Existing, plan::Phase, upkeep::is_forwarding_source};
use crate::kernel::sock_diag::{self, Connection};

/// Looks between two at connections that are still open.
const LOOKS: u32 = 5;

impl Reconciler {
    /// Looks for what a pod has open that is not captured, now that all it opens is. `may_close` only where capture has just
    /// begun: what an earlier agent left open is only shown.
    pub(super) fn find_existing(&mut self, uid: &Arc<str>, may_close: bool) {
        let Some(entry) = self.pods.get(uid) else { return };
        let Some(place) = entry.place.clone() else { return };
        if !may_close && entry.existing != Existing::default() {
            return;
        }
        let name = entry.spec.name.clone();
        let addresses = entry.spec.addresses.clone();
        let listed = sock_diag::connections(&place.netns).and_then(|all| {
            let is_outside = |found: &Connection| {
                let remote = found.remote.ip();
                let is_inside = remote.is_loopback() || remote.is_unspecified() || addresses.contains(&remote);
                !is_inside && !is_forwarding_source(remote)
            };
            let outside: Vec<Connection> = all.into_iter().filter(is_outside).collect();
            self.kernel().uncaptured(outside).map_err(io::Error::other)
        });
        let mut existing = Existing::default();
        match listed {
            Ok(open) => (existing.found, existing.open) = (open.len(), open),
            Err(error) => existing.problem = Some(format!("cannot list its connections: {error}")),
        }
        if existing.found > 0 {
            let peers: Vec<String> = existing.peers().map(|peer| peer.to_string()).collect();
            let (connections, peers) = (existing.found, peers.join(" "));
            tracing::warn!(pod = %name, connections, peers, "the pod has connections from before it was captured, in plaintext until they end");
        }
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.existing = existing;
        }
        if may_close {
            self.close_existing(uid);
        }
    }

    /// Closes them where the pod's namespace asks for it.
    pub(super) fn close_existing(&mut self, uid: &Arc<str>) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        let Some(place) = entry.place.clone() else { return };
        if entry.existing.open.is_empty() || !self.closing.contains(&entry.spec.name.namespace) {
            return;
        }
        let before = entry.existing.open.len();
        let closed = sock_diag::destroy(&place.netns, &entry.existing.open);
        entry.existing.problem = closed.err().map(|error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => {
                "cannot be closed: the kernel was built without CONFIG_INET_DIAG_DESTROY; restart the pod".to_owned()
            }
            _ => format!("cannot be closed: {error}"),
        });
        self.follow_existing(uid);
        let Some(entry) = self.pods.get_mut(uid) else { return };
        let gone = before - entry.existing.open.len();
        entry.existing.closed += gone;
        self.closed += gone as u64;
        let (pod, problem) = (&entry.spec.name, entry.existing.problem.as_deref());
        tracing::info!(%pod, connections = gone, problem, "closed connections from before the pod was captured");
    }

    /// Closes what is open in namespaces that have just asked for it.
    pub(super) fn close_all_existing(&mut self) {
        let captured = self.pods.iter().filter(|(_, entry)| entry.phase == Phase::Captured);
        let uids: Vec<Arc<str>> = captured.map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.close_existing(&uid);
        }
    }

    /// Notices that some have ended.
    pub(super) fn follow_all_existing(&mut self) {
        if !self.looks.is_multiple_of(LOOKS) {
            return;
        }
        let some = self.pods.iter().filter(|(_, entry)| !entry.existing.open.is_empty());
        let uids: Vec<Arc<str>> = some.map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.follow_existing(&uid);
        }
    }

    /// What there is to show, by pod.
    pub(super) fn existing(&self) -> BTreeMap<Arc<str>, Existing> {
        let some = self
            .pods
            .iter()
            .filter(|(_, entry)| entry.existing != Existing::default());
        some.map(|(uid, entry)| (uid.clone(), entry.existing.clone())).collect()
    }

    fn follow_existing(&mut self, uid: &Arc<str>) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        let Some(place) = &entry.place else { return };
        if let Ok(all) = sock_diag::connections(&place.netns) {
            let is_open = |known: &Connection| all.iter().any(|found| found.cookie() == known.cookie());
            entry.existing.open.retain(is_open);
        }
    }
}
