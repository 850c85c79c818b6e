//! Deciding about one pod.
//!
//! 1. The source says whether the pod is wanted. When it is, its snapshots contain the pod from then on, although the API
//!    server knows no address of it yet.
//! 2. Enrolment takes the pod in; its status says when it is captured. Capture counts only when it is that of the network
//!    namespace which the plug-in named: a pod whose sandbox is made anew keeps its UID, and its old sandbox may be captured still.
//!
//! When nobody can say whether a pod is wanted, it is decided as the plug-in does alone: pods of enrolled namespaces wait.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_cni::{
    config::SYSTEM_NAMESPACE,
    wire::{Answer, Command, Failure, Request},
};
use culvert_net::{NetError, Netns};
use culvert_proto::zds::Version;
use tokio::{sync::watch, time::timeout_at};

use super::metrics::{Metrics, Outcome};
use crate::{
    enrolment::status::{PodState, PodStatus, ProxyStatus, Status},
    source::kubernetes::{Arrival, ArrivalError, Arrivals, Verdict},
};

/// How long a pod may take. The plug-in waits a little longer, and the kubelet asks again.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long a failure must last before it is an answer: it may be left from the sandbox before, and enrolment tries again.
const LASTING: Duration = Duration::from_secs(1);

/// How long a captured pod waits for its certificate, so that its first connection does not. One that has none by then starts
/// all the same: what it opens waits in the proxy.
const CERTIFICATE: Duration = Duration::from_secs(1);

/// Where to look.
const REMEDY: &str = "the kubelet tries again; the agent's page /pods (port 15022 of the pod of DaemonSet culvert-node in \
                      culvert-system on this node) and its log say more";

/// What the gate needs of the source of pods.
pub trait Gatekeeper: Send + Sync + 'static {
    /// See [`Arrivals::arrive`].
    fn arrive(&self, arrival: Arrival) -> impl Future<Output = Result<Verdict, ArrivalError>> + Send;

    /// See [`Arrivals::leave`].
    fn leave(&self, uid: &str, netns: Option<&Path>);
}

impl Gatekeeper for Arrivals {
    fn arrive(&self, arrival: Arrival) -> impl Future<Output = Result<Verdict, ArrivalError>> + Send {
        Arrivals::arrive(self, arrival)
    }

    fn leave(&self, uid: &str, netns: Option<&Path>) {
        Arrivals::leave(self, uid, netns);
    }
}

/// Answers requests; see the module.
#[derive(Debug)]
pub struct Doorkeeper<G> {
    gatekeeper: G,
    status: watch::Receiver<Arc<Status>>,
    enrolled: watch::Receiver<BTreeSet<String>>,
    metrics: Arc<Metrics>,
    patience: Duration,
}

/// A pod that is wanted and must be captured.
struct Wanted<'a> {
    pod: &'a str,
    uid: &'a str,
    /// Of the network namespace that the plug-in named.
    cookie: u64,
}

/// How far a wanted pod is.
enum Progress {
    Captured,
    /// Captured, and without a certificate yet.
    Uncertified,
    /// It will not get there by itself, for this reason.
    Stuck(String),
    /// What is still missing.
    Underway(String),
}

