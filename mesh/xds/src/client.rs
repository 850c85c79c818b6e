//! The client's side: subscriptions that outlive connections.
//!
//! ```text
//! Client::new(types) ── connect() ──> first requests ──> server
//!        ^                                                 │
//!        └── subscribe(), receive() ── ack or nack <── response
//! ```

use std::collections::{BTreeMap, BTreeSet};

use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource, Status};

use crate::WILDCARD;

/// gRPC's `INVALID_ARGUMENT`, with which a client refuses a response.
const INVALID_ARGUMENT: i32 = 3;

/// How a client subscribes to a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To everything that there is.
    Wildcard,
    /// To what it names, and to what the server thinks it needs from the start.
    OnDemand,
}

/// What a response changes, for one type.
#[derive(Debug)]
pub struct Update<'a> {
    /// The type URL.
    pub type_url: &'a str,
    /// New or changed resources.
    pub resources: &'a [Resource],
    /// Names that no longer exist, or were asked for and never existed.
    pub removed: &'a [String],
}

/// A resource that the client cannot use, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The resource's name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A response for a type that was never subscribed to. The connection is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent resources of type {0}, which nobody subscribed to")]
pub struct UnknownType(pub String);

/// All subscriptions of a client.
#[derive(Debug)]
pub struct Client {
    node: Node,
    types: BTreeMap<String, Subscription>,
}

#[derive(Debug)]
struct Subscription {
    mode: Mode,
    /// Named by the client, by resource name or alias.
    names: BTreeSet<String>,
    /// What is held, with versions, so that a reconnect costs only what changed meanwhile.
    versions: BTreeMap<String, String>,
}

impl Client {
    /// A client that subscribes to `types`, each in its mode, and calls itself `node`.
    pub fn new(node: Node, types: impl IntoIterator<Item = (&'static str, Mode)>) -> Self {
        let subscription = |mode| Subscription {
            mode,
            names: BTreeSet::new(),
            versions: BTreeMap::new(),
        };
        Self {
            node,
            types: types
                .into_iter()
                .map(|(url, mode)| (url.to_owned(), subscription(mode)))
                .collect(),
        }
    }

    /// The first requests on a new connection: everything wanted, and what is held already.
    pub fn connect(&self) -> Vec<DeltaDiscoveryRequest> {
        let mut requests: Vec<_> = self
            .types
            .iter()
            .map(|(url, subscription)| subscription.first(url))
            .collect();
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// Adds names to a type that is subscribed on demand. Nothing to send if all were there already.
    pub fn subscribe(
        &mut self,
        type_url: &str,
        names: impl IntoIterator<Item = String>,
    ) -> Option<DeltaDiscoveryRequest> {
        let subscription = self.types.get_mut(type_url)?;
        let new: Vec<String> = names
            .into_iter()
            .filter(|name| subscription.names.insert(name.clone()))
            .collect();
        (!new.is_empty() && subscription.mode == Mode::OnDemand).then(|| DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: new,
            ..Default::default()
        })
    }

    /// Gives names up. Nothing to send if none was there.
    pub fn unsubscribe(
        &mut self,
        type_url: &str,
        names: impl IntoIterator<Item = String>,
    ) -> Option<DeltaDiscoveryRequest> {
        let subscription = self.types.get_mut(type_url)?;
        let gone: Vec<String> = names
            .into_iter()
            .filter(|name| subscription.names.remove(name))
            .collect();
        (!gone.is_empty() && subscription.mode == Mode::OnDemand).then(|| DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_unsubscribe: gone,
            ..Default::default()
        })
    }

    /// Forgets that resources are held: their names were given up, and the client has dropped them.
    pub fn forget<'a>(&mut self, type_url: &str, resources: impl IntoIterator<Item = &'a str>) {
        if let Some(subscription) = self.types.get_mut(type_url) {
            for name in resources {
                subscription.versions.remove(name);
            }
        }
    }

    /// Takes a response in and returns its acknowledgement.
    ///
    /// `apply` uses what it can and returns what it cannot. A rejected resource that was never held is claimed without a
    /// version, so that after a reconnect the server sends it again, or says that it is gone.
    ///
    /// # Errors
    /// When the response is of a type that was never subscribed to.
    pub fn receive(
        &mut self,
        response: &DeltaDiscoveryResponse,
        apply: impl FnOnce(Update<'_>) -> Vec<Rejection>,
    ) -> Result<DeltaDiscoveryRequest, UnknownType> {
        let type_url = &response.type_url;
        let subscription = self
            .types
            .get_mut(type_url)
            .ok_or_else(|| UnknownType(type_url.clone()))?;
        let rejections = apply(Update {
            type_url,
            resources: &response.resources,
            removed: &response.removed_resources,
        });
        let rejected: BTreeSet<&str> = rejections.iter().map(|rejection| rejection.name.as_str()).collect();
        for resource in &response.resources {
            let name = resource.name.clone();
            if rejected.contains(name.as_str()) {
                subscription.versions.entry(name).or_default();
            } else {
                subscription.versions.insert(name, resource.version.clone());
            }
        }
        for name in &response.removed_resources {
            subscription.versions.remove(name);
        }
        Ok(DeltaDiscoveryRequest {
            type_url: type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: (!rejections.is_empty()).then(|| status(&rejections)),
            ..Default::default()
        })
    }
}

impl Subscription {
    fn first(&self, type_url: &str) -> DeltaDiscoveryRequest {
        let mut request = DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            initial_resource_versions: self.versions.clone().into_iter().collect(),
            ..Default::default()
        };
        if self.mode == Mode::OnDemand {
            // A first request that names nothing would mean the wildcard; this one says that it is not wanted.
            request.resource_names_subscribe = std::iter::once(WILDCARD.to_owned()).chain(self.names.clone()).collect();
            request.resource_names_unsubscribe = vec![WILDCARD.to_owned()];
        }
        request
    }
}

fn status(rejections: &[Rejection]) -> Status {
    let message: Vec<String> = rejections
        .iter()
        .map(|Rejection { name, reason }| format!("{name}: {reason}"))
        .collect();
    Status {
        code: INVALID_ARGUMENT,
        message: message.join("; "),
        details: vec![],
    }
}
