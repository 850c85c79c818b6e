//! The configuration task: runs the delta xDS client over a stream, and begins again when the stream ends.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use culvert_identity::TrustBundle;
use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE, ROOTS_TYPE,
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use culvert_xds::client::{Client, Mode, Rejection, Update};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Streaming};

use super::{
    Notify,
    backoff::Backoff,
    channel::{Endpoint, chain, describe},
};
use crate::{cli::ConfigMode, seam::Shared, state::Store};

/// The proxy's own network; more than one network comes with multi-cluster.
const NETWORK: &str = "";

/// A response may describe a whole large mesh.
const MAX_RESPONSE: usize = 512 * 1024 * 1024;

/// How many addresses that nobody has may stay subscribed. A pod that scans ranges must not fill the memory of proxy and
/// controller; the oldest are given up, and asked for again when they are dialled again.
const MAX_UNKNOWN: usize = 16 * 1024;

/// How many questions may be open. A pod that scans while the controller is away must not fill the proxy's memory either,
/// nor make the next connection's first request longer than the controller takes. Connections that wait for the answer to
/// another question ask again at every answer.
const MAX_PENDING: usize = 16 * 1024;

/// Pauses before the controller is tried again.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Runs until the future is dropped.
pub(super) async fn run(
    endpoint: Endpoint,
    node: String,
    mut asks: mpsc::UnboundedReceiver<IpAddr>,
    shared: Arc<Shared>,
    notify: Notify,
) {
    let mut configuration = Configuration::new(&endpoint, &node, shared, notify);
    // A replica that ends is followed by the other at once.
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    loop {
        let outcome = configuration.follow(&endpoint, &mut asks, &mut backoff).await;
        configuration.shared.telemetry.proxy().controller_connected.set(0);
        endpoint.forget().await;
        let pause = backoff.pause();
        tracing::warn!(why = outcome, retry_in = ?pause, "no configuration stream; the last state stays in force");
        let until = tokio::time::sleep(pause);
        tokio::pin!(until);
        // Questions that come meanwhile are part of the next connection's first requests.
        loop {
            tokio::select! {
                () = &mut until => break,
                Some(address) = asks.recv() => drop(configuration.ask(address)),
            }
        }
    }
}

struct Configuration {
    endpoint: Endpoint,
    client: Client,
    store: Store,
    on_demand: bool,
    /// Types whose first response is still to come.
    missing: BTreeSet<&'static str>,
    /// Asked for and not answered.
    pending: BTreeSet<IpAddr>,
    /// Answered with nothing, oldest first.
    unknown: VecDeque<IpAddr>,
    shared: Arc<Shared>,
    notify: Notify,
}

impl Configuration {
    fn new(endpoint: &Endpoint, node: &str, shared: Arc<Shared>, notify: Notify) -> Self {
        let args = endpoint.args();
        let on_demand = args.config_mode == ConfigMode::OnDemand;
        let mode = if on_demand { Mode::OnDemand } else { Mode::Wildcard };
        let mut store = Store::new(NETWORK, &args.trust_domain, on_demand);
        store.claim(&args.mesh_cidrs);
        Self {
            endpoint: endpoint.clone(),
            client: Client::new(
                describe_node(node, &args.cluster_id),
                [
                    (ADDRESS_TYPE, mode),
                    (AUTHORIZATION_TYPE, Mode::Wildcard),
                    (ROOTS_TYPE, Mode::Wildcard),
                ],
            ),
            store,
            on_demand,
            missing: BTreeSet::from([ADDRESS_TYPE, AUTHORIZATION_TYPE]),
            pending: BTreeSet::new(),
            unknown: VecDeque::new(),
            shared,
            notify,
        }
    }