impl<G: Gatekeeper> Doorkeeper<G> {
    /// `enrolled` are the cluster's enrolled namespaces, as far as known.
    pub fn new(
        gatekeeper: G,
        status: watch::Receiver<Arc<Status>>,
        enrolled: watch::Receiver<BTreeSet<String>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            gatekeeper,
            status,
            enrolled,
            metrics,
            patience: PATIENCE,
        }
    }

    /// With another patience than the default.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers a request, in bounded time. Dropping the future withdraws nothing: the source forgets pods that do not come.
    pub async fn answer(&self, request: Request) -> Answer {
        match request.command {
            Command::Add => self.add(request).await,
            Command::Del => {
                // Without the namespace's name nobody could tell whether the sandbox is the pod's present one.
                if let (Some(uid), Some(netns)) = (&request.uid, &request.netns) {
                    self.gatekeeper.leave(uid, Some(netns));
                }
                self.metrics.left();
                Answer::Ok
            }
        }
    }

    async fn add(&self, request: Request) -> Answer {
        let _waiting = self.metrics.waiting();
        let started = Instant::now();
        let pod = format!("{}/{}", request.namespace, request.name);
        let (outcome, answer) = self.judge(&pod, request).await;
        self.metrics.arrived(outcome, started.elapsed());
        if let Answer::Error { message, .. } = &answer {
            tracing::warn!(pod, message, "a new pod must not start yet");
        }
        answer
    }

    async fn judge(&self, pod: &str, request: Request) -> (Outcome, Answer) {
        let deadline = tokio::time::Instant::now() + self.patience;
        if request.namespace == SYSTEM_NAMESPACE {
            return (Outcome::Outside, Answer::Ok);
        }
        let is_enrolled = self.enrolled.borrow().contains(&request.namespace);
        let (Some(uid), Some(netns)) = (request.uid, request.netns) else {
            let problem = "the container runtime tells neither its UID (K8S_POD_UID) nor its network namespace; a newer \
                           one does";
            return undecided(pod, is_enrolled, Failure::BadRequest, problem);
        };
        let arrival = Arrival {
            namespace: request.namespace,
            name: request.name,
            uid,
            netns: netns.clone(),
            addresses: request.addresses,
        };
        let uid = match timeout_at(deadline, self.gatekeeper.arrive(arrival)).await {
            Ok(Ok(Verdict::Outside)) => return (Outcome::Outside, Answer::Ok),
            Ok(Ok(Verdict::Wanted { uid })) => uid,
            Ok(Err(error @ ArrivalError::Unknown { .. })) => {
                return undecided(pod, is_enrolled, Failure::UnknownPod, &chain(&error));
            }
            Ok(Err(error)) => return undecided(pod, is_enrolled, Failure::Undecided, &chain(&error)),
            Err(_) => {
                return undecided(
                    pod,
                    is_enrolled,
                    Failure::Undecided,
                    "the API server does not answer in time",
                );
            }
        };
        let cookie = match cookie(&netns) {
            Ok(cookie) => cookie,
            Err(error) => return (Outcome::Refused, refusal(Failure::Refused, pod, &chain(&error))),
        };
        let wanted = Wanted { pod, uid: &uid, cookie };
        self.wait(&wanted, deadline).await
    }

    /// Waits until the pod is captured.
    async fn wait(&self, wanted: &Wanted<'_>, deadline: tokio::time::Instant) -> (Outcome, Answer) {
        let pod = wanted.pod;
        let mut status = self.status.clone();
        let mut stuck_since = None;
        let mut captured_since = None;
        loop {
            let progress = wanted.progress(&status.borrow_and_update());
            let (until, problem) = match progress {
                Progress::Captured => return (Outcome::Captured, Answer::Ok),
                Progress::Uncertified => {
                    let since = *captured_since.get_or_insert_with(tokio::time::Instant::now);
                    match timeout_at(deadline.min(since + CERTIFICATE), status.changed()).await {
                        Ok(Ok(())) => continue,
                        _ => return (Outcome::Captured, Answer::Ok),
                    }
                }
                Progress::Stuck(problem) => {
                    let since = *stuck_since.get_or_insert_with(tokio::time::Instant::now);
                    (deadline.min(since + LASTING.min(self.patience / 2)), Err(problem))
                }
                Progress::Underway(problem) => {
                    stuck_since = None;
                    (deadline, Ok(problem))
                }
            };
            match timeout_at(until, status.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return (Outcome::Late, refusal(Failure::Late, pod, "the agent is ending")),
                Err(_) => {
                    return match problem {
                        Err(problem) => (Outcome::Refused, refusal(Failure::Refused, pod, &problem)),
                        Ok(missing) => {
                            let problem = format!(
                                "it was not captured within {} s: {missing}",
                                self.patience.as_secs_f32()
                            );
                            (Outcome::Late, refusal(Failure::Late, pod, &problem))
                        }
                    };
                }
            }
        }
    }
}

impl Wanted<'_> {
    fn progress(&self, status: &Status) -> Progress {
        let of_it: Vec<&PodStatus> = status.pods.iter().filter(|pod| &*pod.uid == self.uid).collect();
        let is_in = |pod: &&&PodStatus| pod.state == PodState::Captured && pod.cookie == Some(self.cookie);
        if let Some(pod) = of_it.iter().find(is_in) {
            // Others, such as Istio's, do not tell.
            let tells = |proxy: &ProxyStatus| proxy.version == Version::CulvertV1;
            return match pod.certified || !status.proxies.iter().any(tells) {
                true => Progress::Captured,
                false => Progress::Uncertified,
            };
        }
        let Some(pod) = of_it.first() else {
            return Progress::Underway("the agent has not come to it yet".to_owned());
        };
        let why = pod.problem.clone();
        match pod.state {
            PodState::Failed | PodState::Refused => {
                Progress::Stuck(why.unwrap_or_else(|| pod.state.as_str().to_owned()))
            }
            PodState::Outside => {
                Progress::Underway(why.unwrap_or_else(|| "it is not part of the mesh any more".to_owned()))
            }
            PodState::Waiting if status.proxies.is_empty() => {
                Progress::Underway("no proxy is connected to the agent (container ztunnel of its pod)".to_owned())
            }
            PodState::Waiting => Progress::Underway("the proxy has not accepted it".to_owned()),
            PodState::Captured | PodState::Leaving => {
                Progress::Underway("the sandbox that it had before has not left yet".to_owned())
            }
        }
    }
}

/// The answer when it is not known whether the pod is wanted.
fn undecided(pod: &str, is_enrolled: bool, failure: Failure, problem: &str) -> (Outcome, Answer) {
    if is_enrolled {
        let outcome = match failure {
            Failure::UnknownPod => Outcome::UnknownPod,
            _ => Outcome::Undecided,
        };
        return (outcome, refusal(failure, pod, problem));
    }
    tracing::warn!(
        pod,
        problem,
        "a new pod starts unjudged, since its namespace is not enrolled"
    );
    (Outcome::Unjudged, Answer::Ok)
}

fn refusal(failure: Failure, pod: &str, problem: &str) -> Answer {
    Answer::error(
        failure,
        format!("pod {pod} cannot join the mesh yet: {problem}; {REMEDY}"),
    )
}

fn cookie(netns: &Path) -> Result<u64, NetError> {
    Netns::open(netns)?.cookie()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
