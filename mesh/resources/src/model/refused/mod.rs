//! What proxies have refused of what they were told, said of the objects that it was made of: as findings, as conditions of routes and policies,
//! and of the Gateway whose waypoint it is.
//!
//! A proxy keeps what it had before of a resource that it refuses. So an object that says something else now is not in force as it is
//! written, and nothing in the object itself shows it. `names` finds names in what the proxy says, `routed::made_of` the objects.

mod message;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use culvert_envoy::LISTENER_TYPE;
use culvert_objects::{Finding, Kind, ObjectName};
use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use serde::{Deserialize, Serialize};

use super::reader::Reader;
use super::routed::made_of::{self, Made};
use super::{Condition, Model, Origin, ParentStatus, RouteStatus, RouteStatuses, origin};
pub(super) use message::STAYS;
pub(super) use names::is_named;
pub use names::place_of;

/// The type of the condition, which is there as long as a proxy refuses something.
pub const IN_FORCE: &str = "culvert.dev/InForce";
/// Its reason.
pub const REFUSED_BY_PROXY: &str = "RefusedByProxy";

/// Of how many objects one refusal is said at most.
const MOST_OBJECTS: usize = 32;

/// A resource that a proxy has refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// The waypoint that the proxy is of, `NAMESPACE/GATEWAY`; none for that of a node.
    pub waypoint: Option<String>,
    /// The waypoint's pod, `NAMESPACE/POD`, or the node.
    pub proxy: String,
    /// The resource's type.
    pub type_url: String,
    /// Its name; none where the proxy does not say which one of several it was.
    pub name: Option<String>,
    /// The proxy's own message, in one line and not too long.
    pub message: String,
}

/// What refusals come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// One for each object and refusal.
    pub findings: Vec<Finding>,
    /// What is to be said of waypoints, by their Gateway.
    pub gateways: BTreeMap<ObjectName, OfGateway>,
    of_routes: BTreeMap<(Kind, ObjectName), Vec<At>>,
}

/// What the pods of a waypoint refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfGateway {
    /// All of it, for people.
    pub message: String,
    /// Whether it is a listener: then nothing that changes at any port comes to be.
    pub is_listener: bool,
}

/// That a part of an object is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct At {
    /// The Service or ServiceEntry and its port; none where all parts are meant.
    place: Option<(ObjectName, u16)>,
    message: String,
}

impl Model {
    /// What refusals come to. Those of pods and Gateways that are gone come to nothing.
    pub fn refused(&self, refusals: &BTreeSet<Refusal>) -> Refused {
        let mut refused = Refused::default();
        let mut said: BTreeSet<(&Option<String>, &str, &Option<String>, &str)> = BTreeSet::new();
        let reader = self.reader();
        for refusal in refusals {
            let same = (&refusal.waypoint, &*refusal.type_url, &refusal.name, &*refusal.message);
            // The pods of a waypoint say the same, and so do nodes; they are in order.
            if self.is_there(refusal) && said.insert(same) {
                refused.add(&reader, refusal);
            }
        }
        refused.findings.sort();
        refused.findings.dedup();
        refused
    }

    fn is_there(&self, refusal: &Refusal) -> bool {
        let Some(waypoint) = &refusal.waypoint else { return true };
        let is_pod = |(namespace, pod)| self.objects.pod(namespace, pod).is_some();
        let gateway = object(waypoint);
        refusal.proxy.split_once('/').is_some_and(is_pod)
            && gateway.is_some_and(|gateway| self.objects.gateways.get(&gateway).is_some())
    }
}

impl Refused {
    /// Whether nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// What routes and policies come to, with what is refused of them. What was so `before` is the same object.
    pub fn within(&self, routes: &RouteStatuses, before: &RouteStatuses) -> RouteStatuses {
        let mut routes = routes.clone();
        for (reference, refused) in &self.of_routes {
            let (_, name) = reference;
            if let Some(status) = routes.get(reference) {
                let status = with(status, name, refused);
                let same = before.get(reference).filter(|before| ***before == status);
                let status = same.cloned().unwrap_or_else(|| Arc::new(status));
                routes.insert(reference.clone(), status);
            }
        }
        routes
    }

