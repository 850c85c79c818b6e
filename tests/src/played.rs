//! A waypoint that a test plays: an end of the tunnel in a pod, which notes what it is asked for and answers bytes by the same bytes.

use crate::{
    authority::Leaf,
    tunnel::{runtime, server_config},
};
use bytes::Bytes;
use culvert_lab::Pod;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio_rustls::TlsAcceptor;

/// Of the tunnel.
const HBONE: u16 = 15008;

/// Takes tunnels in as long as it is there.
pub struct PlayedWaypoint {
    asked: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl PlayedWaypoint {
    /// Serves the tunnel port of a pod with this certificate.
    pub fn serve(pod: &Pod, leaf: Leaf) -> Self {
        let listener = pod.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, HBONE))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let asked = Arc::default();
        let runtime = runtime(1);
        runtime.spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(server_config(leaf))),
            Arc::clone(&asked),
        ));
        Self {
            asked,
            _runtime: runtime,
        }
    }

    /// The authorities of all `CONNECT`s so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn accept(listener: std::net::TcpListener, acceptor: TlsAcceptor, asked: Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(socket).await else { return };
            let Ok(mut connection) = h2::server::handshake(tls).await else {
                return;
            };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let authority = request.uri().authority().map(ToString::to_string);
                asked.lock().unwrap().push(authority.unwrap_or_default());
                let response = http::Response::builder().status(200).body(()).unwrap();
                let Ok(mut to) = respond.send_response(response, false) else {
                    continue;
                };
                let mut from = request.into_body();
                tokio::spawn(async move {
                    while let Some(Ok(bytes)) = from.data().await {
                        let _ = from.flow_control().release_capacity(bytes.len());
                        if to.send_data(bytes, false).is_err() {
                            return;
                        }
                    }
                    let _ = to.send_data(Bytes::new(), true);
                });
            }
        });
    }
}
