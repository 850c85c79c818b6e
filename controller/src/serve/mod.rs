//! gRPC over TLS on one port: discovery and certificates.
//!
//! | file | what |
//! |---|---|
//! | `tls` | accepts connections, and closes those on which nobody says who it is |
//! | `discovery` | opens streams of ADS: start here |
//! | `session` | one stream's task |
//! | `translation`, `world` | streams of state-of-the-world ADS, as a session of delta ADS |
//! | `messages` | its responses, as they go over the wire |
//! | `shared` | what all streams share |
//! | `view` | what each kind of caller sees |
//! | `roots`, `secrets` | what is served beside the state: whom to trust, and Envoy's certificates |
//! | `streams` | which streams a change wakes |
//! | `lifetime` | when a stream ends |
//! | `callers` | who is connected, for the status page |
//! | `placement` | who may have which identity |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use culvert_proto::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;

use crate::authority::{CertificateService, IssuancePolicy, Strangers};

mod callers;
mod discovery;
mod lifetime;
mod messages;
mod metrics;
mod placement;
mod roots;
mod secrets;
mod session;
mod shared;
mod streams;
mod tls;
mod translation;
mod view;
mod world;

pub(crate) use callers::Callers;
pub(crate) use discovery::Discovery;
pub(crate) use metrics::DiscoveryMetrics;
pub(crate) use placement::{Placed, node_of_pod};
pub(crate) use secrets::SecretSource;
pub(crate) use shared::Shared;
pub(crate) use streams::Streams;

/// A node that is gone without a word is noticed after these two.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls that one connection may have under way: a node asks for the certificates of its pods side by side.
const CALLS: u32 = 1024;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("gRPC is no longer served on --xds-listen")]
    Grpc(#[from] tonic::transport::Error),
}

/// Serves until `stop` turns true, and then until the open streams have ended.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve<P: IssuancePolicy>(
    listener: TcpListener,
    strangers: Strangers,
    connection_age: Duration,
    tls: Arc<rustls::ServerConfig>,
    discovery: Discovery,
    certificates: CertificateService<P>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let until = async move { session::stopped(&mut stop).await };
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(CALLS)
        // From then on the client opens new streams on another connection, perhaps to another replica.
        .max_connection_age(connection_age)
        .add_service(discovery)
        .add_service(IstioCertificateServiceServer::new(certificates))
        .serve_with_incoming_shutdown(tls::accept(listener, tls, strangers), until)
        .await?;
    Ok(())
}
