//! Calls of the container runtime.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use culvert_proto::cri::{
    ListPodSandboxRequest, PodSandbox, PodSandboxFilter, PodSandboxState, PodSandboxStateValue,
    PodSandboxStatusRequest, PodSandboxStatusResponse, runtime_service_client::RuntimeServiceClient,
};
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use super::{info, lookup::Sought};

/// How long the runtime may take for one answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Questions asked at the same time.
const AT_ONCE: usize = 8;

/// Answers may be this large: `info` holds the whole specification of a container.
const LARGEST: usize = 16 << 20;

/// Labels that the kubelet puts on sandboxes.
const UID: &str = "io.kubernetes.pod.uid";
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const NAME: &str = "io.kubernetes.pod.name";

/// A pod's sandbox, running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sandbox {
    pub(super) netns: Option<PathBuf>,
    pub(super) pid: Option<u32>,
    pub(super) addresses: Vec<IpAddr>,
}

/// The container runtime of the node.
#[derive(Debug)]
pub(super) struct Runtime {
    sockets: Vec<PathBuf>,
    pub(super) calls: AtomicU64,
    pub(super) failures: AtomicU64,
}

impl Runtime {
    pub(super) fn new(sockets: Vec<PathBuf>) -> Self {
        Self {
            sockets,
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// One answer for each pod: its sandbox, `None` when none runs, or why that cannot be told.
    ///
    /// # Errors
    /// No runtime answers.
    pub(super) async fn sandboxes(&self, sought: &[Sought]) -> Result<Vec<Result<Option<Sandbox>, String>>, String> {
        let mut problems = Vec::new();
        for socket in self.sockets.iter().filter(|socket| socket.exists()) {
            match self.list(socket.display().to_string()).await {
                Ok((client, items)) => {
                    let running = newest(items);
                    let mut answers = Vec::with_capacity(sought.len());
                    for sought in sought {
                        let id = running.get(&key(&sought.uid, &sought.namespace, &sought.name)).cloned();
                        answers.push(self.status(client.clone(), id));
                    }
                    return Ok(stream::iter(answers).buffered(AT_ONCE).collect().await);
                }
                Err(problem) => problems.push(format!("{}: {problem}", socket.display())),
            }
        }
        if problems.is_empty() {
            problems.push("no container runtime's socket is there".into());
        }
        Err(problems.join("; "))
    }

    async fn list(&self, socket: String) -> Result<(RuntimeServiceClient<Channel>, Vec<PodSandbox>), String> {
        let endpoint = Endpoint::from_shared(format!("unix://{socket}")).map_err(|error| error.to_string())?;
        let channel = endpoint.connect_timeout(ANSWER).connect_lazy();
        let mut client = RuntimeServiceClient::new(channel).max_decoding_message_size(LARGEST);
        let ready = PodSandboxStateValue {
            state: PodSandboxState::SandboxReady.into(),
        };
        let request = ListPodSandboxRequest {
            filter: Some(PodSandboxFilter {
                state: Some(ready),
                ..PodSandboxFilter::default()
            }),
        };
        let listed = self.bounded(client.list_pod_sandbox(request)).await?;
        Ok((client, listed.items))
    }

    async fn status(
        &self,
        mut client: RuntimeServiceClient<Channel>,
        id: Option<String>,
    ) -> Result<Option<Sandbox>, String> {
        let Some(id) = id else { return Ok(None) };
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id,
            verbose: true,
        };
        let answer = self.bounded(client.pod_sandbox_status(request)).await?;
        let state = answer.status.as_ref().map(|status| status.state());
        Ok((state == Some(PodSandboxState::SandboxReady)).then(|| sandbox(answer)))
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, String> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = match timeout(ANSWER, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(format!("{}: {}", status.code(), status.message())),
            Err(_) => Err("no answer in time".into()),
        };
        if answer.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

/// The identifier of the newest running sandbox of each pod.
fn newest(mut items: Vec<PodSandbox>) -> HashMap<[String; 3], String> {
    items.retain(|item| item.state() == PodSandboxState::SandboxReady);
    items.sort_by_key(|item| item.created_at);
    let named = items.into_iter().filter_map(|item| {
        let label = |key| item.labels.get(key);
        Some((key(label(UID)?, label(NAMESPACE)?, label(NAME)?), item.id.clone()))
    });
    named.collect()
}

fn key(uid: &str, namespace: &str, name: &str) -> [String; 3] {
    [uid, namespace, name].map(str::to_owned)
}

fn sandbox(answer: PodSandboxStatusResponse) -> Sandbox {
    let network = answer.status.and_then(|status| status.network).unwrap_or_default();
    let texts = [network.ip]
        .into_iter()
        .chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    let told = answer
        .info
        .get("info")
        .map(|json| info::parse(json).unwrap_or_default())
        .unwrap_or_default();
    Sandbox {
        netns: told.netns,
        pid: told.pid,
        addresses: texts.filter_map(|text| text.parse().ok()).collect(),
    }
}
