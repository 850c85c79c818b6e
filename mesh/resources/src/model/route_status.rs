//! What route objects, and policies for the endpoints of Services, come to, as the Gateway API's conditions say it.

use std::sync::Arc;

use culvert_objects::{Kind, ObjectName, PersistentMap};

/// What all route objects come to. A copy shares it.
pub type RouteStatuses = PersistentMap<(Kind, ObjectName), Arc<RouteStatus>>;

/// What a route object comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteStatus {
    /// Which version of the object this is about; none for one from a file.
    pub generation: Option<i64>,
    /// For each Service that it is for, and each waypoint that it names itself; other parents are left to others.
    pub parents: Vec<ParentStatus>,
}

/// What a route comes to at one parent, or a policy at one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    /// The parent's API group; empty for the core group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// The parent's namespace, if the route names it.
    pub namespace: Option<String>,
    /// The parent's name.
    pub name: String,
    /// The name of its port, if the route names it.
    pub section: Option<String>,
    /// Its port, if the route names it.
    pub port: Option<u16>,
    /// Accepted, then ResolvedRefs, and PartiallyInvalid where it holds.
    pub conditions: Vec<Condition>,
}

/// A condition of the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in a word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}