    /// One connection, until it ends; returns why.
    async fn follow(
        &mut self,
        endpoint: &Endpoint,
        asks: &mut mpsc::UnboundedReceiver<IpAddr>,
        backoff: &mut Backoff,
    ) -> String {
        let (requests, mut responses) = match self.open(endpoint).await {
            Ok(stream) => stream,
            Err(why) => return why,
        };
        loop {
            let request = tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        backoff.reset();
                        match self.take(&response) {
                            Ok(mut replies) => {
                                let last = replies.pop();
                                replies.into_iter().for_each(|reply| drop(requests.send(reply)));
                                last
                            }
                            Err(why) => return why,
                        }
                    }
                    Ok(None) => return "the controller ended the stream".into(),
                    Err(status) => return describe(&status),
                },
                Some(address) = asks.recv() => self.ask(address),
            };
            if let Some(request) = request {
                // Fails only when the stream has ended, which the next `message` says.
                let _ = requests.send(request);
            }
        }
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
    ) -> Result<
        (
            mpsc::UnboundedSender<DeltaDiscoveryRequest>,
            Streaming<DeltaDiscoveryResponse>,
        ),
        String,
    > {
        let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
        let (requests, outgoing) = mpsc::unbounded_channel();
        for request in self.client.connect() {
            // The receiver is right here.
            let _ = requests.send(request);
        }
        let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
        endpoint.authorize(&mut request).map_err(|error| error.to_string())?;
        let responses = client
            .delta_aggregated_resources(request)
            .await
            .map_err(|status| describe(&status))?;
        tracing::info!(controller = endpoint.args().controller, "configuration stream is open");
        self.shared.telemetry.proxy().controller_connected.set(1);
        endpoint.note_stream();
        Ok((requests, responses.into_inner()))
    }

    /// Applies a response and publishes the result.
    fn take(&mut self, response: &DeltaDiscoveryResponse) -> Result<Vec<DeltaDiscoveryRequest>, String> {
        let metrics = self.shared.telemetry.proxy();
        let label = [("type", short(&response.type_url))];
        metrics.responses.get_or_create(&label).inc();
        let (store, rejected, endpoint) = (&mut self.store, &metrics.rejected, &self.endpoint);
        let ack = self.client.receive(response, |update| {
            let rejections = match update.type_url {
                ROOTS_TYPE => apply_roots(endpoint, &update),
                _ => apply(store, &update),
            };
            rejected.get_or_create(&label).inc_by(rejections.len() as u64);
            rejections
        });
        let ack = ack.map_err(|error| error.to_string())?;
        if let Some(refusal) = &ack.error_detail {
            tracing::error!(reason = refusal.message, "refused configuration");
        }
        let first = self.missing.remove(response.type_url.as_str());
        if first && self.missing.is_empty() {
            self.store.set_synced();
            tracing::info!("configuration is complete");
        }
        let mut replies = vec![ack];
        if response.type_url == ADDRESS_TYPE {
            self.settle(&response.removed_resources);
            replies.extend(self.forget_unknown());
        }
        self.publish();
        Ok(replies)
    }

    /// Marks questions as answered.
    fn settle(&mut self, removed: &[String]) {
        let (store, unknown) = (&mut self.store, &mut self.unknown);
        self.pending.retain(|address| {
            let known = store.knows(*address);
            let answered = known || removed.contains(&alias(*address));
            if answered {
                store.set_answered(*address);
            }
            if answered && !known {
                unknown.push_back(*address);
            }
            !answered
        });
    }

    fn forget_unknown(&mut self) -> Option<DeltaDiscoveryRequest> {
        let excess = self.unknown.len().saturating_sub(MAX_UNKNOWN);
        let gone: Vec<IpAddr> = self
            .unknown
            .drain(..excess)
            .filter(|address| !self.store.knows(*address))
            .collect();
        gone.iter().for_each(|address| self.store.forget_answer(*address));
        self.client.unsubscribe(ADDRESS_TYPE, gone.into_iter().map(alias))
    }

    /// Takes a loop's question in.
    fn ask(&mut self, address: IpAddr) -> Option<DeltaDiscoveryRequest> {
        if !self.on_demand {
            return None;
        }
        if self.store.knows(address) {
            self.store.set_answered(address);
            self.publish();
        } else if self.pending.len() < MAX_PENDING || self.pending.contains(&address) {
            self.pending.insert(address);
        } else {
            return None;
        }
        self.client.subscribe(ADDRESS_TYPE, [alias(address)])
    }

    fn publish(&mut self) {
        let mesh = self.store.snapshot();
        let held = &self.shared.telemetry.proxy().resources;
        for (kind, size) in ["workload", "service", "policy"].into_iter().zip(mesh.sizes()) {
            held.get_or_create(&[("kind", kind)]).set(size as i64);
        }
        self.shared.mesh.store(mesh);
        (self.notify)();
    }
}

