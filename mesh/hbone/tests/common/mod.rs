//! Certificates, configurations and a recording sink for tests against real peers.
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::Arc;

use culvert_hbone::{
    BadRequest, Config, ConnectRequest, Connection, ErrorCode, Handshake, Progress, ProtocolError, Response, Role,
    Sink, StreamId,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};

/// The name in the certificate that both sides use.
pub(crate) const NAME: &str = "peer.mesh";

pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

/// Mutual TLS 1.3 with `h2`, for both sides, with the given cipher suites only.
pub(crate) fn configs_with(suites: &[SupportedCipherSuite]) -> (ClientConfig, ServerConfig) {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: suites.to_vec(),
        ..aws_lc_rs::default_provider()
    });
    configs_by(&provider, &provider)
}

/// The same with a client that knows these groups only.
pub(crate) fn configs_with_groups(groups: &[&'static dyn SupportedKxGroup]) -> (ClientConfig, ServerConfig) {
    let client = CryptoProvider {
        kx_groups: groups.to_vec(),
        ..aws_lc_rs::default_provider()
    };
    configs_by(&Arc::new(client), &Arc::new(aws_lc_rs::default_provider()))
}

fn configs_by(of_client: &Arc<CryptoProvider>, of_server: &Arc<CryptoProvider>) -> (ClientConfig, ServerConfig) {
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([NAME.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let chain = vec![leaf.der().clone()];
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let versions = &[&rustls::version::TLS13];
    let mut client = ClientConfig::builder_with_provider(of_client.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.clone(), key.clone_key().into())
        .unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, of_server.clone())
        .build()
        .unwrap();
    let mut server = ServerConfig::builder_with_provider(of_server.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key.into())
        .unwrap();
    client.enable_secret_extraction = true;
    server.enable_secret_extraction = true;
    client.alpn_protocols = vec![b"h2".to_vec()];
    server.alpn_protocols = vec![b"h2".to_vec()];
    (client, server)
}

pub(crate) fn configs() -> (ClientConfig, ServerConfig) {
    configs_with(aws_lc_rs::ALL_CIPHER_SUITES)
}

/// What a sink was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Connect(StreamId, Result<ConnectRequest, BadRequest>),
    Response(StreamId, Response),
    Data(StreamId, Vec<u8>),
    End(StreamId),
    Reset(StreamId, ErrorCode),
    Writable,
    Pong([u8; 8]),
    GoAway(StreamId, ErrorCode),
}

#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Vec<Event>);

impl<'b> Sink<'b> for Recorder {
    fn connect(&mut self, id: StreamId, request: Result<ConnectRequest, BadRequest>) {
        self.0.push(Event::Connect(id, request));
    }
    fn response(&mut self, id: StreamId, response: Response) {
        self.0.push(Event::Response(id, response));
    }
    fn data(&mut self, id: StreamId, data: &'b [u8]) {
        self.0.push(Event::Data(id, data.to_vec()));
    }
    fn end(&mut self, id: StreamId) {
        self.0.push(Event::End(id));
    }
    fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.0.push(Event::Reset(id, code));
    }
    fn writable(&mut self, _: StreamId) {
        self.0.push(Event::Writable);
    }
    fn all_writable(&mut self) {
        self.0.push(Event::Writable);
    }
    fn pong(&mut self, payload: [u8; 8]) {
        self.0.push(Event::Pong(payload));
    }
    fn go_away(&mut self, last: StreamId, code: ErrorCode) {
        self.0.push(Event::GoAway(last, code));
    }
}

/// A connection with bytes that have arrived for it and are not a whole record yet.
pub(crate) struct End {
    pub(crate) connection: Connection,
    pub(crate) inbox: Vec<u8>,
}

impl End {
    /// Takes bytes and returns what the sink was told.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Event>, ProtocolError> {
        self.inbox.extend_from_slice(bytes);
        let mut recorder = Recorder::default();
        let n = self.connection.receive(&mut self.inbox, &mut recorder)?;
        self.inbox.drain(..n);
        Ok(recorder.0)
    }

    /// Everything that is to be sent.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        let bytes = self.connection.output().to_vec();
        self.connection.written(bytes.len());
        bytes
    }
}

/// Has two handshakes of ours talk, at most `chunk` bytes at a time.
pub(crate) fn shake(client: Handshake, server: Handshake, chunk: usize, config: &Config) -> (End, End) {
    shake_limited(client, server, chunk, config, u64::MAX)
}

/// The same, with keys that are changed after `records`.
pub(crate) fn shake_limited(
    client: Handshake,
    server: Handshake,
    chunk: usize,
    config: &Config,
    records: u64,
) -> (End, End) {
    let (mut client, mut server) = (client, server);
    let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    loop {
        let a = client.advance(&mut at_client, &mut to_server).unwrap();
        let b = server.advance(&mut at_server, &mut to_client).unwrap();
        if (a, b) == (Progress::Done, Progress::Done) {
            break;
        }
        if a == Progress::Waiting {
            at_client.extend(to_client.drain(..chunk.min(to_client.len())));
        }
        at_server.extend(to_server.drain(..chunk.min(to_server.len())));
    }
    let end = |role, handshake: Handshake, inbox: Vec<u8>, rest: Vec<u8>| {
        let mut established = handshake.finish().unwrap();
        established.keys.limit_records(records);
        assert!(!established.peer_certificates.is_empty());
        let connection = Connection::new(role, established.keys, config);
        End {
            connection,
            inbox: [inbox, rest].concat(),
        }
    };
    (
        end(Role::Client, client, at_client, to_client),
        end(Role::Server, server, at_server, to_server),
    )
}
