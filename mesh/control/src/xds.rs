//! The configuration task: runs the delta xDS client over a stream, and begins again when the stream ends.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE, MESH_TYPE, RANGES_ALIAS, ROOTS_TYPE, WILDCARDS_ALIAS,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use culvert_state::Store;
use culvert_xds::client::{Client, Mode};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior},
};

use crate::{
    Change, Outputs, Served,
    alias::{address_alias, address_of_alias, host_alias},
    apply::{apply, apply_mesh, apply_roots},
    backoff::Backoff,
    channel::{ControllerClient, describe},
    stream,
    subscriptions::{Asked, Subscriptions},
};

/// The proxy's own network; more than one network comes with multi-cluster.
const NETWORK: &str = "";

/// How often subscriptions are looked through for those that nothing uses.
const LOOK: Duration = Duration::from_secs(15);

/// Runs until the future is dropped.
pub(super) async fn run(
    controller: ControllerClient,
    served: Arc<Served>,
    mut asks: mpsc::UnboundedReceiver<Question>,
    outputs: Outputs,
) {
    let mut configuration = Configuration::new(&controller, served, outputs);
    // A replica that ends is followed by the other at once.
    let mut backoff = Backoff::new(stream::FIRST_RETRY, stream::LAST_RETRY);
    loop {
        let outcome = configuration.follow(&mut asks, &mut backoff).await;
        configuration.outputs.metrics.controller_connected.set(0);
        controller.forget().await;
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

/// What the data path says of addresses and host names.
pub(super) enum Question {
    /// Who has it?
    Who(IpAddr),
    /// Who has these host names?
    Hosts(Vec<Box<str>>),
    /// Connections went there.
    Used(Vec<IpAddr>),
    /// Connections went through waypoints of these names.
    UsedHosts(Vec<Arc<str>>),
}

pub(super) struct Configuration {
    pub(super) controller: ControllerClient,
    pub(super) client: Client,
    pub(super) store: Store,
    pub(super) on_demand: bool,
    /// Types whose first response is still to come.
    missing: BTreeSet<&'static str>,
    pub(super) subscriptions: Subscriptions<IpAddr>,
    pub(super) hosts: Subscriptions<Arc<str>>,
    /// The stream is new: its first answer is one to everything that was asked before.
    is_new: bool,
    look: Interval,
    served: Arc<Served>,
    pub(super) outputs: Outputs,
}

impl Configuration {
    fn new(controller: &ControllerClient, served: Arc<Served>, outputs: Outputs) -> Self {
        let settings = controller.settings();
        let on_demand = settings.on_demand;
        let mode = if on_demand { Mode::OnDemand } else { Mode::Wildcard };
        let mut store = Store::new(NETWORK, &settings.trust_domain, on_demand);
        store.claim(&settings.mesh_ranges, false);
        store.set_bootstrap(settings.api_server);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let types = [
            (ADDRESS_TYPE, mode),
            (AUTHORIZATION_TYPE, Mode::Wildcard),
            (ROOTS_TYPE, Mode::Wildcard),
            (MESH_TYPE, Mode::Wildcard),
        ];
        let mut client = Client::new(settings.caller.describe(&settings.cluster_id), types);
        if on_demand {
            // Part of the first request, so that there is nothing to send.
            client.subscribe(ADDRESS_TYPE, [RANGES_ALIAS, WILDCARDS_ALIAS].map(str::to_owned));
        }
        let mut configuration = Self {
            controller: controller.clone(),
            client,
            store,
            on_demand,
            missing: BTreeSet::from([ADDRESS_TYPE, AUTHORIZATION_TYPE]),
            subscriptions: Subscriptions::default(),
            hosts: Subscriptions::default(),
            is_new: true,
            look,
            served,
            outputs,
        };
        // What may be reached before the controller has answered.
        configuration.publish();
        configuration
    }

    /// One connection, until it ends; returns why.
    async fn follow(&mut self, asks: &mut mpsc::UnboundedReceiver<Question>, backoff: &mut Backoff) -> String {
        let (requests, mut responses) = match stream::open(&self.controller, &self.client, &self.outputs.metrics).await
        {
            Ok(stream) => stream,
            Err(why) => return why,
        };
        self.is_new = true;
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

    /// Applies a response and publishes the result.
    fn take(&mut self, response: &DeltaDiscoveryResponse) -> Result<DeltaDiscoveryRequest, String> {
        let metrics = &self.outputs.metrics;
        let label = [("type", short(&response.type_url))];
        metrics.count(label, response);
        let (store, rejected, controller) = (&mut self.store, &metrics.rejected, &self.controller);
        let by_hand = &controller.settings().mesh_ranges;
        let ack = self.client.receive(response, |update| {
            let rejections = match update.type_url {
                ROOTS_TYPE => apply_roots(controller, &update),
                MESH_TYPE => apply_mesh(store, by_hand, &update),
                _ => apply(store, &update),
            };
            rejected.get_or_create(&label).inc_by(rejections.len() as u64);
            rejections
        });
        let ack = ack.map_err(|error| error.to_string())?;
        if let Some(refusal) = &ack.error_detail {
            metrics.nacks.get_or_create(&label).inc();
            tracing::error!(reason = refusal.message, "refused configuration");
        }
        let first = self.missing.remove(response.type_url.as_str());
        if first && self.missing.is_empty() {
            self.store.set_synced();
            tracing::info!("configuration is complete");
        }
        if response.type_url == ADDRESS_TYPE && self.on_demand {
            self.settle(&response.removed_resources);
            let is_first = std::mem::take(&mut self.is_new);
            self.settle_hosts(&response.removed_resources, is_first);
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
            .chain(removed.iter().filter_map(|name| address_of_alias(NETWORK, name)))
        {
            if self.subscriptions.answer(&address, self.store.knows(address)) {
                self.store.set_answered(address);
            }
        }
    }

    fn hear(&mut self, question: Question) -> Option<DeltaDiscoveryRequest> {
        match question {
            Question::Who(address) => self.ask(address),
            Question::Hosts(hosts) => self.ask_hosts(hosts),
            Question::Used(addresses) => {
                self.subscriptions.set_used(&addresses, Instant::now());
                None
            }
            Question::UsedHosts(hosts) => {
                self.hosts.set_used(&hosts, Instant::now());
                None
            }
        }
    }

    /// Takes a question in.
    fn ask(&mut self, address: IpAddr) -> Option<DeltaDiscoveryRequest> {
        if !self.on_demand {
            return None;
        }
        let asked = self.subscriptions.ask(&address, Instant::now());
        let is_known = self.store.knows(address);
        // Where it was answered before, whoever asks had not seen that.
        if is_known || asked == Asked::Answered {
            self.subscriptions.answer(&address, is_known);
            self.store.set_answered(address);
            self.publish();
        }
        if asked != Asked::New {
            return None;
        }
        let subscribe = self.client.subscribe(ADDRESS_TYPE, [address_alias(NETWORK, address)]);
        let own = self.own_addresses();
        let gone = self.subscriptions.take_excess(|address| own.contains(address));
        let unsubscribe = self.give_up(gone, Vec::new());
        self.show_subscriptions();
        both(subscribe, unsubscribe)
    }

    fn give_up_unused(&mut self) -> Option<DeltaDiscoveryRequest> {
        let (own, now) = (self.own_addresses(), Instant::now());
        let gone = self.subscriptions.take_unused(|address| own.contains(address), now);
        let gone_hosts = self.hosts.take_unused(|_| false, now);
        let request = self.give_up(gone, gone_hosts);
        self.show_subscriptions();
        request
    }

    /// Forgets these addresses and host names, and what is held for their sake alone.
    pub(super) fn give_up(&mut self, gone: Vec<IpAddr>, gone_hosts: Vec<Arc<str>>) -> Option<DeltaDiscoveryRequest> {
        if gone.is_empty() && gone_hosts.is_empty() {
            return None;
        }
        let (subscriptions, hosts) = (&self.subscriptions, &self.hosts);
        let caller = &self.controller.settings().caller;
        let names = self.store.unsubscribed(
            (&gone, &gone_hosts),
            |address| subscriptions.is_subscribed(&address),
            |host| hosts.is_subscribed(host),
            |workload| caller.is_sent(workload),
        );
        names.iter().for_each(|name| self.store.remove_address(name));
        gone.iter().for_each(|address| self.store.forget_answer(*address));
        gone_hosts.iter().for_each(|host| self.store.forget_host(host));
        tracing::debug!(
            addresses = gone.len(),
            hosts = gone_hosts.len(),
            resources = names.len(),
            "gave subscriptions up"
        );
        self.publish();
        self.client.forget(ADDRESS_TYPE, names.iter().map(|name| &**name));
        let aliases = gone.into_iter().map(|address| address_alias(NETWORK, address));
        let aliases = aliases.chain(gone_hosts.iter().map(|host| host_alias(host)));
        self.client.unsubscribe(ADDRESS_TYPE, aliases.collect::<Vec<_>>())
    }

    fn own_addresses(&self) -> BTreeSet<IpAddr> {
        let pods = self.served.all();
        let addresses = pods.iter().flat_map(|pod| &pod.addresses);
        addresses.map(IpAddr::to_canonical).collect()
    }

    pub(super) fn show_subscriptions(&self) {
        let metrics = &self.outputs.metrics;
        metrics.subscribed_addresses.set(self.subscriptions.len() as i64);
        metrics.subscribed_hosts.set(self.hosts.len() as i64);
    }

    pub(super) fn publish(&mut self) {
        let mesh = self.store.snapshot();
        let held = &self.outputs.metrics.resources;
        for (kind, size) in ["workload", "service", "policy"].into_iter().zip(mesh.sizes()) {
            held.get_or_create(&[("kind", kind)]).set(size as i64);
        }
        self.outputs.published.mesh.store(mesh);
        (self.outputs.notify)(Change::Mesh(Arc::new(self.store.take_change())));
    }
}

/// One request of two: subscriptions, and those that they take the place of.
pub(super) fn both(
    subscribe: Option<DeltaDiscoveryRequest>,
    unsubscribe: Option<DeltaDiscoveryRequest>,
) -> Option<DeltaDiscoveryRequest> {
    match (subscribe, unsubscribe) {
        (Some(mut both), Some(gone)) => {
            both.resource_names_unsubscribe = gone.resource_names_unsubscribe;
            Some(both)
        }
        (one, other) => one.or(other),
    }
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
