//! gRPC over TLS on one port: discovery and certificates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use culvert_proto::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use culvert_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;

use crate::authority::{CertificateService, Placement};

mod discovery;
mod metrics;
mod nodes;
mod placement;
mod roots;
mod tls;

pub(crate) use discovery::Discovery;
pub(crate) use metrics::DiscoveryMetrics;
pub(crate) use nodes::Nodes;
pub(crate) use placement::{Placed, node_of_pod};

/// A node that is gone without a word is noticed after these two.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

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
    #[error("gRPC server")]
    Grpc(#[from] tonic::transport::Error),
}

/// Serves until `stop` turns true, and then until the open streams have ended.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve<P: Placement>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    discovery: Discovery,
    certificates: CertificateService<P>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let discovery = AggregatedDiscoveryServiceServer::new(discovery).max_decoding_message_size(MAX_REQUEST);
    let until = async move { discovery::stopped(&mut stop).await };
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(discovery)
        .add_service(IstioCertificateServiceServer::new(certificates))
        .serve_with_incoming_shutdown(tls::accept(listener, tls), until)
        .await?;
    Ok(())
}
