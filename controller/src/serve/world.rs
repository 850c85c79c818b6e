//! State of the world: the older form of discovery, told in terms of the delta one that the state machine speaks.
//!
//! In it a client sends all names that it wants each time, and a response has all resources of a type, or of the names that were asked
//! for those that have changed. Nothing is said of what is gone, but by leaving it out of a type that is asked for as a whole. What a
//! client holds is kept here, since it may ask for it again: Envoy does for the endpoints of a cluster that has changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use culvert_envoy::{CLUSTER_TYPE, LISTENER_TYPE};
use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use prost_types::Any;

/// Types that a client without names asks for as a whole. Of others it asks for nothing then.
const WHOLE: [&str; 2] = [CLUSTER_TYPE, LISTENER_TYPE];

/// What one client has asked for and holds.
#[derive(Debug, Default)]
pub(super) struct World {
    types: HashMap<String, Known>,
    /// The number of the last response.
    responses: u64,
}

/// What is known of one type.
#[derive(Debug, Default)]
struct Known {
    names: BTreeSet<String>,
    held: BTreeMap<String, Any>,
    /// The last response, until it is answered.
    awaited: Option<Awaited>,
    /// The nonce of the last response.
    nonce: String,
}

/// A response that the client has yet to answer.
#[derive(Debug)]
struct Awaited {
    /// The nonce of the delta response that it was made of; none where it was made again of what is held.
    delta: Option<String>,
}

/// What follows from a message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    /// For the state machine.
    pub(super) request: Option<DeltaDiscoveryRequest>,
    /// For the client.
    pub(super) response: Option<DiscoveryResponse>,
}

impl World {
    /// Takes in what a client says.
    pub(super) fn ask(&mut self, request: DiscoveryRequest) -> Told {
        let whole = WHOLE.contains(&request.type_url.as_str());
        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        let mut delta = DeltaDiscoveryRequest {
            node: request.node,
            type_url: request.type_url.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        let Some(known) = self.types.get_mut(&request.type_url) else {
            if names.is_empty() && !whole {
                return Told::default();
            }
            delta.resource_names_subscribe = names.iter().cloned().collect();
            let known = Known {
                names,
                ..Known::default()
            };
            self.types.insert(request.type_url, known);
            return Told::request(delta);
        };
        if request.response_nonce != known.nonce {
            // It was sent before the last response came; what the client says to that counts.
            return Told::default();
        }
        let awaited = known.awaited.take();
        let is_again = awaited.is_none() && request.error_detail.is_none() && names == known.names;
        delta.resource_names_subscribe = names.difference(&known.names).cloned().collect();
        delta.resource_names_unsubscribe = known.names.difference(&names).cloned().collect();
        for name in &delta.resource_names_unsubscribe {
            known.held.remove(name);
        }
        known.names = names;
        if is_again && !known.nonce.is_empty() {
            let held = known.held.values().cloned().collect();
            return Told {
                response: Some(self.respond(&request.type_url, held, None)),
                ..Told::default()
            };
        }
        if let Some(nonce) = awaited.and_then(|awaited| awaited.delta) {
            delta.response_nonce = nonce;
            delta.error_detail = request.error_detail;
        }
        let says_nothing = delta.response_nonce.is_empty()
            && delta.resource_names_subscribe.is_empty()
            && delta.resource_names_unsubscribe.is_empty();
        match says_nothing {
            true => Told::default(),
            false => Told::request(delta),
        }
    }

    /// Takes in what the state machine says.
    pub(super) fn answer(&mut self, response: DeltaDiscoveryResponse) -> Told {
        let whole = WHOLE.contains(&response.type_url.as_str());
        let known = self.types.entry(response.type_url.clone()).or_default();
        for name in &response.removed_resources {
            known.held.remove(name);
        }
        let mut changed = Vec::new();
        for resource in response.resources {
            let Some(body) = resource.resource else { continue };
            if !whole {
                changed.push(body.clone());
            }
            known.held.insert(resource.name, body);
        }
        if whole {
            changed = known.held.values().cloned().collect();
        } else if changed.is_empty() {
            // There is no way to say that something is gone.
            return Told::request(DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                ..DeltaDiscoveryRequest::default()
            });
        }
        Told {
            response: Some(self.respond(&response.type_url, changed, Some(response.nonce))),
            ..Told::default()
        }
    }

    fn respond(&mut self, type_url: &str, resources: Vec<Any>, delta: Option<String>) -> DiscoveryResponse {
        self.responses += 1;
        let nonce = self.responses.to_string();
        let known = self.types.entry(type_url.to_owned()).or_default();
        known.nonce.clone_from(&nonce);
        known.awaited = Some(Awaited { delta });
        DiscoveryResponse {
            version_info: nonce.clone(),
            resources,
            type_url: type_url.to_owned(),
            nonce,
            ..DiscoveryResponse::default()
        }
    }
}

