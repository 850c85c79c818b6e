//! gRPC over TLS on one port: discovery and certificates.
//!
//! | file | what |
//! |---|---|
//! | `tls` | accepts connections, and closes those on which nobody says who it is |
//! | `discovery` | opens streams of delta ADS: start here |
//! | `session` | one stream's task |
//! | `shared` | what all streams share |
//! | `view` | what each kind of caller sees |
//! | `streams` | which streams a change wakes |
//! | `lifetime` | when a stream ends |
//! | `callers` | who is connected, for the status page |
//! | `placement` | which identities run on which node |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use culvert_proto::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use culvert_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;

use crate::authority::{CertificateService, IssuancePolicy, Strangers};

mod callers;
mod discovery;
mod lifetime;
mod metrics;
mod placement;
mod roots;
mod session;
mod shared;
mod streams;
mod tls;
mod view;

pub(crate) use callers::Callers;
pub(crate) use discovery::Discovery;
pub(crate) use metrics::DiscoveryMetrics;
pub(crate) use placement::{Placed, node_of_pod};
pub(crate) use shared::Shared;
pub(crate) use streams::Streams;

/// A node that is gone without a word is noticed after these two.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls that one connection may have under way: a node asks for the certificates of its pods side by side.
const CALLS: u32 = 1024;

/// A client that comes back lists all that it holds: some sixty bytes for each resource.
const MAX_REQUEST: usize = 64 << 20;

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
    let discovery = AggregatedDiscoveryServiceServer::new(discovery).max_decoding_message_size(MAX_REQUEST);
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
