//! Configuration of other types than the mesh's, for a proxy that says itself what it takes: a waypoint, with Envoy's.
//!
//! ```text
//! controller ──delta xDS──> run_resources ── Resources::apply, publish ──> the proxy's own snapshot
//!            <─subscribe────             <── Resources::wanted
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use culvert_proto::{
    ROOTS_TYPE,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use culvert_xds::client::{Client, Mode, Rejection, Update};
use tokio::sync::mpsc;

use crate::{
    Ask, ControlMetrics, Inputs, Outputs,
    apply::apply_roots,
    backoff::Backoff,
    certificates,
    channel::{ControllerClient, describe},
    stream,
};

/// A type of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceType {
    /// The type URL.
    pub url: &'static str,
    /// How it is subscribed to.
    pub mode: Mode,
    /// What metrics call it.
    pub label: &'static str,
}

/// Takes resources in. Called by one task.
pub trait Resources: Send + 'static {
    /// The types. Always the same.
    fn types(&self) -> Vec<ResourceType>;

    /// Takes over what a response says, but for what it refuses: there the last good one stays.
    fn apply(&mut self, update: &Update<'_>) -> Vec<Rejection>;

    /// The names that are wanted now of a type that is subscribed on demand, after something of `changed` came. None: as before.
    fn wanted(&self, type_url: &str, changed: &str) -> Option<BTreeSet<String>>;

    /// These are not subscribed to any more.
    fn give_up(&mut self, type_url: &str, names: &BTreeSet<String>);

    /// A response was taken over: time to show what has changed.
    fn publish(&mut self);
}

/// Keeps resources and certificates in step with the controller. Runs until the future is dropped.
pub async fn run_resources(inputs: Inputs, outputs: Outputs, resources: impl Resources) {
    let Inputs {
        settings,
        secrets,
        mut asks,
        served,
    } = inputs;
    let (wanted, wanted_identities) = mpsc::unbounded_channel();
    let controller = ControllerClient::new(settings, secrets);
    let sort = async {
        while let Some(ask) = asks.recv().await {
            // Nothing else is asked for by a proxy without the mesh's state. The receiver lives as long as this function.
            if let Ask::Certificate(identity) = ask {
                let _ = wanted.send(identity);
            }
        }
    };
    let follower = Follower::new(controller.clone(), outputs.metrics.clone(), resources);
    tokio::join!(
        sort,
        follower.run(),
        certificates::run(controller, Arc::clone(&served), wanted_identities, outputs),
    );
}

struct Follower<R> {
    controller: ControllerClient,
    metrics: ControlMetrics,
    client: Client,
    types: Vec<ResourceType>,
    subscribed: BTreeMap<&'static str, BTreeSet<String>>,
    resources: R,
}

impl<R: Resources> Follower<R> {
    fn new(controller: ControllerClient, metrics: ControlMetrics, resources: R) -> Self {
        let types = resources.types();
        let all = types.iter().map(|kind| (kind.url, kind.mode));
        let settings = controller.settings();
        let client = Client::new(
            settings.caller.describe(&settings.cluster_id),
            all.chain([(ROOTS_TYPE, Mode::Wildcard)]),
        );
        Self {
            controller,
            metrics,
            client,
            types,
            subscribed: BTreeMap::new(),
            resources,
        }
    }

    async fn run(mut self) {
        // A replica that ends is followed by the other at once.
        let mut backoff = Backoff::new(stream::FIRST_RETRY, stream::LAST_RETRY);
        loop {
            let outcome = self.follow(&mut backoff).await;
            self.metrics.controller_connected.set(0);
            self.controller.forget().await;
            let pause = backoff.pause();
            tracing::warn!(why = outcome, retry_in = ?pause, "no configuration stream; the last state stays in force");
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection, until it ends; returns why.
    async fn follow(&mut self, backoff: &mut Backoff) -> String {
        let (requests, mut responses) = match stream::open(&self.controller, &self.client, &self.metrics).await {
            Ok(stream) => stream,
            Err(why) => return why,
        };
        loop {
            let response = match responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return "the controller ended the stream".into(),
                Err(status) => return describe(&status),
            };
            backoff.reset();
            let ack = match self.take(&response) {
                Ok(ack) => ack,
                Err(why) => return why,
            };
            // What is referred to is asked for before the acknowledgement, so that the controller has it ready before it sends what may
            // refer further: a route to a cluster must not come before the cluster's endpoints. Sending fails only when the stream has
            // ended, which the next `message` says.
            for request in self.resubscribe(&response.type_url) {
                let _ = requests.send(request);
            }
            let _ = requests.send(ack);
            self.resources.publish();
        }
    }

    fn take(&mut self, response: &DeltaDiscoveryResponse) -> Result<DeltaDiscoveryRequest, String> {
        let kind = self.types.iter().find(|kind| kind.url == response.type_url);
        let label = [("type", kind.map_or("roots", |kind| kind.label))];
        self.metrics.count(label, response);
        let (resources, controller, rejected) = (&mut self.resources, &self.controller, &self.metrics.rejected);
        let ack = self.client.receive(response, |update| {
            let rejections = match update.type_url {
                ROOTS_TYPE => apply_roots(controller, &update),
                _ => resources.apply(&update),
            };
            rejected.get_or_create(&label).inc_by(rejections.len() as u64);
            rejections
        });
        let ack = ack.map_err(|error| error.to_string())?;
        if let Some(refusal) = &ack.error_detail {
            self.metrics.nacks.get_or_create(&label).inc();
            tracing::error!(reason = refusal.message, "refused configuration");
        }
        Ok(ack)
    }

    /// Subscribes to what is referred to by now, and gives up what no longer is.
    fn resubscribe(&mut self, changed: &str) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        for kind in self.types.iter().filter(|kind| kind.mode == Mode::OnDemand) {
            let Some(wanted) = self.resources.wanted(kind.url, changed) else {
                continue;
            };
            let before = self.subscribed.entry(kind.url).or_default();
            let new: Vec<String> = wanted.difference(before).cloned().collect();
            let gone: BTreeSet<String> = before.difference(&wanted).cloned().collect();
            requests.extend(self.client.subscribe(kind.url, new));
            if !gone.is_empty() {
                requests.extend(self.client.unsubscribe(kind.url, gone.iter().cloned()));
                self.client.forget(kind.url, gone.iter().map(String::as_str));
                self.resources.give_up(kind.url, &gone);
            }
            *before = wanted;
        }
        requests
    }
}
