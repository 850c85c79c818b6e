//! A connection to the API server.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection on which nothing was heard for so long is dead. The API server sends a bookmark a minute on every watch.
const SILENCE: Duration = Duration::from_secs(100);

/// Why there is no client. Whether the API server answers is another question, asked later and again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("not in a cluster (no service account), and neither --config-dir nor --kubeconfig is given")]
    NotInCluster(#[source] kube::config::InClusterError),
    #[error("kubeconfig")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("API client")]
    Client(#[from] kube::Error),
}

/// A client by the service account of this pod, or by a kubeconfig.
///
/// # Errors
/// When there is no configuration, or it is of no use.
pub(crate) async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ClientError> {
    // Several libraries use rustls here; an error means that one of them was first, with the same choice.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => Config::incluster().map_err(ClientError::NotInCluster)?,
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    Ok(Client::try_from(config)?)
}
