//! Connections to an endpoint's own address, rather than to its service's.
//!
//! Node proxies lead them here, too, since nobody gets to such an endpoint without its waypoint. The filters of the service's chain
//! decide about them; routes are for those who ask for the service, so none is looked at.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use culvert_envoy::names;
use culvert_envoy::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action, route_action::ClusterSpecifier,
    route_match::PathSpecifier,
};
use culvert_http::RouteTable;

use crate::{
    cluster::Cluster,
    config::{listener::Port, tcp_chain::TcpChain},
    state::Snapshot,
};

/// What takes the place of a port's routes and cluster.
#[derive(Clone)]
pub(super) struct Direct {
    /// The cluster with this endpoint alone.
    pub(super) cluster: Arc<Cluster>,
}

/// The port of which `address` is an endpoint. Of several it is one at which TLS is asked for, so that nobody gets past that, then one at
/// which the PROXY protocol is, and else the first by name.
pub(super) fn find(snapshot: &Snapshot, address: SocketAddr) -> Option<(Port, Direct)> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let mut found: Option<(&Port, Arc<Cluster>)> = None;
    for port in snapshot.chains.iter().flat_map(|chains| chains.ports()) {
        let Some(cluster) = own_cluster(snapshot, port) else {
            continue;
        };
        if cluster.endpoint_at(address).is_none() {
            continue;
        }
        let cluster = subset(snapshot, cluster, address).unwrap_or(cluster);
        if found.as_ref().is_some_and(|(_, other)| rank(cluster) >= rank(other)) {
            continue;
        }
        let Some(endpoint) = cluster.endpoint_at(address) else {
            continue;
        };
        let endpoint = [Arc::clone(endpoint)].into();
        let alone = Cluster::new(Arc::clone(&cluster.config), endpoint, Some(&**cluster));
        found = Some((port, Arc::new(alone)));
    }
    found.map(|(port, cluster)| (port.clone(), Direct { cluster }))
}

/// The subset of a port's cluster that an endpoint is of, if it is spoken to in another way there.
fn subset<'a>(snapshot: &'a Snapshot, own: &Cluster, address: SocketAddr) -> Option<&'a Arc<Cluster>> {
    let name = &own.config.name;
    let is_subset = |cluster: &&Arc<Cluster>| {
        let end = cluster.config.name.strip_prefix(&**name);
        end.is_some_and(|end| end.starts_with('/'))
    };
    let says_otherwise = |cluster: &&Arc<Cluster>| !cluster.config.is_spoken_to_like(&own.config);
    let all = snapshot.clusters.values().filter(is_subset).filter(says_otherwise);
    let here = all.filter(|cluster| cluster.endpoint_at(address).is_some());
    here.min_by_key(|cluster| rank(cluster))
}

/// The least is taken.
fn rank(cluster: &Cluster) -> (bool, bool, &str) {
    let config = &cluster.config;
    (config.tls.is_none(), config.proxy_protocol.is_none(), &config.name)
}

/// The one route of such a connection; none only if it could not be compiled.
pub(super) fn routes() -> Option<&'static RouteTable> {
    static ROUTES: OnceLock<Option<RouteTable>> = OnceLock::new();
    ROUTES
        .get_or_init(|| RouteTable::compile(&configuration()).ok())
        .as_ref()
}

/// Everything goes to the one endpoint; the cluster's name is not looked up.
fn configuration() -> RouteConfiguration {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(NAME.to_owned())),
        timeout: Some(Default::default()),
        ..RouteAction::default()
    };
    let route = Route {
        name: NAME.to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(action)),
        ..Route::default()
    };
    RouteConfiguration {
        name: NAME.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: NAME.to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
}

const NAME: &str = "direct";

/// The cluster of the service that a port is of.
fn own_cluster<'a>(snapshot: &'a Snapshot, port: &Port) -> Option<&'a Arc<Cluster>> {
    if let Some(http) = &port.http {
        // Routes and cluster of a port have one name.
        return snapshot.clusters.get(&http.routes);
    }
    // Its name is that of the port, below the scope that all clusters have in front: two parts.
    let chain = bytes(port)?;
    let (cluster, _) = chain.clusters.first()?;
    let (end, _) = cluster.match_indices('/').nth(1)?;
    let own = format!("{}/{}", &cluster[..end], names::port_of_chain(&chain.name));
    snapshot.clusters.get(own.as_str())
}

/// A chain of a port that copies bytes. All of them have the same filters, and the names that clients ask for are as routes: nobody looks
/// at them where an endpoint is dialled.
pub(super) fn bytes(port: &Port) -> Option<&Arc<TcpChain>> {
    let by_name = || port.tls.as_ref().and_then(|names| names.chains().next());
    port.tcp.as_ref().or_else(by_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_of_direct_connections_compiles() {
        assert!(routes().is_some());
    }
}
