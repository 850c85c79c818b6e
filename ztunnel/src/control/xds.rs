//! The configuration task: runs the delta xDS client over a stream, and begins again when the stream ends.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use culvert_identity::TrustBundle;
use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE, MESH_NAME, MESH_TYPE, ROOTS_TYPE,
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use culvert_xds::client::{Client, Mode, Rejection, Update};
use ipnet::IpNet;
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Streaming};

use super::{
    backoff::Backoff,
    channel::{Endpoint, chain, describe},
    served::{Notify, Served},
    subscriptions::{Asked, Subscriptions},
};
use crate::{
    cli::ConfigMode,
    seam::{LoopMessage, Shared},
};
use culvert_state::{Store, mesh_ranges};

/// The proxy's own network; more than one network comes with multi-cluster.
const NETWORK: &str = "";

/// A response may describe a whole large mesh.
const MAX_RESPONSE: usize = 512 * 1024 * 1024;

/// How often subscriptions are looked through for those that nothing uses.
const LOOK: Duration = Duration::from_secs(15);

/// Pauses before the controller is tried again.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Runs until the future is dropped.
pub(super) async fn run(
    endpoint: Endpoint,
    node: String,
    served: Arc<Served>,
    mut asks: mpsc::UnboundedReceiver<Question>,
    shared: Arc<Shared>,
    notify: Notify,
) {
    let mut configuration = Configuration::new(&endpoint, &node, served, shared, notify);
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
                Some(question) = asks.recv() => drop(configuration.hear(question)),
            }
        }
    }
}

/// What loops say of addresses.
pub(super) enum Question {
    /// Who has it?
    Who(IpAddr),
    /// Connections went there.
    Used(Vec<IpAddr>),
}

struct Configuration {
    endpoint: Endpoint,
    node: String,
    client: Client,
    store: Store,
    on_demand: bool,
    /// Types whose first response is still to come.
    missing: BTreeSet<&'static str>,
    subscriptions: Subscriptions,
    look: Interval,
    served: Arc<Served>,
    shared: Arc<Shared>,
    notify: Notify,
}

impl Configuration {
    fn new(endpoint: &Endpoint, node: &str, served: Arc<Served>, shared: Arc<Shared>, notify: Notify) -> Self {
        let args = endpoint.args();
        let on_demand = args.config_mode == ConfigMode::OnDemand;
        let mode = if on_demand { Mode::OnDemand } else { Mode::Wildcard };
        let mut store = Store::new(NETWORK, &args.trust_domain, on_demand);
        store.claim(&args.mesh_cidrs, false);
        store.set_bootstrap(args.api_server());
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut configuration = Self {
            endpoint: endpoint.clone(),
            node: node.to_owned(),
            client: Client::new(
                describe_node(node, &args.cluster_id),
                [
                    (ADDRESS_TYPE, mode),
                    (AUTHORIZATION_TYPE, Mode::Wildcard),
                    (ROOTS_TYPE, Mode::Wildcard),
                    (MESH_TYPE, Mode::Wildcard),
                ],
            ),
            store,
            on_demand,
            missing: BTreeSet::from([ADDRESS_TYPE, AUTHORIZATION_TYPE]),
            subscriptions: Subscriptions::default(),
            look,
            served,
            shared,
            notify,
        };
        // What may be reached before the controller has answered.
        configuration.publish();
        configuration
    }

