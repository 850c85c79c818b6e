//! Names of what a loop holds. They say of which kind a thing is, and nothing of what it looks like: so flows, tunnels and
//! pods can hold each other's names.

use culvert_tunnel::arena::Key;

/// Keeps [`FlowKey`] apart from other keys.
#[derive(Debug)]
pub(super) enum FlowKind {}

/// Keeps [`TunnelKey`] apart from other keys.
#[derive(Debug)]
pub(super) enum TunnelKind {}

/// Keeps [`ListenerKey`] apart from other keys.
#[derive(Debug)]
pub(super) enum ListenerKind {}

/// Keeps [`LaneKey`] apart from other keys.
#[derive(Debug)]
pub(super) enum LaneKind {}

/// Keeps [`UpstreamKey`] apart from other keys.
#[derive(Debug)]
pub(super) enum UpstreamKind {}

/// Names a connection.
pub(super) type FlowKey = Key<FlowKind>;

/// Names a tunnel.
pub(super) type TunnelKey = Key<TunnelKind>;

/// Names a listening socket.
pub(super) type ListenerKey = Key<ListenerKind>;

/// Names a pod's resolver.
pub(super) type LaneKey = Key<LaneKind>;

/// Names a socket towards a resolver.
pub(super) type UpstreamKey = Key<UpstreamKind>;
