//! Endpoints as something new makes them: those that were there before stay, with their connections and what is counted.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use crate::{cluster::Cluster, config::endpoints::EndpointConfig, endpoint::Endpoint};

/// A cluster whose endpoints follow a name, if it is one; `addresses` are those of all names.
pub(super) fn renamed(
    cluster: &Cluster,
    name: &Arc<str>,
    addresses: &FxHashMap<Arc<str>, Vec<IpAddr>>,
    refuse: &mut impl FnMut(&str, SocketAddr),
) -> Option<Arc<Cluster>> {
    let named = cluster.config.named()?;
    if !named.names().any(|known| known == name) {
        return None;
    }
    let of = |name: &str| addresses.get(name).map_or(&[][..], Vec::as_slice);
    let configs = named.endpoints(of, |of, address| {
        if *of == **name {
            refuse(of, address);
        }
    });
    let endpoints = made(configs, &cluster.endpoints);
    Some(Arc::new(Cluster::new(
        Arc::clone(&cluster.config),
        endpoints,
        Some(cluster),
    )))
}

/// Endpoints as configured; one that was there before stays the same.
pub(super) fn made(configs: Vec<EndpointConfig>, before: &[Arc<Endpoint>]) -> Arc<[Arc<Endpoint>]> {
    // Pods share no address while both live, and few addresses have more than one endpoint in a cluster.
    let mut by_address: FxHashMap<_, Vec<&Arc<Endpoint>>> = FxHashMap::default();
    for endpoint in before {
        by_address.entry(endpoint.config.address).or_default().push(endpoint);
    }
    let one = |config: EndpointConfig| {
        let there = by_address.get(&config.address).into_iter().flatten();
        let same = there.copied().find(|endpoint| endpoint.is(&config));
        match same {
            Some(same) if same.config == config => Arc::clone(same),
            same => Arc::new(Endpoint::new(config, same.map(|same| &**same))),
        }
    };
    configs.into_iter().map(one).collect()
}
