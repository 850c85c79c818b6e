//! A client's tunnel, and the connections inside of it, each of which finds its filter chain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use culvert_hbone::{Authority, Baggage};
use culvert_tunnel::io::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    connection::Connection,
    direct::{self, Direct},
    hello::{Hello, hello},
    http,
    sniff::{Spoken, sniff},
    tcp,
    worker::Worker,
};
use crate::{
    config::listener::Port,
    telemetry::{Client, CountedIn},
};

/// Serves one client's tunnel to its end.
pub(super) async fn serve(worker: Worker, socket: TcpStream, peer: SocketAddr) {
    let inner = &worker.0;
    let Some(_open) = inner.tunnel() else {
        inner.telemetry.refused_tunnel("too many tunnels are open");
        tracing::warn!(%peer, "too many tunnels are open: another one is refused");
        return;
    };
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a client's socket takes no options");
    }
    let (mut requests, driver) = match inner.server.accept(socket, peer).await {
        Ok(accepted) => accepted,
        Err(failure) => {
            inner.telemetry.refused_tunnel("handshake");
            tracing::info!(%peer, %failure, "a client's tunnel failed");
            return;
        }
    };
    let driver = tokio::spawn(driver);
    let mut connections = JoinSet::new();
    let drained = inner.drained();
    tokio::pin!(drained);
    let mut draining = false;
    loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(request) => {
                    connections.spawn(connection(worker.clone(), request));
                }
                None => break,
            },
            () = &mut drained, if !draining => {
                // GOAWAY: what is under way ends, and what still comes is served.
                draining = true;
                requests.retire();
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(requests);
    while connections.join_next().await.is_some() {}
    // What was written last is still on its way.
    let _ = driver.await;
}

/// One connection inside of the tunnel.
async fn connection(worker: Worker, request: Request) {
    let inner = &worker.0;
    let client = Arc::new(client(&request));
    let refuse = |request: Request, status: u16, reason: &'static str| {
        inner.telemetry.refused_connection(reason);
        tracing::event!(
            target: culvert_telemetry::ACCESS,
            tracing::Level::INFO,
            src.addr = %client.address,
            src.identity = %client.principal,
            dst.authority = %request.authority(),
            status,
            reason,
            "connection refused"
        );
        request.refuse(status, reason);
    };
    let Some(_open) = inner.connection() else {
        return refuse(request, 503, "overloaded");
    };
    let snapshot = inner.state.load_full();
    let Some(chains) = &snapshot.chains else {
        return refuse(request, 503, "no configuration yet");
    };
    let destination = match request.authority() {
        Authority::Address(address) => *address,
        Authority::Name { .. } => return refuse(request, 404, "not an address of a service"),
    };
    let found = match chains.find(destination) {
        Some(port) => Some((port.clone(), None)),
        None => direct::find(&snapshot, destination).map(|(port, direct)| (port, Some(direct))),
    };
    let Some((port, direct)) = found else {
        return refuse(request, 404, "no service of this waypoint has this address and port");
    };
    // Whoever speaks HTTP is told by an answer to each request.
    if port.http.is_none() && !inner.has_memory_for_bytes() {
        return refuse(request, 503, "no memory");
    }
    let patience = chains.patience;
    drop(snapshot);
    let stream = request.accept(&[]);
    let Some(names) = &port.tls else {
        return by_protocol(worker, port, direct, client, destination, patience, stream).await;
    };
    let (found, stream) = match hello(stream, patience).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "a client's connection broke before it was known whether it speaks TLS");
            return;
        }
    };
    let Hello::Tls(name) = found else {
        return by_protocol(worker, port, direct, client, destination, patience, stream).await;
    };
    let chain = match &direct {
        Some(_) => direct::bytes(&port),
        None => names.find(name.as_deref()),
    };
    match (chain, direct::bytes(&port)) {
        (Some(chain), _) => tcp::serve(&worker, chain, direct, client, destination, stream).await,
        (None, Some(any)) => tcp::refuse_name(&worker, any, &client, destination, name.as_deref()),
        (None, None) => {}
    }
}

/// A connection that is not told apart by the name of a server.
async fn by_protocol<S>(
    worker: Worker,
    port: Port,
    direct: Option<Direct>,
    client: Arc<Client>,
    destination: SocketAddr,
    patience: Option<Duration>,
    stream: S,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match port {
        Port {
            http: None,
            tcp: Some(tcp),
            ..
        } => tcp::serve(&worker, &tcp, direct, client, destination, stream).await,
        Port {
            http: Some(http), tcp, ..
        } => {
            let (spoken, stream) = match sniff(stream, patience).await {
                Ok(sniffed) => sniffed,
                Err(error) => {
                    tracing::debug!(%error, "a client's connection broke before it was known what it speaks");
                    return;
                }
            };
            match (spoken, tcp) {
                (Spoken::Other, Some(tcp)) => tcp::serve(&worker, &tcp, direct, client, destination, stream).await,
                // hyper says what is wrong with what is no HTTP.
                (spoken, _) => {
                    let connection = Connection::new(worker, http, client, destination, direct);
                    http::serve(connection, stream, spoken == Spoken::Http2).await;
                }
            }
        }
        Port {
            http: None, tcp: None, ..
        } => match (direct::bytes(&port), direct) {
            (Some(chain), direct @ Some(_)) => tcp::serve(&worker, chain, direct, client, destination, stream).await,
            (Some(chain), None) => tcp::refuse_bytes(&worker, chain, &client, destination),
            (None, _) => {}
        },
    }
}

/// Who it is: by the tunnel, for what decides; by what it says of itself, for what only describes.
fn client(request: &Request) -> Client {
    let peer = request.peer();
    Client {
        address: peer.address.ip().to_canonical(),
        port: peer.address.port(),
        principal: peer.identity.as_str().into(),
        namespace: peer.identity.namespace().into(),
        baggage: request.header("baggage").map(Baggage::parse).unwrap_or_default(),
        counted_in: CountedIn::default(),
    }
}
