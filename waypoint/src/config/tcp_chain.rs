//! A filter chain that ends in a TcpProxy.

use std::{sync::Arc, time::Duration};

use culvert_envoy::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier};
use culvert_http::{access_log::AccessLog, filters::Rbac};

use super::{
    http_chain,
    refusal::{Refusal, nothing_else},
    values::duration,
};

/// A chain that copies bytes.
#[derive(Debug)]
pub struct TcpChain {
    /// Its name, `SERVICE:PORT`, which ` tcp` or ` tls NAME` may follow.
    pub name: Arc<str>,
    /// Filters that decide about the connection, in order.
    pub filters: Vec<Rbac>,
    /// Where connections go, with weights.
    pub clusters: Vec<(Arc<str>, u32)>,
    /// How long a connection may be silent in both directions; none: any time.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may last; none: any time.
    pub age: Option<Duration>,
    /// Lines that are asked for; none where nothing is said of them.
    pub logs: Arc<Vec<AccessLog>>,
}

/// Reads a chain of these filters that ends in `proxy`.
pub(super) fn read(name: Arc<str>, filters: Vec<Rbac>, mut proxy: TcpProxy) -> Result<TcpChain, Refusal> {
    let clusters = match proxy.cluster_specifier.take() {
        Some(ClusterSpecifier::Cluster(cluster)) => vec![(cluster.into(), 1)],
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let clusters = weighted.clusters.into_iter();
            clusters.map(|cluster| (cluster.name.into(), cluster.weight)).collect()
        }
        None => Vec::new(),
    };
    if clusters.iter().all(|(_, weight)| *weight == 0) {
        return Err(Refusal::new("tcp_proxy.cluster_specifier", "names no cluster"));
    }
    let idle_timeout = match proxy.idle_timeout.take() {
        None => Some(Duration::from_secs(3600)),
        Some(time) => Some(duration("tcp_proxy.idle_timeout", &time)?).filter(|time| !time.is_zero()),
    };
    let age = proxy.max_downstream_connection_duration.take();
    let age = age.map(|time| duration("tcp_proxy.max_downstream_connection_duration", &time));
    proxy.stat_prefix.clear();
    let logs = std::mem::take(&mut proxy.access_log);
    let logs = Arc::new(http_chain::access_logs("tcp_proxy", &logs)?);
    nothing_else("tcp_proxy", &proxy)?;
    Ok(TcpChain {
        name,
        filters,
        clusters,
        idle_timeout,
        age: age.transpose()?,
        logs,
    })
}
