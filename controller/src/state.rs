//! Everything at one moment: what the source holds, and the resources made of it. It is shared and never changed; the next
//! moment has a state of its own.

use std::sync::Arc;

use culvert_objects::Loaded;

use crate::model::{Allocations, Refused, RouteStatuses};
use crate::placement::Placement;
use crate::snapshot::Snapshot;

/// What all tasks read.
#[derive(Debug, Default)]
pub struct State {
    /// The objects, and what is wrong with them.
    pub loaded: Arc<Loaded>,
    /// The resources made from them.
    pub snapshot: Snapshot,
    /// Which addresses were chosen for hosts without any.
    pub allocations: Allocations,
    /// What each route comes to at its parents, and what proxies refuse of it.
    pub routes: RouteStatuses,
    /// What proxies refuse.
    pub refused: Refused,
    /// Which identities run on which node.
    pub placement: Placement,
}