/// Takes the roots over. That there are none is never told: roots that were told stay trusted.
fn apply_roots(endpoint: &Endpoint, update: &Update<'_>) -> Vec<Rejection> {
    let mut rejections = Vec::new();
    for resource in update.resources {
        let bytes = resource.resource.as_ref().map_or(&[][..], |any| &any.value);
        let pem = <String as prost::Message>::decode(bytes).map_err(|error| error.to_string());
        let checked = pem.and_then(|pem| match TrustBundle::from_pem(pem.as_bytes()) {
            Ok(_) => Ok(pem),
            Err(error) => Err(chain(&error)),
        });
        match checked {
            Ok(pem) => endpoint.tell_roots(&pem),
            Err(reason) => rejections.push(Rejection {
                name: resource.name.clone(),
                reason,
            }),
        }
    }
    rejections
}

fn apply(store: &mut Store, update: &Update<'_>) -> Vec<Rejection> {
    let addresses = update.type_url == ADDRESS_TYPE;
    for name in update.removed {
        if addresses {
            store.remove_address(name)
        } else {
            store.remove_policy(name)
        }
    }
    let mut rejections = Vec::new();
    for resource in update.resources {
        let bytes = resource.resource.as_ref().map_or(&[][..], |any| &any.value);
        let name = &resource.name;
        let outcome = if addresses {
            store.put_address(name, bytes)
        } else {
            store.put_policy(name, bytes)
        };
        if let Err(error) = outcome {
            rejections.push(Rejection {
                name: name.clone(),
                reason: error.to_string(),
            });
        }
    }
    rejections
}

/// A type as metrics name it.
fn short(type_url: &str) -> &'static str {
    match type_url {
        ADDRESS_TYPE => "address",
        ROOTS_TYPE => "roots",
        _ => "authorization",
    }
}

/// The name by which an address may be asked for: `network/ip`.
fn alias(address: IpAddr) -> String {
    format!("{NETWORK}/{address}")
}

/// Who we say we are, in the form that Istio's control plane reads.
fn describe_node(node: &str, cluster: &str) -> Node {
    let text = |value: &str| prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(value.to_owned())),
    };
    let fields = [("NODE_NAME", text(node)), ("CLUSTER_ID", text(cluster))];
    Node {
        id: format!("ztunnel~127.0.0.1~culvert-ztunnel-{node}.culvert-system~culvert-system.svc.cluster.local"),
        metadata: Some(prost_types::Struct {
            fields: fields.map(|(key, value)| (key.to_owned(), value)).into(),
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::ControllerArgs, state::Mesh, wire::Secrets};

    #[test]
    fn a_scan_while_the_controller_is_away_costs_a_bounded_number_of_names() {
        let (asks, _) = mpsc::unbounded_channel();
        let (socket_requests, _) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            mesh: arc_swap::ArcSwap::from_pointee(Mesh::default()),
            credentials: arc_swap::ArcSwap::default(),
            asks,
            socket_requests,
            telemetry: crate::telemetry::Telemetry::new(),
        });
        let args = ControllerArgs {
            controller: "https://localhost:15012".into(),
            controller_name: None,
            controller_ca: "unused".into(),
            token_file: "unused".into(),
            cluster_id: "Kubernetes".into(),
            trust_domain: "cluster.local".into(),
            mesh_cidrs: vec![],
            config_mode: ConfigMode::OnDemand,
        };
        let endpoint = Endpoint::new(args, tokio::sync::watch::channel(Secrets::default()).1);
        let mut configuration = Configuration::new(&endpoint, "node-a", shared, Arc::new(|| ()));
        for host in 0..MAX_PENDING as u32 {
            assert!(
                configuration
                    .ask(IpAddr::from((0xc612_0000 + host).to_be_bytes()))
                    .is_some()
            );
        }
        let late: IpAddr = [198, 19, 0, 1].into();
        assert!(configuration.ask(late).is_none());
        let requests = configuration.client.connect();
        let names = requests.iter().map(|request| request.resource_names_subscribe.len());
        assert_eq!(names.sum::<usize>(), MAX_PENDING + 1, "with the wildcard");
        configuration.settle(&[alias([198, 18, 0, 7].into())]);
        assert!(
            configuration.ask(late).is_some(),
            "an answer makes room for another question"
        );
    }
}