    /// One connection, until it ends; returns why.
    async fn follow(
        &mut self,
        endpoint: &Endpoint,
        asks: &mut mpsc::UnboundedReceiver<Question>,
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
                            Ok(ack) => Some(ack),
                            Err(why) => return why,
                        }
                    }
                    Ok(None) => return "the controller ended the stream".into(),
                    Err(status) => return describe(&status),
                },
                Some(question) = asks.recv() => self.hear(question),
                _ = self.look.tick() => self.give_up_unused(),
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
    fn take(&mut self, response: &DeltaDiscoveryResponse) -> Result<DeltaDiscoveryRequest, String> {
        let metrics = self.shared.telemetry.proxy();
        let label = [("type", short(&response.type_url))];
        metrics.responses.get_or_create(&label).inc();
        let (store, rejected, endpoint) = (&mut self.store, &metrics.rejected, &self.endpoint);
        let flags = &self.endpoint.args().mesh_cidrs;
        let ack = self.client.receive(response, |update| {
            let rejections = match update.type_url {
                ROOTS_TYPE => apply_roots(endpoint, &update),
                MESH_TYPE => apply_ranges(store, flags, &update),
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
        if response.type_url == ADDRESS_TYPE && self.on_demand {
            self.settle(&response.removed_resources);
        }
        self.publish();
        Ok(ack)
    }

    /// Marks questions as answered: those about addresses of which the response said something, and those about addresses
    /// that it says nobody has.
    fn settle(&mut self, removed: &[String]) {
        let touched: Vec<IpAddr> = self.store.changed_addresses().collect();
        for address in touched
            .into_iter()
            .chain(removed.iter().filter_map(|name| unalias(name)))
        {
            if self.subscriptions.answer(address, self.store.knows(address)) {
                self.store.set_answered(address);
            }
        }
    }

    fn hear(&mut self, question: Question) -> Option<DeltaDiscoveryRequest> {
        match question {
            Question::Who(address) => self.ask(address),
            Question::Used(addresses) => {
                self.subscriptions.set_used(&addresses, Instant::now());
                None
            }
        }
    }

    /// Takes a loop's question in.
    fn ask(&mut self, address: IpAddr) -> Option<DeltaDiscoveryRequest> {
        if !self.on_demand {
            return None;
        }
        let asked = self.subscriptions.ask(address, Instant::now());
        let is_known = self.store.knows(address);
        // Where it was answered before, the loop asked before it saw that.
        if is_known || asked == Asked::Answered {
            self.subscriptions.answer(address, is_known);
            self.store.set_answered(address);
            self.publish();
        }
        if asked != Asked::New {
            return None;
        }
        let subscribe = self.client.subscribe(ADDRESS_TYPE, [alias(address)]);
        let gone = self.subscriptions.take_excess(&self.own_addresses());
        let unsubscribe = self.give_up(gone);
        self.show_subscriptions();
        match (subscribe, unsubscribe) {
            (Some(mut both), Some(gone)) => {
                both.resource_names_unsubscribe = gone.resource_names_unsubscribe;
                Some(both)
            }
            (one, other) => one.or(other),
        }
    }

    fn give_up_unused(&mut self) -> Option<DeltaDiscoveryRequest> {
        let gone = self.subscriptions.take_unused(&self.own_addresses(), Instant::now());
        let request = self.give_up(gone);
        self.show_subscriptions();
        request
    }

    /// Forgets these addresses, and what is held for their sake alone.
    fn give_up(&mut self, gone: Vec<IpAddr>) -> Option<DeltaDiscoveryRequest> {
        if gone.is_empty() {
            return None;
        }
        let subscriptions = &self.subscriptions;
        let names = self
            .store
            .unsubscribed(&gone, |address| subscriptions.is_subscribed(address), &self.node);
        names.iter().for_each(|name| self.store.remove_address(name));
        gone.iter().for_each(|address| self.store.forget_answer(*address));
        tracing::debug!(addresses = gone.len(), resources = names.len(), "gave subscriptions up");
        self.publish();
        self.client.forget(ADDRESS_TYPE, names.iter().map(|name| &**name));
        self.client.unsubscribe(ADDRESS_TYPE, gone.into_iter().map(alias))
    }

    fn own_addresses(&self) -> BTreeSet<IpAddr> {
        let pods = self.served.all();
        let addresses = pods.iter().flat_map(|pod| &pod.addresses);
        addresses.map(IpAddr::to_canonical).collect()
    }

    fn show_subscriptions(&self) {
        let subscribed = &self.shared.telemetry.proxy().subscribed_addresses;
        subscribed.set(self.subscriptions.len() as i64);
    }

    fn publish(&mut self) {
        let mesh = self.store.snapshot();
        let held = &self.shared.telemetry.proxy().resources;
        for (kind, size) in ["workload", "service", "policy"].into_iter().zip(mesh.sizes()) {
            held.get_or_create(&[("kind", kind)]).set(size as i64);
        }
        self.shared.mesh.store(mesh);
        (self.notify)(LoopMessage::MeshChanged(Arc::new(self.store.take_change())));
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

/// Takes the mesh's ranges over, beside those that were given by hand.
fn apply_ranges(store: &mut Store, by_hand: &[IpNet], update: &Update<'_>) -> Vec<Rejection> {
    if update.removed.iter().any(|name| name == MESH_NAME) {
        store.claim(by_hand, false);
    }
    let mut rejections = Vec::new();
    for resource in update.resources.iter().filter(|resource| resource.name == MESH_NAME) {
        let bytes = resource.resource.as_ref().map_or(&[][..], |any| &any.value);
        match mesh_ranges(bytes) {
            // A controller that does not know its cluster's ranges yet does not say that there are none.
            Ok(ranges) => {
                let told = !ranges.is_empty();
                let all: BTreeSet<IpNet> = ranges.into_iter().chain(by_hand.iter().copied()).collect();
                tracing::info!(ranges = ?all, "the mesh's ranges");
                store.claim(&all.into_iter().collect::<Vec<_>>(), told);
            }
            Err(error) => rejections.push(Rejection {
                name: resource.name.clone(),
                reason: error.to_string(),
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
        MESH_TYPE => "mesh",
        _ => "authorization",
    }
}

/// The name by which an address may be asked for: `network/ip`.
fn alias(address: IpAddr) -> String {
    format!("{NETWORK}/{address}")
}

/// The address in such a name.
fn unalias(name: &str) -> Option<IpAddr> {
    name.strip_prefix(NETWORK)?.strip_prefix('/')?.parse().ok()
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