impl Told {
    fn request(request: DeltaDiscoveryRequest) -> Self {
        Self {
            request: Some(request),
            response: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_envoy::ENDPOINT_TYPE;
    use culvert_proto::discovery::Resource;

    use super::*;

    fn ask(type_url: &str, nonce: &str, names: &[&str]) -> DiscoveryRequest {
        DiscoveryRequest {
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DiscoveryRequest::default()
        }
    }

    fn answer(type_url: &str, nonce: &str, resources: &[&str], removed: &[&str]) -> DeltaDiscoveryResponse {
        let resource = |name: &&str| Resource {
            name: (*name).to_owned(),
            resource: Some(Any {
                type_url: (*name).to_owned(),
                value: Vec::new(),
            }),
            ..Resource::default()
        };
        DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            nonce: nonce.to_owned(),
            resources: resources.iter().map(resource).collect(),
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryResponse::default()
        }
    }

    fn sent(told: Told) -> (Vec<String>, String) {
        let response = told.response.unwrap();
        let names = response.resources.into_iter().map(|body| body.type_url);
        (names.collect(), response.nonce)
    }

    #[test]
    fn a_type_that_is_asked_for_as_a_whole_comes_whole_and_without_what_is_gone() {
        let mut world = World::default();
        assert!(world.ask(ask(CLUSTER_TYPE, "", &[])).request.is_some());
        let first = sent(world.answer(answer(CLUSTER_TYPE, "a", &["one", "two"], &[])));
        assert_eq!(first, (vec!["one".to_owned(), "two".to_owned()], "1".to_owned()));
        let told = world.ask(ask(CLUSTER_TYPE, "1", &[]));
        assert_eq!(told.request.unwrap().response_nonce, "a");
        let second = sent(world.answer(answer(CLUSTER_TYPE, "b", &["three"], &["one"])));
        assert_eq!(second, (vec!["three".to_owned(), "two".to_owned()], "2".to_owned()));
        // What was said before that came counts no longer.
        assert_eq!(world.ask(ask(CLUSTER_TYPE, "1", &[])), Told::default());
        let mut refused = ask(CLUSTER_TYPE, "2", &[]);
        refused.error_detail = Some(Default::default());
        let told = world.ask(refused).request.unwrap();
        assert!(told.error_detail.is_some() && told.response_nonce == "b");
        let all_gone = sent(world.answer(answer(CLUSTER_TYPE, "c", &[], &["two", "three"])));
        assert_eq!(all_gone, (Vec::new(), "3".to_owned()));
    }

    #[test]
    fn names_are_told_as_what_is_new_and_what_is_gone_and_what_is_asked_again_is_answered_again() {
        let mut world = World::default();
        assert_eq!(world.ask(ask(ENDPOINT_TYPE, "", &[])), Told::default());
        let told = world.ask(ask(ENDPOINT_TYPE, "", &["one", "two"]));
        assert_eq!(told.request.unwrap().resource_names_subscribe, ["one", "two"]);
        let (names, nonce) = sent(world.answer(answer(ENDPOINT_TYPE, "a", &["one", "two"], &[])));
        assert_eq!(names, ["one", "two"]);
        let told = world
            .ask(ask(ENDPOINT_TYPE, &nonce, &["three", "two"]))
            .request
            .unwrap();
        assert_eq!(
            (
                told.response_nonce.as_str(),
                told.resource_names_subscribe,
                told.resource_names_unsubscribe
            ),
            ("a", vec!["three".to_owned()], vec!["one".to_owned()])
        );
        // Only what has changed, and nothing where nothing is there.
        let (names, nonce) = sent(world.answer(answer(ENDPOINT_TYPE, "b", &["two"], &["three"])));
        assert_eq!(names, ["two"]);
        assert!(
            world
                .ask(ask(ENDPOINT_TYPE, &nonce, &["three", "two"]))
                .request
                .is_some()
        );
        let told = world.answer(answer(ENDPOINT_TYPE, "c", &[], &["three"]));
        assert_eq!(told.request.unwrap().response_nonce, "c");
        // A cluster is another, and its endpoints are asked for once more.
        let again = world.ask(ask(ENDPOINT_TYPE, &nonce, &["three", "two"]));
        assert_eq!(again.request, None);
        let (names, nonce) = sent(again);
        assert_eq!(names, ["two"]);
        assert_eq!(
            world.ask(ask(ENDPOINT_TYPE, &nonce, &["three", "two"])),
            Told::default()
        );
    }
}
