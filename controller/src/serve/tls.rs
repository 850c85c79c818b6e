//! Accepting TLS connections, many at once, with a certificate that may change between two of them. A connection on which no
//! call is accepted in time is closed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::authority::{Connection, Strangers};

/// How long a client may take to say hello.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many may be at it. More wait in the listener's backlog.
const HANDSHAKES: usize = 1024;

/// Pause after `accept` failed, which is for want of descriptors as a rule.
const RETRY: Duration = Duration::from_millis(100);

/// Connections that have come through the handshake. Ends, with the listener, when the stream is dropped.
pub(super) fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    strangers: Strangers,
) -> ReceiverStream<io::Result<Accepted>> {
    let (ready, connections) = mpsc::channel(16);
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    tokio::spawn(async move {
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                },
                () = ready.closed() => return,
            };
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            let connection = strangers.open(peer);
            tokio::spawn(async move {
                // A socket that cannot be told is slower, not broken.
                let _ = stream.set_nodelay(true);
                let mut accepted = Accepted::new(connection);
                let shaken = tokio::select! {
                    shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => shaken,
                    () = &mut accepted.over => return tracing::debug!(%peer, "too many connections of strangers"),
                };
                drop(place);
                match shaken {
                    Ok(Ok(stream)) => {
                        accepted.stream = Some(stream);
                        // An error means that the server stops.
                        let _ = ready.send(Ok(accepted)).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "a client did not finish its TLS handshake in time"),
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

/// A connection after the handshake.
pub(super) struct Accepted {
    /// None before the handshake is over.
    stream: Option<TlsStream<TcpStream>>,
    connection: Connection,
    /// Ends when the connection is to be closed because no call was accepted.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Accepted {
    fn new(connection: Connection) -> Self {
        Self {
            stream: None,
            over: Box::pin(connection.clone().is_over()),
            connection,
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TlsStream<TcpStream>>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Connected for Accepted {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.connection.is_known() && self.over.as_mut().poll(context).is_ready() {
            tracing::debug!(source = %self.connection.source(), "closed a connection on which no call was accepted");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.stream()?.poll_read(context, into)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}
