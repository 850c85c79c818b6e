//! Accepting TLS connections, many at once, with a certificate that may change between two of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

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
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
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
            tokio::spawn(async move {
                // A socket that cannot be told is slower, not broken.
                let _ = stream.set_nodelay(true);
                let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
                drop(place);
                match shaken {
                    // Nobody listens any more: the server stops.
                    Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "a client did not finish its TLS handshake in time"),
                }
            });
        }
    });
    ReceiverStream::new(connections)
}
