//! The ports of a program's pages.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::AsFd as _,
};

use tokio::net::TcpListener;

use crate::{Routes, serve};

/// All pages on one port, and on another one, where there is one, only what the kubelet asks for.
///
/// The second port has nothing that others want, so that whatever goes on at the first one restarts nothing.
#[derive(Debug)]
pub struct Listeners {
    pages: TcpListener,
    probes: Option<TcpListener>,
}

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl Listeners {
    /// Listens for pages, and for probes if they have an address of their own.
    ///
    /// # Errors
    /// When one of the addresses is taken, or not this machine's.
    pub async fn bind(pages: SocketAddr, probes: Option<SocketAddr>) -> Result<Self, ListenError> {
        let pages = bind(pages).await?;
        let probes = match probes {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Self { pages, probes })
    }

    /// Where the pages are.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.pages.local_addr()
    }

    /// Where the probes are answered, if not with the pages.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn probe_address(&self) -> io::Result<Option<SocketAddr>> {
        self.probes.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// The same ports once more, for whoever serves next. Connections that nobody accepts meanwhile wait.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let clone = |listener: &TcpListener| {
            let owned = listener.as_fd().try_clone_to_owned()?;
            TcpListener::from_std(StdListener::from(owned))
        };
        Ok(Self {
            pages: clone(&self.pages)?,
            probes: self.probes.as_ref().map(clone).transpose()?,
        })
    }

    /// Serves the pages until the task is dropped.
    ///
    /// # Errors
    /// When a listener no longer accepts for a reason that does not go away.
    pub async fn serve(self, routes: Routes) -> io::Result<()> {
        let Some(probes) = self.probes else {
            return serve(self.pages, routes).await;
        };
        let health = routes.health();
        tokio::select! {
            ended = serve(self.pages, routes) => ended,
            ended = serve(probes, health) => ended,
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ListenError { address, source })
}
