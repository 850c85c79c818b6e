//! The tunnel's two ends, for tests that play a node: a client that says what it likes, and a server with any certificate.

use crate::authority::Leaf;
use bytes::Bytes;
use culvert_lab::Pod;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How a `CONNECT` ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The server answered with this status.
    Status(u16),
    /// No answer came: the connection was refused before that, for this reason.
    Refused(String),
}

/// Sends `CONNECT authority` to a pod's tunnel port from another pod's namespace (not captured), with this certificate or none.
pub fn connect(from: &Pod, to: SocketAddr, leaf: Option<Leaf>, authority: &str) -> Answer {
    let socket = from
        .run(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)))
        .unwrap();
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    let attempt = async {
        tokio::time::timeout(Duration::from_secs(20), connect_over(socket, leaf, authority))
            .await
            .unwrap_or_else(|_| panic!("neither answered nor refused: CONNECT {authority} to {to}"))
    };
    match runtime(0).block_on(attempt) {
        Ok(status) => Answer::Status(status),
        Err(error) => Answer::Refused(error),
    }
}

/// The first bytes of a handshake with a tunnel port, which cost the server keys and a signature.
pub fn client_hello() -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let name = ServerName::try_from("workload.invalid").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// A client's end of TLS with a tunnel port, with this certificate or none.
pub fn client(leaf: Option<Leaf>) -> rustls::ClientConnection {
    let name = ServerName::try_from("workload.invalid").unwrap();
    rustls::ClientConnection::new(Arc::new(client_config(leaf)), name).unwrap()
}

/// What a tunnel's client offers.
pub fn client_config(leaf: Option<Leaf>) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match leaf {
        Some(leaf) => config.with_client_auth_cert(leaf.chain, leaf.key).unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    config
}

async fn connect_over(socket: TcpStream, leaf: Option<Leaf>, authority: &str) -> Result<u16, String> {
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::TcpStream::from_std(socket).unwrap();
    let name = ServerName::try_from("workload.invalid").unwrap();
    let tls = TlsConnector::from(Arc::new(client_config(leaf)))
        .connect(name, socket)
        .await
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = h2::client::handshake(tls).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = http::Request::builder()
        .method(http::Method::CONNECT)
        .uri(authority)
        .body(())
        .unwrap();
    let answer = async {
        sender = sender.ready().await?;
        let (response, _body) = sender.send_request(request, false)?;
        response.await
    };
    let status = answer
        .await
        .map(|response| response.status().as_u16())
        .map_err(|error| error.to_string());
    connection.abort();
    status
}

/// A TLS server in a pod that presents a certificate of the test's choice and counts what strangers entrust to it.
pub struct Impostor {
    /// Handshakes that clients completed and went on from with a request.
    requests: Arc<std::sync::atomic::AtomicU32>,
    /// Connections that came at all.
    connections: Arc<std::sync::atomic::AtomicU32>,
    _runtime: tokio::runtime::Runtime,
}

impl Impostor {
    /// Serves on this listener, which the test made where it wants it.
    pub fn serve(listener: TcpListener, leaf: Leaf) -> Self {
        let (requests, connections) = (Arc::default(), Arc::default());
        let config = server_config(leaf);
        listener.set_nonblocking(true).unwrap();
        let runtime = runtime(1);
        runtime.spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            Arc::clone(&requests),
            Arc::clone(&connections),
        ));
        Self {
            requests,
            connections,
            _runtime: runtime,
        }
    }

    /// Requests that reached it.
    pub fn requests(&self) -> u32 {
        self.requests.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Connections that reached it.
    pub fn connections(&self) -> u32 {
        self.connections.load(std::sync::atomic::Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    requests: Arc<std::sync::atomic::AtomicU32>,
    connections: Arc<std::sync::atomic::AtomicU32>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((socket, _)) = listener.accept().await {
        connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (acceptor, requests) = (acceptor.clone(), Arc::clone(&requests));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(socket).await else { return };
            let Ok(mut connection) = h2::server::handshake(tls).await else {
                return;
            };
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let response = http::Response::builder().status(200).body(()).unwrap();
                if let Ok(mut stream) = respond.send_response(response, false) {
                    let _ = stream.send_data(Bytes::from_static(b"impostor"), true);
                }
            }
        });
    }
}

/// What a tunnel's server shows, and that it lets everybody in.
pub(crate) fn server_config(leaf: Leaf) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anyone))
        .with_single_cert(leaf.chain, leaf.key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// With so many threads beside the test's own.
pub(crate) fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.max(1)).enable_all().build().unwrap()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Believes everybody: the mesh's own checks are what is tested.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
