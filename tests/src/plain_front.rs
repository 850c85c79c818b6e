//! The way into a tunnel port for programs that have no certificate: plain TCP on loopback, carried over mutual TLS.

use crate::{authority::Leaf, tunnel};
use culvert_lab::Pod;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};
use tokio::{io::copy_bidirectional, net::TcpListener, runtime::Runtime};
use tokio_rustls::TlsConnector;

/// Listens for as long as it lives.
pub struct PlainFront {
    address: SocketAddr,
    _runtime: Runtime,
}

impl PlainFront {
    /// Carries each connection to a pod's tunnel port, from another pod's namespace (not captured), with this certificate.
    pub fn serve(from: &Pod, to: SocketAddr, leaf: Leaf) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (from, config) = (from.clone(), Arc::new(tunnel::client_config(Some(leaf))));
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, from.clone(), to, Arc::clone(&config)));
            }
        });
        Self {
            address,
            _runtime: runtime,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One connection. Whatever goes wrong ends it, which is all that the program in front can be told.
async fn carry(mut near: tokio::net::TcpStream, from: Pod, to: SocketAddr, config: Arc<ClientConfig>) {
    let dial = move || {
        from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)))
            .unwrap()
    };
    let Ok(Ok(far)) = tokio::task::spawn_blocking(dial).await else {
        return;
    };
    far.set_nonblocking(true).unwrap();
    let far = tokio::net::TcpStream::from_std(far).unwrap();
    for stream in [&near, &far] {
        stream.set_nodelay(true).unwrap();
    }
    let name = ServerName::try_from("workload.invalid").unwrap();
    let Ok(mut far) = TlsConnector::from(config).connect(name, far).await else {
        return;
    };
    let _ = copy_bidirectional(&mut near, &mut far).await;
}
