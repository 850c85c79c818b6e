//! What monitor and worker say to each other, one prost message a packet over their `SEQPACKET` pair.
//!
//! Both ends are this program, of the same version by construction (the worker is the monitor's own executable), so the
//! format may change freely. Descriptors travel beside the messages that say so.

use std::os::fd::BorrowedFd;

use prost::Message;

/// The most sockets handed over in one message: fewer than the worker keeps back, so that a message that does not fit
/// entirely is rare. Where more were asked for, the next message follows at once.
pub(crate) const BATCH: u32 = 32;

/// From the monitor to the worker.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ToWorker {
    #[prost(oneof = "Order", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub(crate) order: Option<Order>,
}

/// What the monitor says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Order {
    /// First of all: what the worker cannot read for itself once it has no privilege. Repeated when a file changes.
    #[prost(message, tag = "1")]
    Secrets(Secrets),
    /// A pod and its listening sockets: one descriptor for each of `roles`.
    #[prost(message, tag = "2")]
    PodAdded(PodAdded),
    /// The pod is gone or has left the mesh. The text is its uid.
    #[prost(string, tag = "3")]
    PodRemoved(String),
    /// Every pod that the agent had at first has been sent.
    #[prost(bool, tag = "4")]
    Snapshot(bool),
    /// Unconnected sockets as descriptors. The text is the pod's uid.
    #[prost(string, tag = "5")]
    Sockets(String),
    /// Accept nothing more; end when the last connection has ended.
    #[prost(bool, tag = "6")]
    Drain(bool),
    /// To be answered by [`Report::Alive`] when every loop has come round to it.
    #[prost(bool, tag = "7")]
    Probe(bool),
    /// Unbound UDP sockets as descriptors, for one event loop.
    #[prost(message, tag = "8")]
    Datagrams(Datagrams),
    /// The pods to which connections of other pods of the node may go past the proxy.
    #[prost(message, tag = "9")]
    SameNode(culvert_proto::zds::SameNodeWanted),
    /// Pairs of pods that nobody uses.
    #[prost(message, tag = "10")]
    SameNodeUnused(culvert_proto::zds::SameNodeUnused),
    /// Connections that have gone past the proxy, and have ended.
    #[prost(message, tag = "11")]
    SameNodeEnded(culvert_proto::zds::SameNodeEnded),
}

/// Files that belong to root.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Secrets {
    /// The node's bearer token for the controller.
    #[prost(string, tag = "1")]
    pub(crate) token: String,
    /// PEM roots by which the controller's own certificate is checked.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) controller_ca: Vec<u8>,
    /// Addresses of the resolvers in the container's `/etc/resolv.conf`, as it was at the start.
    #[prost(string, repeated, tag = "3")]
    pub(crate) resolvers: Vec<String>,
}

/// A pod of this node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodAdded {
    #[prost(string, tag = "1")]
    pub(crate) uid: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
    #[prost(string, tag = "4")]
    pub(crate) service_account: String,
    /// Four or sixteen bytes each.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub(crate) addresses: Vec<Vec<u8>>,
    /// What each descriptor is: values of `culvert_proto::zds::SocketRole`.
    #[prost(int32, repeated, tag = "6")]
    pub(crate) roles: Vec<i32>,
}

/// From the worker to the monitor.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ToMonitor {
    #[prost(oneof = "Report", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub(crate) report: Option<Report>,
}

/// What the worker says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Report {
    /// Privileges are gone and the loops run.
    #[prost(bool, tag = "1")]
    Ready(bool),
    /// The stock of unconnected sockets of a pod runs low.
    #[prost(message, tag = "2")]
    NeedSockets(NeedSockets),
    /// The last connection has ended after [`Order::Drain`].
    #[prost(bool, tag = "3")]
    Drained(bool),
    /// A pod's certificate is there, once for each pod. The text is its uid.
    #[prost(string, tag = "4")]
    Certified(String),
    /// A pod's listening sockets were lost on their way, because the worker could open no more descriptors: send the pod
    /// again. The text is its uid.
    #[prost(string, tag = "5")]
    PodLost(String),
    /// Which ports of a pod are strict, when it becomes known and whenever it changes.
    #[prost(message, tag = "6")]
    Guard(culvert_proto::zds::Guard),
    /// The answer to [`Order::Probe`].
    #[prost(bool, tag = "7")]
    Alive(bool),
    /// An event loop has DNS queries of a pod to forward, and no sockets for it.
    #[prost(message, tag = "8")]
    NeedDatagrams(Datagrams),
    /// Which connections may, to one of these, whenever it changes.
    #[prost(message, tag = "9")]
    SameNode(culvert_proto::zds::SameNode),
}

/// A request for sockets.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NeedSockets {
    #[prost(string, tag = "1")]
    pub(crate) uid: String,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
}

/// UDP sockets in a pod's network namespace, asked for or given.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Datagrams {
    #[prost(string, tag = "1")]
    pub(crate) uid: String,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
    /// Counted from 0.
    #[prost(uint32, tag = "3")]
    pub(crate) event_loop: u32,
}

/// Encodes an order for the worker.
pub(crate) fn order(order: Order) -> Vec<u8> {
    ToWorker { order: Some(order) }.encode_to_vec()
}

/// Encodes a report for the monitor.
pub(crate) fn report(report: Report) -> Vec<u8> {
    ToMonitor { report: Some(report) }.encode_to_vec()
}

/// Borrows descriptors for sending.
pub(crate) fn borrow<'a, T: std::os::fd::AsFd + 'a>(
    descriptors: impl IntoIterator<Item = &'a T>,
) -> Vec<BorrowedFd<'a>> {
    descriptors.into_iter().map(std::os::fd::AsFd::as_fd).collect()
}
