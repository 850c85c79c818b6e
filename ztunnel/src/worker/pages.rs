//! The ports on which the proxy tells of itself.

use std::{io, net::SocketAddr, sync::Arc};

use culvert_control::Served;
use culvert_telemetry::Logging;
use tokio::{net::TcpListener, sync::Notify};

use crate::{admin, cli::Cli, readiness::Readiness, seam::Shared};

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub(crate) struct CannotListen {
    address: SocketAddr,
    source: io::Error,
}

/// Opens the admin, metrics and readiness ports; what is returned is notified when somebody asks the proxy to quit.
pub(super) async fn serve(
    cli: &Cli,
    logging: Logging,
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    readiness: &Arc<Readiness>,
) -> Result<Arc<Notify>, CannotListen> {
    let drain = Arc::new(Notify::new());
    let pages = admin::pages(shared, served, readiness, logging, Arc::clone(&drain));
    let ports = [
        (cli.admin_listen, pages.admin),
        (cli.metrics_listen, pages.metrics),
        (cli.readiness_listen, pages.readiness),
    ];
    for (address, routes) in ports {
        let listener = listen(address).map_err(|source| CannotListen { address, source })?;
        tokio::spawn(async move {
            if let Err(error) = culvert_telemetry::serve(listener, routes).await {
                tracing::error!(%address, %error, "pages are no longer served");
            }
        });
    }
    Ok(drain)
}

/// Binds a port. A predecessor that drains may still have it, so several processes may share it.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()
    } else {
        tokio::net::TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(128)
}
