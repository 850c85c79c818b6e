//! Nodes that follow the controller, as node proxies do: each over a connection of its own, on demand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use culvert_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node as Caller};
use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, MESH_NAME, MESH_TYPE};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Streaming};

/// How long anything may take: until the first node is answered, the controller reads all objects.
const PATIENCE: Duration = Duration::from_secs(600);

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(100);

/// A response that a node got.
pub(crate) struct Got {
    pub(crate) node: usize,
    pub(crate) at: Instant,
    pub(crate) names: Vec<String>,
}

/// How a node asks.
pub(crate) struct Asker {
    pub(crate) token: String,
    pub(crate) addresses: Vec<String>,
    /// How many policies there are, which may come in several responses.
    pub(crate) policies: usize,
}

/// All nodes, connected.
pub(crate) struct Nodes {
    /// Their connections break when this is dropped.
    _tasks: JoinSet<()>,
    pub(crate) got: UnboundedReceiver<Got>,
}

impl Nodes {
    /// Connects all at once, and returns when each has been answered all that it asks for; and how long that took.
    pub(crate) async fn connect(xds: SocketAddr, root: &[u8], askers: &[Arc<Asker>]) -> Result<(Self, Duration)> {
        let begin = Instant::now();
        let (sender, got) = mpsc::unbounded_channel();
        let (ready, mut readies) = mpsc::unbounded_channel();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(root))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{xds}"))?.tls_config(tls)?;
        let mut tasks = JoinSet::new();
        for (node, asker) in askers.iter().enumerate() {
            let (endpoint, asker, sender, ready) = (endpoint.clone(), Arc::clone(asker), sender.clone(), ready.clone());
            tasks.spawn(async move {
                let ended = follow(node, endpoint, &asker, &sender, &ready).await;
                // Nobody hears it once all nodes have been answered: then the others go on, and what is missing is seen by that.
                let _ = ready.send(ended.context(format!("node {node}")));
            });
        }
        for _ in askers {
            let answered = tokio::time::timeout(PATIENCE, readies.recv()).await;
            answered
                .context("a node is not answered")?
                .context("no node is left")??;
        }
        Ok((Self { _tasks: tasks, got }, begin.elapsed()))
    }
}

async fn follow(
    node: usize,
    endpoint: Endpoint,
    asker: &Asker,
    got: &UnboundedSender<Got>,
    ready: &UnboundedSender<Result<()>>,
) -> Result<()> {
    let channel = connected(&endpoint).await?;
    let (requests, receiver) = mpsc::channel(64);
    let mut request = Request::new(ReceiverStream::new(receiver));
    let token = format!("Bearer {}", asker.token).parse()?;
    request.metadata_mut().insert("authorization", token);
    // As a node proxy, which may be told of everything at once.
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut responses = client.delta_aggregated_resources(request).await?.into_inner();
    let star = vec!["*".to_owned()];
    requests
        .send(DeltaDiscoveryRequest {
            type_url: ADDRESS_TYPE.to_owned(),
            node: Some(Caller {
                id: format!("ztunnel~node-{node}"),
                ..Caller::default()
            }),
            resource_names_subscribe: star.clone(),
            resource_names_unsubscribe: star,
            ..DeltaDiscoveryRequest::default()
        })
        .await?;
    next(&mut responses, &requests).await?;
    for (type_url, names) in [
        (ADDRESS_TYPE, asker.addresses.clone()),
        (MESH_TYPE, vec![MESH_NAME.to_owned()]),
        // Of these, every node takes all.
        (AUTHORIZATION_TYPE, vec!["*".to_owned()]),
    ] {
        let request = DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(request).await?;
        let (mut is_answered, mut policies) = (false, 0);
        while !is_answered || type_url == AUTHORIZATION_TYPE && policies < asker.policies {
            let response = next(&mut responses, &requests).await?;
            if response.type_url == type_url {
                is_answered = true;
                policies += response.resources.len();
            }
        }
    }
    let _ = ready.send(Ok(()));
    loop {
        let response = next(&mut responses, &requests).await?;
        let at = Instant::now();
        let names = response.resources.into_iter().map(|resource| resource.name).collect();
        if got.send(Got { node, at, names }).is_err() {
            return Ok(());
        }
    }
}

/// A connection. As a node proxy does, tries again: where a thousand come at once, a handshake may take the controller too long.
async fn connected(endpoint: &Endpoint) -> Result<Channel> {
    let begin = Instant::now();
    loop {
        match endpoint.connect().await {
            Err(_) if begin.elapsed() < PATIENCE => tokio::time::sleep(RETRY).await,
            connected => return Ok(connected?),
        }
    }
}

/// The next response, acknowledged.
async fn next(
    responses: &mut Streaming<DeltaDiscoveryResponse>,
    requests: &mpsc::Sender<DeltaDiscoveryRequest>,
) -> Result<DeltaDiscoveryResponse> {
    let response = responses.message().await?.context("the controller ended the stream")?;
    requests
        .send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        })
        .await?;
    Ok(response)
}
