//! A controller whose answers a test gives.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use culvert_proto::{
    MESH_TYPE, ROOTS_TYPE,
    auth::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
    },
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};

/// A validity that stands for no answer at all.
const UNAVAILABLE: u64 = u64::MAX;

pub(super) struct Controller {
    address: SocketAddr,
    root_pem: String,
    connections: mpsc::UnboundedReceiver<Connection>,
    signed: mpsc::UnboundedReceiver<(String, String)>,
    validity: Arc<AtomicU64>,
    unanswered: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

/// A client's configuration stream, from the controller's side.
pub(super) struct Connection {
    pub(super) authorization: String,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>,
    nonce: u32,
}

impl Controller {
    pub(super) async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let server_key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let server = server.signed_by(&server_key, &issuer).unwrap();
        let identity = Identity::from_pem(server.pem(), server_key.serialize_pem());

        let (opened, connections) = mpsc::unbounded_channel();
        let (sign, signed) = mpsc::unbounded_channel();
        let validity = Arc::new(AtomicU64::new(3600));
        let unanswered = Arc::new(AtomicU64::new(0));
        let authority = Authority {
            issuer,
            signed: sign,
            validity: Arc::clone(&validity),
            unanswered: Arc::clone(&unanswered),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .add_service(AggregatedDiscoveryServiceServer::new(Discovery { opened }))
            .add_service(IstioCertificateServiceServer::new(authority))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            root_pem,
            connections,
            signed,
            validity,
            unanswered,
            server,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub(super) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Shows clients another controller's root in place of its own.
    pub(super) fn pretend_root(&mut self, other: &Self) {
        self.root_pem = other.root_pem.clone();
    }

    /// The next client that opens a stream.
    pub(super) async fn connection(&mut self) -> Connection {
        self.connections.recv().await.unwrap()
    }

    /// The next request for a certificate: the token and the identity that it names, or nothing.
    pub(super) async fn signed(&mut self) -> (String, String) {
        self.signed.recv().await.unwrap()
    }

    pub(super) fn sign_for(&self, validity: Duration) {
        self.validity.store(validity.as_secs(), Ordering::Relaxed);
    }

    pub(super) fn refuse(&self) {
        self.validity.store(0, Ordering::Relaxed);
    }

    /// Answers requests for certificates as a controller does that cannot ask the API server about the token.
    pub(super) fn know_nothing(&self) {
        self.validity.store(UNAVAILABLE, Ordering::Relaxed);
    }

    /// How many requests for certificates it had no answer to.
    pub(super) fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Connection {
    pub(super) async fn request(&mut self) -> DeltaDiscoveryRequest {
        let mut node = None;
        loop {
            let message = self.requests.message().await.unwrap();
            let request = message.expect("the client is still there");
            // What the proxy says about roots and ranges concerns the tests of them alone, except that a stream's first request,
            // whichever that is, says who asks.
            if request.type_url != ROOTS_TYPE && request.type_url != MESH_TYPE {
                let node = request.node.clone().or(node);
                return DeltaDiscoveryRequest { node, ..request };
            }
            node = request.node.or(node);
        }
    }

    pub(super) fn answer(&mut self, type_url: &str, resources: Vec<Resource>, removed: &[&str]) {
        self.nonce += 1;
        let response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            nonce: self.nonce.to_string(),
            resources,
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        self.responses.send(Ok(response)).unwrap();
    }
}

pub(super) fn resource(name: &str, version: &str, type_url: &str, message: &impl Message) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(prost_types::Any {
            type_url: type_url.to_owned(),
            value: message.encode_to_vec(),
        }),
        ..Default::default()
    }
}

fn authorization<T>(request: &Request<T>) -> String {
    let header = request.metadata().get("authorization");
    header
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

struct Discovery {
    opened: mpsc::UnboundedSender<Connection>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type StreamAggregatedResourcesStream = UnboundedReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = UnboundedReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only delta"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, outgoing) = mpsc::unbounded_channel();
        let connection = Connection {
            authorization: authorization(&request),
            requests: request.into_inner(),
            responses,
            nonce: 0,
        };
        self.opened
            .send(connection)
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(UnboundedReceiverStream::new(outgoing)))
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    signed: mpsc::UnboundedSender<(String, String)>,
    /// In seconds; 0 refuses.
    validity: Arc<AtomicU64>,
    unanswered: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl IstioCertificateService for Authority {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let validity = self.validity.load(Ordering::Relaxed);
        if validity == 0 {
            return Err(Status::permission_denied("no such pod on this node"));
        }
        if validity == UNAVAILABLE {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return Err(Status::unavailable("the API server cannot be asked"));
        }
        let token = authorization(&request);
        let request = request.into_inner();
        let wanted = request
            .metadata
            .and_then(|mut metadata| metadata.fields.remove("ImpersonatedIdentity"));
        let wanted = match wanted.and_then(|value| value.kind) {
            Some(prost_types::value::Kind::StringValue(wanted)) => wanted,
            Some(_) => return Err(Status::invalid_argument("the identity is no text")),
            None => String::new(),
        };
        let mut csr = CertificateSigningRequestParams::from_pem(&request.csr).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        csr.params.not_before = epoch + now;
        csr.params.not_after = epoch + now + Duration::from_secs(validity);
        let leaf = csr.signed_by(&self.issuer).unwrap().pem();
        let _ = self.signed.send((token, wanted));
        Ok(Response::new(IstioCertificateResponse { cert_chain: vec![leaf] }))
    }
}
