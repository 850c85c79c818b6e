//! The route table: a [`RouteConfiguration`] compiled, and the search in it. [`hosts`] chooses a virtual host, [`index`] narrows its
//! routes down to a few candidates, which are tried in their order.

mod hosts;
mod index;

use std::sync::Arc;

use culvert_envoy::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use http::request::Parts;

use crate::error::{CompileError, Within as _, take};
use crate::request::{Peer, host};
use crate::route::{Levels, Route};
use hosts::Hosts;
use index::Index;

/// A compiled route configuration.
#[derive(Debug)]
pub struct RouteTable {
    name: String,
    hosts: Hosts,
    virtual_hosts: Vec<Virtual>,
}

/// What a search has found.
#[derive(Clone, Debug)]
pub enum Found {
    /// This route.
    Route(Arc<Route>),
    /// No virtual host or no route: the answer is 404 without a body, with details `route_not_found`.
    NoRoute,
}

#[derive(Debug)]
struct Virtual {
    routes: Vec<Arc<Route>>,
    index: Index,
}

impl RouteTable {
    /// Compiles a route configuration.
    ///
    /// # Errors
    /// Where it is not valid, as Envoy sees it, and where anything is set in it that is not served: with the names of the virtual host, the
    /// route and the field.
    pub fn compile(configuration: &RouteConfiguration) -> Result<Self, CompileError> {
        take!(configuration => RouteConfiguration {
            name, virtual_hosts, response_headers_to_add, response_headers_to_remove, request_headers_to_add,
            request_headers_to_remove, most_specific_header_mutations_wins, ignore_port_in_host_matching, validate_clusters,
            metadata, max_direct_response_body_size_bytes,
        } unserved {
            vhds, internal_only_headers, cluster_specifier_plugins, request_mirror_policies, vhost_header,
            ignore_path_parameters_in_path_matching, typed_per_filter_config, route_specifiers,
        });
        // Metadata is for other components. Clusters come and go by themselves, as Envoy has it where routes come by RDS.
        let _ = (metadata, validate_clusters);
        let _ = (
            response_headers_to_add,
            response_headers_to_remove,
            request_headers_to_add,
            request_headers_to_remove,
        );
        let _ = most_specific_header_mutations_wins;
        let levels = Levels::of_table(configuration)?;
        let mut hosts = Hosts::new(*ignore_port_in_host_matching);
        let mut compiled = Vec::with_capacity(virtual_hosts.len());
        let limit = max_direct_response_body_size_bytes
            .as_ref()
            .map_or(4096, |limit| limit.value) as usize;
        for (number, host) in virtual_hosts.iter().enumerate() {
            let place = || format!("virtual host {:?}", host.name);
            for domain in &host.domains {
                hosts.add(domain, number).within(place)?;
            }
            compiled.push(Virtual::compile(host, &levels, limit).within(place)?);
        }
        Ok(Self {
            name: name.clone(),
            hosts,
            virtual_hosts: compiled,
        })
    }

    /// The configuration's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first route that matches, of the virtual host whose domain fits best.
    pub fn find(&self, request: &Parts, peer: &Peer<'_>) -> Found {
        let found = self
            .hosts
            .find(host(request))
            .and_then(|number| self.virtual_hosts[number].find(request, peer));
        found.map_or(Found::NoRoute, |route| Found::Route(Arc::clone(route)))
    }

    /// Every route, in order: what a program looks at to know which clusters it needs.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.virtual_hosts.iter().flat_map(|host| &host.routes)
    }
}

impl Virtual {
    fn compile(host: &VirtualHost, levels: &Levels<'_>, limit: usize) -> Result<Self, CompileError> {
        if host.domains.is_empty() {
            return Err(CompileError::missing("domains"));
        }
        let levels = levels.with_host(host)?;
        let mut routes = Vec::with_capacity(host.routes.len());
        let mut index = Index::default();
        for (number, route) in host.routes.iter().enumerate() {
            let compiled = Route::compile(route, &levels, limit).within(|| match route.name.as_str() {
                "" => format!("route {number}"),
                name => format!("route {name:?}"),
            })?;
            index.add(compiled.matcher.path.key(), number);
            routes.push(Arc::new(compiled));
        }
        index.finish();
        Ok(Self { routes, index })
    }

    fn find(&self, request: &Parts, peer: &Peer<'_>) -> Option<&Arc<Route>> {
        let fits = |number: usize| self.routes[number].matcher.matches(request, peer);
        self.index
            .first(request.uri.path(), fits)
            .map(|number| &self.routes[number])
    }
}

#[cfg(test)]
mod tests;
