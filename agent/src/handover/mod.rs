//! Handing pods to proxies: the server side of ZDS (`zds.proto`), one session for each connected proxy.
//!
//! Enrolment decides what a proxy is told; here is how. [`server`] accepts and reads the hello, a `session` sends one
//! message at a time and waits for its answer, [`listeners`] are the sockets that travel, `ports` makes room
//! for those that the proxy opens beside them, [`recover`] finds those that a
//! proxy holds from before this agent started, `waiting` resets connections for which no proxy comes.
//!
//! | a proxy that | meets |
//! |---|---|
//! | says a version we do not know, or garbage | the connection is closed, with its process id in the log |
//! | refuses a pod (an Ack with an error) | the pod stays captured (closed rather than open) and shows the refusal |
//! | is one of several, as during an upgrade | each gets every pod, the newest first |
//! | speaks V1, as Istio's ztunnel | the namespace alone; it opens its listeners itself, and the kernel programs notice |

mod addresses;
pub mod listeners;
pub(crate) mod ports;
pub(crate) mod recover;
pub mod same_node;
pub mod server;
mod session;
pub(crate) mod waiting;

use std::{os::fd::OwnedFd, sync::Arc};

use culvert_net::Netns;
use culvert_proto::zds::Version;
use tokio::sync::mpsc::UnboundedSender;

use self::{
    listeners::{Extras, Listeners},
    same_node::SameNodeSaid,
};
use crate::{kernel::Strictness, source::PodSpec};

/// A pod as it is handed over.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Who it is.
    pub spec: PodSpec,
    /// Its network namespace.
    pub netns: Arc<Netns>,
    /// Its listening sockets; none for a proxy that opens them itself.
    pub listeners: Option<Arc<Listeners>>,
    /// Which of them, beside those of every pod.
    pub extras: Extras,
}

/// What a session shall tell its proxy.
#[derive(Clone, Debug)]
pub enum Order {
    /// A pod to serve, in place of what it had of the same uid.
    Add(Box<Offer>),
    /// A pod that it has already.
    Keep(Arc<str>),
    /// A pod that it shall serve no longer.
    Remove(Arc<str>),
    /// Every pod has been named.
    SnapshotSent,
    /// Where it says that it serves: a map of the kernel programs.
    Serving(Arc<OwnedFd>),
    /// Whether a later proxy serves the same pods.
    Successor(bool),
    /// The pods, by uid, to which connections of other pods of the node may go past the proxy: all of them.
    SameNode(Vec<String>),
    /// Pairs that nobody uses: it shall forget them. To be told to proxies with [`Proxy::same_node_reports`] alone.
    SameNodeUnused(Vec<same_node::Pair>),
    /// Connections past the proxy that have ended, to be told to the same.
    SameNodeEnded(Vec<same_node::Ended>),
}

/// What sessions report.
#[derive(Debug)]
pub enum Event {
    /// A proxy said hello and waits for pods.
    Connected(Proxy),
    /// An answer to [`Order::Add`] or [`Order::Keep`].
    Answered {
        /// Which proxy.
        proxy: u64,
        /// Which pod.
        uid: Arc<str>,
        /// True for the answer to [`Order::Keep`].
        kept: bool,
        /// Why the proxy refused, if it did.
        error: Option<String>,
    },
    /// A proxy has the certificate of this pod.
    Certified(Arc<str>),
    /// Which ports of this pod are strict.
    Guarded(Arc<str>, Strictness),
    /// Which connections within the node may go past this proxy.
    SameNode(u64, SameNodeSaid),
    /// The answer to [`Order::SameNode`]: the proxy has said all that it knew.
    SameNodeKnown(u64),
    /// The answer to [`Order::Remove`]: the proxy accepts nothing more for the pod.
    LetGo {
        /// Which proxy.
        proxy: u64,
        /// Which pod.
        uid: Arc<str>,
    },
    /// The answer to [`Order::SnapshotSent`]: the proxy has all pods.
    Synced(u64),
    /// The proxy was asked to end, and waits until another serves its pods.
    Ending(u64),
    /// The proxy is gone.
    Disconnected(u64),
}

/// A connected proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Counts connections.
    pub id: u64,
    /// Its process id; 0 when it is in a pid namespace that we cannot see.
    pub pid: u32,
    /// What it said in its hello.
    pub version: Version,
    /// It answers connections that are held.
    pub holds: bool,
    /// It answers and forwards DNS queries.
    pub resolves: bool,
    /// It says which ports of pods are strict.
    pub guards: bool,
    /// It says by itself that it serves.
    pub serves: bool,
    /// It says which connections within the node may go past it.
    pub same_node: bool,
    /// It takes word of what went past it.
    pub same_node_reports: bool,
    orders: UnboundedSender<Order>,
}

impl Proxy {
    /// Tells the proxy something, in order. One that has just gone does not hear it; [`Event::Disconnected`] follows.
    pub fn tell(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// Which sockets it takes, beside those of every pod.
    pub fn extras(&self) -> Extras {
        Extras {
            hold: self.holds,
            dns: self.resolves,
        }
    }

    /// Whether it takes listening sockets; else it opens them itself.
    pub fn takes_listeners(&self) -> bool {
        self.version == Version::CulvertV1
    }
}
