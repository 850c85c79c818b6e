//! A connection whose bytes are copied.

use std::{net::SocketAddr, sync::Arc};

use culvert_hbone::Forwarded;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};

use super::worker::Worker;
use crate::{
    config::listener::TcpChain,
    telemetry::{Client, TcpRecord},
    upstream::connect,
};

/// How often another endpoint is drawn where one was tried already.
const RESELECTIONS: u32 = 5;

/// Copies until both directions have ended, each by itself.
pub(super) async fn serve<S>(
    worker: &Worker,
    chain: &TcpChain,
    client: Arc<Client>,
    destination: SocketAddr,
    mut stream: S,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let inner = &worker.0;
    let service = chain.name.trim_end_matches(" tcp");
    let service = service.rsplit_once(':').map_or(service, |(service, _)| service);
    let mut record = TcpRecord::new(&inner.telemetry, &client, service, destination);
    let name = choose(&chain.clusters, fastrand::u64(..));
    record.cluster = Some(Arc::clone(name));
    let snapshot = inner.state.load_full();
    let Some(cluster) = snapshot.clusters.get(name) else {
        record.flags.set("NC");
        record.details = "cluster_not_found".to_owned();
        return;
    };
    let forwarded = Forwarded {
        client: Some(client.address),
        host: None,
    };
    let forwarded = forwarded.encode();
    let headers = [("forwarded", &*forwarded), ("baggage", &*inner.upstream.baggage)];
    let mut tried = Vec::new();
    let within = cluster.config.connect_timeout;
    let mut endpoint_stream = loop {
        let Some(endpoint) = cluster
            .choose(None, &tried)
            .filter(|endpoint| !tried.contains(&endpoint.id))
        else {
            record.flags.set(if tried.is_empty() { "UH" } else { "UF" });
            return;
        };
        tried.push(endpoint.id);
        record.endpoint = Some((endpoint.config.address, Arc::clone(&endpoint.config.about)));
        let upstream = &inner.upstream;
        match connect(&upstream.tunnels, &upstream.origin, endpoint, &headers, within).await {
            Ok(stream) => break stream,
            Err(failure) => record.details = failure.to_string(),
        }
    };
    let _open = cluster.load.connection();
    drop(snapshot);
    match copy_bidirectional(&mut stream, &mut endpoint_stream).await {
        Ok((received, sent)) => {
            record.received = received;
            record.sent = sent;
        }
        Err(error) => record.details = error.to_string(),
    }
}

/// By weight.
fn choose(clusters: &[(Arc<str>, u32)], random: u64) -> &Arc<str> {
    let total: u64 = clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut point = random % total.max(1);
    for (name, weight) in clusters {
        match point.checked_sub(u64::from(*weight)) {
            None => return name,
            Some(rest) => point = rest,
        }
    }
    &clusters[0].0
}
