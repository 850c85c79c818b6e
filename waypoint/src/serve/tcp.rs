//! A connection whose bytes are copied.

use std::{
    future::pending,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use culvert_envoy::names;
use culvert_hbone::Forwarded;
use culvert_http::{Peer, filters::Attributes};
use culvert_telemetry::tcp::TcpSeries;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::{Instant, sleep_until},
};

use super::{direct::Direct, worker::Worker};
use crate::{
    config::tcp_chain::TcpChain,
    endpoint_tls::Purpose,
    silence::{Watched, silent},
    telemetry::{Client, TcpLogs, TcpRecord},
    upstream::{Ends, Use},
};

/// How often another endpoint is drawn where one was tried already.
const RESELECTIONS: u32 = 5;

/// Copies until both directions have ended, each by itself.
pub(super) async fn serve<S>(
    worker: &Worker,
    chain: &TcpChain,
    direct: Option<Direct>,
    client: Arc<Client>,
    destination: SocketAddr,
    stream: S,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let inner = &worker.0;
    let begun = Instant::now();
    let mut record = TcpRecord::new(&inner.telemetry, &client, service(&chain.name), destination);
    if !chain.logs.is_empty() {
        record.logs = Some(TcpLogs {
            logs: Arc::clone(&chain.logs),
            lines: inner.lines.clone(),
            spans: Arc::clone(&inner.spans),
        });
    }
    if let Some(details) = denied(chain, &client, destination, &mut record) {
        record.is_denied = true;
        record.details = details;
        return;
    }
    let cluster = match direct {
        Some(direct) => direct.cluster,
        None => {
            let name = choose(&chain.clusters, fastrand::u64(..));
            record.cluster = Some(Arc::clone(name));
            let Some(cluster) = inner.state.load().clusters.get(name).cloned() else {
                record.flags.set("NC");
                record.details = "cluster_not_found".to_owned();
                return;
            };
            cluster
        }
    };
    record.cluster = Some(Arc::clone(&cluster.config.name));
    let cluster = match cluster.at(destination) {
        Ok(cluster) => cluster,
        Err(why) => {
            record.flags.set("UH");
            record.details = why.to_string();
            return;
        }
    };
    let forwarded = Forwarded {
        client: Some(client.address),
        host: None,
    };
    let forwarded = forwarded.encode();
    let headers = [("forwarded", &*forwarded), ("baggage", &*inner.upstream.baggage)];
    // As with Envoy, a connection beyond the limit is closed, and none waits.
    let Some(_open) = cluster.connection(false) else {
        record.overflow();
        "upstream_cx_overflow".clone_into(&mut record.details);
        return;
    };
    let use_ = Use {
        purpose: Purpose::Bytes,
        ends: Some(Ends {
            source: SocketAddr::new(client.address, client.port),
            destination,
        }),
    };
    let mut tried = Vec::new();
    let (mut to_endpoint, series) = loop {
        let chosen = cluster.choose(None, RESELECTIONS, &tried);
        let Some(endpoint) = chosen.filter(|endpoint| !tried.contains(&endpoint.id)) else {
            record.flags.set(if tried.is_empty() { "UH" } else { "UF" });
            return;
        };
        tried.push(endpoint.id);
        record.endpoint = Some((endpoint.config.address, Arc::clone(&endpoint.config.about)));
        let connecting = inner.upstream.connect(endpoint, &headers, &cluster.config, use_);
        match connecting.await {
            Ok(stream) => break (stream, record.opened(endpoint.is_in_tunnel())),
            Err(failure) => record.details = failure.to_string(),
        }
    };
    let stream = Watched::new(stream);
    let moved = stream.moved();
    let mut stream = Counting { stream, series };
    record.details = tokio::select! {
        copied = copy_bidirectional(&mut stream, &mut to_endpoint) => match copied {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        },
        () = silent(chain.idle_timeout, || moved.at()) => "tcp_idle_timeout".to_owned(),
        () = old(chain.age, begun) => {
            record.flags.set("DT");
            "max_connection_duration".to_owned()
        }
    };
    (record.received, record.sent) = moved.bytes();
}

/// Ends so long after the connection began; never without a time.
async fn old(age: Option<Duration>, begun: Instant) {
    match age.and_then(|age| begun.checked_add(age)) {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

/// Closes a connection of TLS that asks for a name which no chain of the port is for.
pub(super) fn refuse_name(worker: &Worker, chain: &TcpChain, client: &Arc<Client>, to: SocketAddr, name: Option<&str>) {
    let mut record = TcpRecord::new(&worker.0.telemetry, client, service(&chain.name), to);
    record.flags.set("NR");
    record.details = match name {
        Some(name) => format!("filter_chain_not_found{{server name {name}}}"),
        None => "filter_chain_not_found{no server name}".to_owned(),
    };
}

/// Closes a connection that is not TLS, at a port that has chains for TLS alone.
pub(super) fn refuse_bytes(worker: &Worker, chain: &TcpChain, client: &Arc<Client>, to: SocketAddr) {
    let mut record = TcpRecord::new(&worker.0.telemetry, client, service(&chain.name), to);
    record.flags.set("NR");
    record.details = "filter_chain_not_found{no TLS}".to_owned();
}

/// The service that a chain is of.
fn service(chain: &str) -> &str {
    let port = names::port_of_chain(chain);
    port.rsplit_once(':').map_or(port, |(service, _)| service)
}

/// Why a policy refuses the connection, if one does. What others say of it is noted.
fn denied(chain: &TcpChain, client: &Client, destination: SocketAddr, record: &mut TcpRecord) -> Option<String> {
    let (request, ()) = http::Request::new(()).into_parts();
    let peer = Peer {
        principal: Some(&client.principal),
        address: Some(SocketAddr::new(client.address, client.port)),
        destination: Some(destination),
    };
    let attributes = Attributes {
        request: &request,
        peer: &peer,
        tokens: None,
    };
    for remark in chain.filters.iter().filter_map(|rbac| rbac.remark(&attributes)) {
        record.remark(&remark);
    }
    let decisions = chain.filters.iter().map(|rbac| rbac.decide(&attributes));
    let refusal = decisions.into_iter().find(|access| !access.allowed)?;
    Some(refusal.details())
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

/// The client's side, whose bytes are counted while the connection lasts.
struct Counting<S> {
    stream: Watched<S>,
    series: Arc<TcpSeries>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        self.series.transferred(0, read as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, data))?;
        self.series.transferred(written as u64, 0);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
