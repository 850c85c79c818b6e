//! A route configuration, ready to serve.

use std::sync::Arc;

use culvert_envoy::pb::envoy::config::route::v3::{
    RouteConfiguration, route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
};
use http::request::Parts;

use crate::config::refusal::Refusal;

/// A route configuration.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Route>,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    prefix: String,
    clusters: Vec<(Arc<str>, u32)>,
}

impl Routes {
    /// Compiles it.
    ///
    /// # Errors
    /// Where it says something that is not served.
    pub fn compile(message: &RouteConfiguration) -> Result<Self, Refusal> {
        let mut routes = Vec::new();
        for route in message.virtual_hosts.iter().flat_map(|host| &host.routes) {
            let matches = route.r#match.clone().unwrap_or_default();
            let Some(PathSpecifier::Prefix(prefix)) = matches.path_specifier else {
                return Err(Refusal::new("match", "only prefixes for now"));
            };
            let Some(Action::Route(action)) = &route.action else {
                return Err(Refusal::new("action", "only routes for now"));
            };
            let clusters = match &action.cluster_specifier {
                Some(ClusterSpecifier::Cluster(name)) => vec![(name.as_str().into(), 1)],
                Some(ClusterSpecifier::WeightedClusters(weighted)) => weighted
                    .clusters
                    .iter()
                    .map(|cluster| {
                        (
                            cluster.name.as_str().into(),
                            cluster.weight.as_ref().map_or(0, |w| w.value),
                        )
                    })
                    .collect(),
                _ => return Err(Refusal::new("cluster_specifier", "is not served")),
            };
            routes.push(Route {
                name: route.name.as_str().into(),
                prefix,
                clusters,
            });
        }
        Ok(Self { routes })
    }

    /// What it is, for people.
    pub fn dump(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    /// The route of a request.
    pub fn find(&self, request: &Parts) -> Option<&Route> {
        self.routes
            .iter()
            .find(|route| request.uri.path().starts_with(&route.prefix))
    }
}

impl Route {
    /// The cluster, by weight.
    pub fn cluster(&self, random: u64) -> &Arc<str> {
        let total: u64 = self.clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut point = random % total.max(1);
        for (name, weight) in &self.clusters {
            match point.checked_sub(u64::from(*weight)) {
                None => return name,
                Some(rest) => point = rest,
            }
        }
        &self.clusters[0].0
    }
}
