//! A controller that says what a test says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use culvert_envoy::{CLUSTER_TYPE, LISTENER_TYPE};
use culvert_proto::{
    auth::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
    },
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
};
use parking_lot::Mutex;
use prost::Message;
use rcgen::CertificateSigningRequestParams;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};

use crate::mesh::CertificateAuthority;

type Sender = mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>;

#[derive(Clone)]
pub(crate) struct Controller {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    resources: BTreeMap<(String, String), Vec<u8>>,
    streams: Vec<(Sender, BTreeSet<(String, String)>)>,
    version: u64,
    refusals: Vec<String>,
    node: String,
}

impl Controller {
    pub(crate) async fn start(authority: &Arc<CertificateAuthority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (chain, key) = authority.server("localhost");
        let state = Arc::<Mutex<State>>::default();
        let serving = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(Identity::from_pem(chain, key)))
            .unwrap()
            .add_service(AggregatedDiscoveryServiceServer::new(Discovery(Arc::clone(&state))))
            .add_service(IstioCertificateServiceServer::new(Authority(Arc::clone(authority))))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move { serving.await.unwrap() });
        Self { port, state }
    }

    /// Says what a resource is from now on.
    pub(crate) fn put(&self, type_url: &str, name: &str, message: &impl Message) {
        let mut state = self.state.lock();
        let key = (type_url.to_owned(), name.to_owned());
        state.resources.insert(key.clone(), message.encode_to_vec());
        let State { streams, .. } = &*state;
        let senders: Vec<Sender> = streams
            .iter()
            .filter(|(_, names)| is_wildcard(type_url) || names.contains(&key))
            .map(|(sender, _)| sender.clone())
            .collect();
        for sender in senders {
            let response = state.response(type_url, &[name.to_owned()]);
            let _ = sender.send(Ok(response));
        }
    }

    /// What was refused, in the client's words.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.state.lock().refusals.clone()
    }

    /// What the client calls itself.
    pub(crate) fn node(&self) -> String {
        self.state.lock().node.clone()
    }
}

fn is_wildcard(type_url: &str) -> bool {
    [LISTENER_TYPE, CLUSTER_TYPE].contains(&type_url)
}

impl State {
    fn response(&mut self, type_url: &str, names: &[String]) -> DeltaDiscoveryResponse {
        self.version += 1;
        let mut response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            nonce: self.version.to_string(),
            ..DeltaDiscoveryResponse::default()
        };
        for name in names {
            match self.resources.get(&(type_url.to_owned(), name.clone())) {
                Some(bytes) => response.resources.push(Resource {
                    name: name.clone(),
                    version: self.version.to_string(),
                    resource: Some(prost_types::Any {
                        type_url: type_url.to_owned(),
                        value: bytes.clone(),
                    }),
                    ..Resource::default()
                }),
                None => response.removed_resources.push(name.clone()),
            }
        }
        response
    }

    fn receive(&mut self, at: usize, request: DeltaDiscoveryRequest) {
        if let Some(node) = &request.node {
            self.node = node.id.clone();
        }
        if let Some(error) = &request.error_detail {
            self.refusals.push(error.message.clone());
        }
        let type_url = request.type_url.clone();
        for name in &request.resource_names_unsubscribe {
            self.streams[at].1.remove(&(type_url.clone(), name.clone()));
        }
        let names: Vec<String> = if is_wildcard(&type_url) {
            if !request.response_nonce.is_empty() {
                return;
            }
            let all = self.resources.keys().filter(|(kind, _)| *kind == type_url);
            all.map(|(_, name)| name.clone()).collect()
        } else {
            let names = request.resource_names_subscribe.into_iter().filter(|name| name != "*");
            names.collect()
        };
        for name in &names {
            self.streams[at].1.insert((type_url.clone(), name.clone()));
        }
        if names.is_empty() && !is_wildcard(&type_url) {
            return;
        }
        let response = self.response(&type_url, &names);
        let _ = self.streams[at].0.send(Ok(response));
    }
}

struct Discovery(Arc<Mutex<State>>);

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
        let at = {
            let mut state = self.0.lock();
            state.streams.push((responses, BTreeSet::new()));
            state.streams.len() - 1
        };
        let state = Arc::clone(&self.0);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                state.lock().receive(at, request);
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(outgoing)))
    }
}

struct Authority(Arc<CertificateAuthority>);

#[tonic::async_trait]
impl IstioCertificateService for Authority {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let mut csr = CertificateSigningRequestParams::from_pem(&request.into_inner().csr).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        csr.params.not_before = epoch + now;
        csr.params.not_after = epoch + now + Duration::from_secs(3600);
        let leaf = csr.signed_by(self.0.issuer()).unwrap().pem();
        Ok(Response::new(IstioCertificateResponse { cert_chain: vec![leaf] }))
    }
}
