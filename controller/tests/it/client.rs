//! A node proxy's side of the wire, message by message.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use culvert_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status as Detail};
use culvert_proto::workload::Address;
use prost::Message as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::cases;
use crate::process::{Controller, PATIENCE};

use culvert_proto::{HOST_ALIAS, WILDCARDS_ALIAS};

pub(crate) use culvert_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};

/// One discovery stream.
pub(crate) struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

/// A connection over TLS that trusts the controller's root.
pub(crate) async fn channel(controller: &Controller) -> Channel {
    channel_to(controller.xds, &controller.root()).await
}

/// A connection over TLS to whoever listens there, that trusts these roots, PEM.
pub(crate) async fn channel_to(xds: SocketAddr, roots: &[u8]) -> Channel {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(roots))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{xds}"))
        .unwrap()
        .tls_config(tls)
        .unwrap();
    connected(&endpoint).await
}

/// A connection to a controller, which may be asked before it has signed its own certificate: the handshake is tried again, as proxies do.
pub(crate) async fn connected(endpoint: &Endpoint) -> Channel {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(error) if Instant::now() > deadline => panic!("no connection to {}: {error:?}", endpoint.uri()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A request with a bearer token.
pub(crate) fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

impl Client {
    /// A stream of `node`.
    pub(crate) async fn connect(controller: &Controller, node: &str) -> Self {
        let token = controller.token(node);
        Self::connect_with(controller, &token).await.unwrap()
    }

    /// A stream with any token.
    pub(crate) async fn connect_with(controller: &Controller, token: &str) -> Result<Self, Status> {
        Self::over(channel(controller).await, token).await
    }

    /// A stream over a connection that is there.
    pub(crate) async fn over(channel: Channel, token: &str) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let opened = client
            .delta_aggregated_resources(with_token(ReceiverStream::new(receiver), token))
            .await?;
        Ok(Self {
            requests,
            responses: opened.into_inner(),
        })
    }

    pub(crate) async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    /// The next response, not acknowledged.
    pub(crate) async fn receive(&mut self) -> DeltaDiscoveryResponse {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        message.expect("no response came").unwrap().expect("the stream ended")
    }

    /// The next response, acknowledged.
    pub(crate) async fn next(&mut self) -> DeltaDiscoveryResponse {
        let response = self.receive().await;
        self.send(reply(&response, None)).await;
        response
    }

    /// What has come without being waited for, not acknowledged.
    pub(crate) async fn unasked(&mut self) -> Option<DeltaDiscoveryResponse> {
        let message = tokio::time::timeout(Duration::from_millis(100), self.responses.message()).await;
        Some(message.ok()?.unwrap().expect("the stream ended"))
    }

    /// How the stream ends.
    pub(crate) async fn end(&mut self) -> Option<Status> {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        message.expect("the stream does not end").err()
    }

    /// Asks for everything of a type, as Istio's proxy does, and returns the first answer.
    pub(crate) async fn wildcard(&mut self, type_url: &str) -> DeltaDiscoveryResponse {
        self.send(first(type_url)).await;
        self.next().await
    }

    /// The empty subscription: what the node needs from the start.
    pub(crate) async fn on_demand(&mut self) -> DeltaDiscoveryResponse {
        let star = vec!["*".to_owned()];
        self.send(DeltaDiscoveryRequest {
            resource_names_subscribe: star.clone(),
            resource_names_unsubscribe: star,
            ..first(ADDRESS_TYPE)
        })
        .await;
        self.next().await
    }

    /// Subscribes to one more name.
    pub(crate) async fn subscribe(&mut self, name: &str) -> DeltaDiscoveryResponse {
        self.send(DeltaDiscoveryRequest {
            type_url: ADDRESS_TYPE.to_owned(),
            resource_names_subscribe: vec![name.to_owned()],
            ..Default::default()
        })
        .await;
        self.next().await
    }
}

/// A stream's first request for a type.
pub(crate) fn first(type_url: &str) -> DeltaDiscoveryRequest {
    let node = Node {
        id: "ztunnel~198.18.0.1~test~test".to_owned(),
        ..Node::default()
    };
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        node: Some(node),
        ..Default::default()
    }
}

/// Takes a response, or refuses it.
pub(crate) fn reply(response: &DeltaDiscoveryResponse, refusal: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: refusal.map(|text| Detail {
            code: 3,
            message: text.to_owned(),
            details: vec![],
        }),
        ..Default::default()
    }
}

/// The names in a response.
pub(crate) fn names(response: &DeltaDiscoveryResponse) -> BTreeSet<String> {
    response.resources.iter().map(|r| r.name.clone()).collect()
}

/// The resources in a response, as the recordings have them.
pub(crate) fn rendered(response: &DeltaDiscoveryResponse) -> BTreeMap<String, Value> {
    let render = |resource: &culvert_proto::discovery::Resource| {
        let any = resource.resource.as_ref().unwrap();
        assert_eq!(any.type_url, ADDRESS_TYPE);
        assert!(!resource.version.is_empty());
        (
            resource.name.clone(),
            cases::render(&Address::decode(any.value.as_slice()).unwrap()),
        )
    };
    response.resources.iter().map(render).collect()
}

/// The aliases in a response, of resources that have any.
pub(crate) fn aliases(response: &DeltaDiscoveryResponse) -> BTreeMap<String, BTreeSet<String>> {
    // Ours beside Istio's: host names, and addresses of the mesh's own choice, which the recordings do not tell.
    let ours = [HOST_ALIAS, WILDCARDS_ALIAS, "/240.240.", "/2001:2:"];
    let is_istios = |alias: &&String| !ours.iter().any(|prefix| alias.starts_with(prefix));
    let own = |r: &culvert_proto::discovery::Resource| {
        let aliases = r.aliases.iter().filter(is_istios).cloned();
        (r.name.clone(), aliases.collect::<BTreeSet<_>>())
    };
    response
        .resources
        .iter()
        .map(own)
        .filter(|(_, aliases)| !aliases.is_empty())
        .collect()
}
