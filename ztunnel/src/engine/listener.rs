//! Listening sockets in pods.

use std::{os::fd::OwnedFd, rc::Rc};

use culvert_tunnel::admission::Bucket;

use super::{keys::LaneKey, sockets::LocalPod, unanswered::Tap};
use crate::{descriptors::Use, seam::ListenerRole};

/// Connections accepted from one listener per round. The rest waits its turn, so that arrivals do not starve what is
/// open.
pub(super) const BUDGET: usize = 64;

/// The same for tunnels: each is a handshake to come.
const TUNNEL_BUDGET: usize = 16;

/// A listening socket in a pod.
#[derive(Debug)]
pub(super) struct Listener {
    /// Shared with what answers from it.
    pub(super) fd: Rc<OwnedFd>,
    pub(super) pod: Rc<LocalPod>,
    pub(super) role: ListenerRole,
    /// What is to be read, where nothing is accepted.
    pub(super) tap: Option<Rc<Tap>>,
    /// Whose resolver's queries arrive there, where nothing is accepted either.
    pub(super) lane: Option<LaneKey>,
    /// The last round in which it had arrivals, and how many it took then at most.
    pub(super) round: u64,
    pub(super) burst: usize,
    /// In the epoll set; otherwise arrivals stay in the backlog until the loop looks at it again.
    pub(super) watched: bool,
    pub(super) arrivals: Bucket,
}

impl Listener {
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(super) fn r#use(&self) -> Use {
        match self.role {
            ListenerRole::Outbound | ListenerRole::SynTap | ListenerRole::Dns => Use::Outbound,
            ListenerRole::InboundPlaintext | ListenerRole::InboundHbone => Use::Inbound,
        }
    }

    pub(super) fn budget(&self) -> usize {
        match self.role {
            ListenerRole::InboundHbone => TUNNEL_BUDGET,
            ListenerRole::Outbound | ListenerRole::SynTap | ListenerRole::Dns | ListenerRole::InboundPlaintext => {
                BUDGET
            }
        }
    }

    /// Its pod, and where that one's SYNs are seen.
    pub(super) fn tap(&self) -> Option<(Rc<LocalPod>, Rc<Tap>)> {
        Some((Rc::clone(&self.pod), Rc::clone(self.tap.as_ref()?)))
    }
}
