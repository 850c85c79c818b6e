//! A connection to the API server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a watch may last. Short, so that one that nothing is heard from is known to be dead soon: bookmarks do not
/// come for kinds that nothing happens to.
pub(crate) const WATCH_SECONDS: u32 = 60;
/// A connection on which nothing was heard for so long is dead: longer than any watch lasts.
const SILENCE: Duration = Duration::from_secs(90);

/// Why there is no client. Whether the API server answers is another question, asked later and again.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no service account, and nothing else is given.
    #[error("not in a cluster (no service account), and neither --config-dir nor --kubeconfig is given")]
    NotInCluster(#[source] kube::config::InClusterError),
    /// The file cannot be read, or says nothing of use.
    #[error("the kubeconfig {} cannot be used", path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// No client can be made of the configuration.
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
            let unusable = |error| ClientError::Kubeconfig {
                path: path.to_owned(),
                source: Box::new(error),
            };
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options).await.map_err(unusable)?
        }
        None => Config::incluster().map_err(ClientError::NotInCluster)?,
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    Ok(Client::try_from(config)?)
}

#[cfg(test)]
mod tests {
    use super::connect;

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        for text in ["", "a: 1\na: 2\n", "apiVersion: v1\nkind: Config\ncurrent-context: x\n"] {
            std::fs::write(&path, text).unwrap();
            let error = connect(Some(&path)).await.err().unwrap().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
