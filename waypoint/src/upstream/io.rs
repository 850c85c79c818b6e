//! A connection to an endpoint, through the tunnel or in clear, and TLS of the endpoint's own inside of it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use culvert_hbone::Authority;
use culvert_tunnel::{
    failure::{Failure, errno},
    io::{Destination, Dialer, Origin, Stream, Tunnels},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::client::TlsStream;

use super::proxy_protocol::{self, Ends};
use crate::{
    config::{cluster::ClusterConfig, endpoints::Way, keepalive::Keepalive},
    endpoint::Endpoint,
    endpoint_tls::{self, Purpose},
};

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) enum Io {
    Tunnel(Stream),
    Plain(TcpStream),
    Tls(Box<TlsStream<Io>>),
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// There is none that could carry it.
    #[error(transparent)]
    Way(#[from] Failure),
    /// The endpoint's own TLS did not come about.
    #[error(transparent)]
    Tls(#[from] endpoint_tls::Failure),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub(crate) purpose: Purpose,
    /// Between whom it is; none where the waypoint makes it for itself.
    pub(crate) ends: Option<Ends>,
}

/// Connects for `use_`, on behalf of `origin`. `headers` go with a `CONNECT`.
pub(super) async fn connect(
    tunnels: &Tunnels<Dialer>,
    origin: &Origin,
    endpoint: &Endpoint,
    headers: &[(&str, &str)],
    cluster: &ClusterConfig,
    use_: Use,
) -> Result<Io, ConnectError> {
    let within = cluster.connect_timeout;
    let deadline = Instant::now() + within;
    let mut io = way(tunnels, origin, endpoint, headers, cluster).await?;
    if let Some(version) = cluster.proxy_protocol {
        let to = endpoint.config.address;
        let head = proxy_protocol::head(version, use_.ends);
        let written = timeout_at(deadline, write(&mut io, &head)).await;
        let written = written.map_err(|_| Failure::NoAnswer { to, after: within })?;
        written.map_err(|error| Failure::Connect {
            to,
            error: errno(&error),
        })?;
    }
    let Some(tls) = &cluster.tls else { return Ok(io) };
    match timeout_at(deadline, tls.connect(io, use_.purpose)).await {
        Ok(connected) => Ok(Io::Tls(Box::new(connected?))),
        Err(_) => Err(endpoint_tls::Failure::timeout(within).into()),
    }
}

/// Writes all of it, at once: a server may speak first.
async fn write(io: &mut Io, bytes: &[u8]) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

/// The way to it, whatever is spoken there.
async fn way(
    tunnels: &Tunnels<Dialer>,
    origin: &Origin,
    endpoint: &Endpoint,
    headers: &[(&str, &str)],
    cluster: &ClusterConfig,
) -> Result<Io, Failure> {
    let (to, within) = (endpoint.config.address, cluster.connect_timeout);
    match &endpoint.config.way {
        Way::Tunnel { node, identity } => {
            let destination = Destination {
                origin: origin.clone(),
                node: *node,
                destination: endpoint.config.about.uid.as_str().into(),
                identities: [identity.clone()].into(),
            };
            let authority = Authority::Address(to);
            Ok(Io::Tunnel(
                tunnels.open(&destination, &authority, headers, within).await?,
            ))
        }
        Way::Plain => {
            let connected = timeout(within, TcpStream::connect(to)).await;
            let connected = connected.map_err(|_| Failure::NoAnswer { to, after: within })?;
            let socket = connected.map_err(|error| Failure::Connect {
                to,
                error: errno(&error),
            })?;
            let prepared = socket.set_nodelay(true).and_then(|()| match &cluster.keepalive {
                Some(keepalive) => keep_alive(&socket, keepalive),
                None => Ok(()),
            });
            prepared.map_err(|error| Failure::Local(errno(&error)))?;
            Ok(Io::Plain(socket))
        }
    }
}

fn keep_alive(socket: &TcpStream, keepalive: &Keepalive) -> io::Result<()> {
    let mut asked = TcpKeepalive::new();
    if let Some(time) = keepalive.time {
        asked = asked.with_time(time);
    }
    if let Some(interval) = keepalive.interval {
        asked = asked.with_interval(interval);
    }
    if let Some(probes) = keepalive.probes {
        asked = asked.with_retries(probes);
    }
    SockRef::from(socket).set_tcp_keepalive(&asked)
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            // An end without a word of TLS is an end, as for Envoy: HTTP knows by itself whether a body is whole.
            Self::Tls(stream) => match Pin::new(stream).poll_read(context, buffer) {
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                polled => polled,
            },
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tunnel(stream) => Pin::new(stream).poll_write(context, data),
            Self::Plain(socket) => Pin::new(socket).poll_write(context, data),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tunnel(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(stream) => Pin::new(stream).poll_flush(context),
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
