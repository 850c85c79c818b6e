//! Control under test, with what the rest of a proxy would hold.

use std::{net::IpAddr, sync::Arc, time::Duration};

use culvert_identity::SpiffeId;
use culvert_state::{Awaited, Outbound, Pod};
use tokio::{
    sync::{Notify as Signal, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    super::{Ask, Caller, ControlMetrics, Inputs, Outputs, Published, Secrets, Served, Settings, run},
    controller::Controller,
};

/// What is subscribed to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    OnDemand,
    Wildcard,
}

pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Control under test, with what the rest of a proxy would hold.
pub(super) struct Proxy {
    pub(super) published: Published,
    pub(super) served: Arc<Served>,
    pub(super) asks: mpsc::UnboundedSender<Ask>,
    pub(super) changed: Arc<Signal>,
    pub(super) metrics: ControlMetrics,
    _secrets: watch::Sender<Secrets>,
    pub(super) task: JoinHandle<()>,
}

impl Proxy {
    pub(super) fn start(controller: &Controller, mode: Mode) -> Self {
        Self::start_with(controller, mode, |_| {})
    }

    pub(super) fn start_with(controller: &Controller, mode: Mode, change: impl FnOnce(&mut Settings)) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let published = Published::default();
        let served = Arc::new(Served::default());
        let (secrets, secrets_receiver) = watch::channel(Secrets {
            token: "node-a-token".into(),
            roots: controller.root_pem().into(),
        });
        let mut settings = Settings {
            caller: Caller::Node { name: "node-a".into() },
            controller: controller.url(),
            controller_name: None,
            controller_host: None,
            cluster_id: "Kubernetes".into(),
            trust_domain: "cluster.local".into(),
            mesh_ranges: vec![],
            api_server: None,
            on_demand: mode == Mode::OnDemand,
        };
        change(&mut settings);
        let inputs = Inputs {
            settings,
            secrets: secrets_receiver,
            asks: asked,
            served: Arc::clone(&served),
        };
        let changed = Arc::new(Signal::new());
        let notified = Arc::clone(&changed);
        let metrics = ControlMetrics::default();
        let outputs = Outputs {
            published: published.clone(),
            notify: Arc::new(move |_| notified.notify_one()),
            metrics: metrics.clone(),
        };
        let task = tokio::spawn(run(inputs, outputs));
        Self {
            published,
            served,
            asks,
            changed,
            metrics,
            _secrets: secrets,
            task,
        }
    }

    /// Waits for a snapshot of which this is true.
    pub(super) async fn until(&self, what: &str, condition: impl Fn(&Published) -> bool) {
        let wait = async {
            while !condition(&self.published) {
                // Refusals change without a notice.
                let _ = timeout(Duration::from_millis(20), self.changed.notified()).await;
            }
        };
        assert!(timeout(DEADLINE, wait).await.is_ok(), "{what} did not come about");
    }

    pub(super) fn pod(&self, account: &str) -> Arc<Pod> {
        let pod = Arc::new(Pod {
            uid: account.into(),
            name: "client".into(),
            namespace: "shop".into(),
            identity: SpiffeId::new("cluster.local", "shop", account).unwrap(),
            addresses: vec![[198, 18, 0, 1].into()],
            node: "node-a".into(),
        });
        self.serve(&pod);
        pod
    }

    pub(super) fn serve(&self, pod: &Arc<Pod>) {
        self.served.insert(Arc::clone(pod));
        self.asks.send(Ask::Certificate(pod.identity.clone())).unwrap();
    }

    pub(super) fn outbound(&self, pod: &Pod, destination: &str) -> Outbound {
        let decision = self
            .published
            .mesh
            .load()
            .outbound(pod, destination.parse().unwrap(), &[]);
        if let Outbound::Pending(Awaited::Answer(address)) = &decision {
            self.asks.send(Ask::Address(*address)).unwrap();
        }
        decision
    }

    pub(super) fn knows(&self, address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        self.published.mesh.load().workload_at(address).is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