    fn add(&mut self, reader: &Reader<'_>, refusal: &Refusal) {
        let waypoint = refusal.waypoint.as_deref().and_then(object);
        let mut of_object = |kind: Kind, name: &ObjectName, message: &str| {
            let finding = Finding::of_object(kind, name, "", message.to_owned());
            self.findings.push(finding);
        };
        let Some(waypoint) = waypoint else {
            let message = message(&format!("the proxy of node {}", refusal.proxy), refusal);
            match refusal
                .name
                .as_deref()
                .and_then(|name| of_node(reader, &refusal.type_url, name))
            {
                Some((kind, name)) => of_object(kind, &name, &message),
                None => self.findings.push(Finding {
                    object: None,
                    ..Finding::of_object(Kind::Node, &ObjectName::cluster(&*refusal.proxy), "", message)
                }),
            }
            return;
        };
        let own = message(&format!("the waypoint's pod {}", refusal.proxy), refusal);
        of_object(Kind::Gateway, &waypoint, &own);
        let others = message(&format!("the waypoint {waypoint}"), refusal);
        let name = refusal.name.as_deref();
        let made = name.map(|name| made_of::objects(reader, &waypoint, &refusal.type_url, name, &refusal.message));
        let all = made.into_iter().flatten();
        let all =
            all.flat_map(|Made { place, objects }| objects.into_iter().map(move |object| (place.clone(), object)));
        for (place, (kind, name)) in all.take(MOST_OBJECTS) {
            of_object(kind, &name, &others);
            let at = At {
                place,
                message: others.clone(),
            };
            let of_route = self.of_routes.entry((kind, name)).or_default();
            if !of_route.contains(&at) {
                of_route.push(at);
            }
        }
        let of_gateway = self.gateways.entry(waypoint).or_default();
        if !of_gateway.message.is_empty() {
            of_gateway.message += "; ";
        }
        of_gateway.message += &own;
        of_gateway.is_listener |= refusal.type_url == LISTENER_TYPE;
    }
}

/// `NAMESPACE/NAME`.
fn object(name: &str) -> Option<ObjectName> {
    let (namespace, name) = name.split_once('/')?;
    Some(ObjectName::new(namespace, name))
}

fn message(who: &str, refusal: &Refusal) -> String {
    message::message(who, &refusal.type_url, refusal.name.as_deref(), &refusal.message)
}

/// The status of a route with what is refused of it, at the parents that are meant; at all where none is known to be.
fn with(status: &RouteStatus, name: &ObjectName, refused: &[At]) -> RouteStatus {
    let mut status = status.clone();
    let is_meant = |at: &At, parent: &ParentStatus| {
        let namespace = parent.namespace.as_deref().unwrap_or(&name.namespace);
        at.place.as_ref().is_some_and(|(object, port)| {
            *object.name == *parent.name
                && *object.namespace == *namespace
                && parent.port.is_none_or(|asked| asked == *port)
        })
    };
    let mut messages: Vec<Vec<&str>> = vec![Vec::new(); status.parents.len()];
    for at in refused {
        let is_known = status.parents.iter().any(|parent| is_meant(at, parent));
        for (parent, messages) in status.parents.iter().zip(&mut messages) {
            if !is_known || is_meant(at, parent) {
                messages.push(&at.message);
            }
        }
    }
    for (parent, messages) in status.parents.iter_mut().zip(messages) {
        if !messages.is_empty() {
            parent.conditions.push(Condition {
                kind: IN_FORCE,
                holds: false,
                reason: REFUSED_BY_PROXY,
                message: messages.join("; "),
            });
        }
    }
    status
}

/// The object that a resource of node proxies was made of, if there is one.
fn of_node(reader: &Reader<'_>, type_url: &str, name: &str) -> Option<(Kind, ObjectName)> {
    match type_url {
        AUTHORIZATION_TYPE => match origin(name)? {
            Origin::Object(kind, name) | Origin::NotEnforced(kind, name) => Some((kind, name)),
            Origin::Strict | Origin::Waypoints(_) => None,
        },
        ADDRESS_TYPE => made_of::address(reader, name),
        _ => None,
    }
}
