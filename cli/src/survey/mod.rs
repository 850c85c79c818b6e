//! The facts about an installed mesh: what the API server knows, and what agents, proxies and controllers report, asked all
//! at once. Judging them is for `installed`.
//!
//! `nodes` has what belongs to a node, `endpoints` the EndpointSlices that no pod stands behind, `metric` reads metrics.

mod endpoints;
mod metric;
mod nodes;

pub(crate) use endpoints::HandMade;
pub(crate) use metric::metric;
pub(crate) use nodes::{NodeFacts, NodeReport, placed};

use crate::{
    cluster::{Cluster, Failure, Unanswered, for_each_limited, list, names, names::ports},
    foreign::ForeignPolicies,
};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    coordination::v1::Lease,
    core::v1::{ConfigMap, Event, Namespace, Node, Pod, ResourceQuota},
    networking::v1::NetworkPolicy,
};
use kube::{ResourceExt, api::ListParams};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that was found. An `Option` that is absent: it may not be listed.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) deployment: Option<Deployment>,
    pub(crate) daemon_set: Option<DaemonSet>,
    /// What the ConfigMap with the programs' settings has.
    pub(crate) settings: BTreeMap<String, String>,
    /// Warnings in our own namespace.
    pub(crate) warnings: Vec<Event>,
    /// The pod that holds the lease.
    pub(crate) leader: Option<String>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) nodes: Vec<NodeFacts>,
    pub(crate) namespaces: Vec<Namespace>,
    /// The cluster's, without our own.
    pub(crate) pods: Vec<Pod>,
    /// Namespaces that hold the trust bundle.
    pub(crate) bundles: Option<BTreeSet<String>>,
    /// Quotas that may stand in the way of a trust bundle; looked at when one is missing.
    pub(crate) quotas: Vec<ResourceQuota>,
    pub(crate) network_policies: Option<Vec<NetworkPolicy>>,
    /// Endpoints that somebody wrote by hand.
    pub(crate) hand_made: Vec<HandMade>,
    /// Policies of Istio and of the Gateway API.
    pub(crate) foreign: ForeignPolicies,
}

/// A controller's pod and what it reports.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) pod: Pod,
    pub(crate) status: Result<Value, Unanswered>,
}

impl Survey {
    /// Asks everybody.
    pub(crate) async fn of(cluster: &Cluster) -> Result<Self, Failure> {
        let all = ListParams::default();
        let (namespaces_of, pods_of, nodes_of) = (cluster.all(), cluster.all(), cluster.all());
        let (namespaces, pods, nodes): (Vec<Namespace>, Vec<Pod>, Vec<Node>) = futures_util::try_join!(
            list(&namespaces_of, &all, "listing namespaces"),
            list(&pods_of, &all, "listing pods"),
            list(&nodes_of, &all, "listing nodes"),
        )?;
        if !namespaces
            .iter()
            .any(|namespace| namespace.name_any() == names::NAMESPACE)
        {
            return Err(Failure::NotInstalled);
        }
        let doing = |error| Failure::of("reading what is installed in culvert-system", error);
        let (deployments, daemon_sets, leases) = (
            cluster.ours::<Deployment>(),
            cluster.ours::<DaemonSet>(),
            cluster.ours::<Lease>(),
        );
        let (deployment, daemon_set, lease) = futures_util::try_join!(
            deployments.get_opt(names::CONTROLLER),
            daemon_sets.get_opt(names::NODE),
            leases.get_opt(names::CONTROLLER),
        )
        .map_err(doing)?;
        let (ours, pods): (Vec<Pod>, Vec<Pod>) = pods
            .into_iter()
            .partition(|pod| pod.namespace().as_deref() == Some(names::NAMESPACE));
        let (controllers, nodes, foreign) = futures_util::join!(
            for_each_limited(app(&ours, names::CONTROLLER), |pod| controller(cluster, pod)),
            for_each_limited(placed(&nodes, &app(&ours, names::NODE)), |node| nodes::asked(
                cluster, node
            )),
            ForeignPolicies::of(cluster),
        );
        let mut survey = Self {
            deployment,
            daemon_set,
            leader: lease.and_then(|lease| lease.spec?.holder_identity),
            controllers,
            nodes,
            namespaces,
            pods,
            foreign,
            ..Self::default()
        };
        survey.look_further(cluster).await;
        Ok(survey)
    }

    /// What explains faults. Whoever may not read all of it does without what only that would show.
    async fn look_further(&mut self, cluster: &Cluster) {
        let warnings = ListParams::default().fields("type=Warning");
        self.warnings = list(&cluster.ours(), &warnings, "").await.unwrap_or_default();
        let settings = cluster.ours::<ConfigMap>().get_opt(names::CONFIG).await;
        self.settings = settings.ok().flatten().and_then(|map| map.data).unwrap_or_default();
        let all = ListParams::default();
        self.network_policies = list(&cluster.all(), &all, "").await.ok();
        let bundles = ListParams::default().fields(&format!("metadata.name={}", names::TRUST_BUNDLE));
        let bundles: Option<Vec<ConfigMap>> = list(&cluster.all(), &bundles, "").await.ok();
        self.bundles = bundles.map(|maps| maps.iter().filter_map(ResourceExt::namespace).collect());
        if self
            .bundles
            .as_ref()
            .is_some_and(|held| held.len() < self.namespaces.len())
        {
            self.quotas = list(&cluster.all(), &all, "").await.unwrap_or_default();
        }
        self.hand_made = endpoints::hand_made(cluster, &self.pods).await;
        if !self.hand_made.is_empty() {
            let nodes = std::mem::take(&mut self.nodes);
            self.nodes = for_each_limited(nodes, |node| nodes::with_workloads(cluster, node)).await;
        }
    }

    /// The labels of a namespace.
    pub(crate) fn labels_of(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        let found = self.namespaces.iter().find(|one| one.name_any() == namespace);
        found.map(ResourceExt::labels)
    }
}

/// The live pods of one of our programs.
fn app(ours: &[Pod], name: &str) -> Vec<Pod> {
    let is = |pod: &&Pod| {
        pod.labels()
            .get("app.kubernetes.io/name")
            .is_some_and(|value| value == name)
    };
    ours.iter().filter(is).cloned().collect()
}

async fn controller(cluster: &Cluster, pod: Pod) -> Controller {
    let status = match nodes::not_running(&pod) {
        Some(reason) => Err(reason),
        None => {
            let page = cluster.admin_page(&pod.name_any(), ports::CONTROLLER, "/status").await;
            page.and_then(|page| page.json())
        }
    };
    Controller { pod, status }
}
