//! Service account tokens: the API server says whose they are, and the token's pod says on which node.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;

use crate::clock::Clock;

use super::{
    Authenticator, Unauthenticated,
    claims::Claims,
    verdicts::{Verdict, Verdicts},
};

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take when an earlier acceptance could stand instead.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// How many reviews may be under way: strangers must not flood the API server through us.
const REVIEWS: usize = 32;

/// A pod as a token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoundPod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// What the API server says about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It accepts the token.
    Accepted {
        /// As `system:serviceaccount:NAMESPACE:NAME`.
        user: String,
        /// The audiences of ours that the token has.
        audiences: Vec<String>,
        /// The node that the token is bound to through its pod, where the API server says so.
        node: Option<String>,
        /// The pod that the token is bound to.
        pod: Option<BoundPod>,
    },
    /// It does not.
    Refused(String),
}

/// Asks the API server.
#[tonic::async_trait]
pub(crate) trait Review: Send + Sync + 'static {
    /// Asks about a token for an audience.
    ///
    /// # Errors
    /// When the API server cannot be asked, or cannot answer.
    async fn review(&self, token: &str, audience: &str) -> Result<Answer, String>;
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Where it is.
    pub namespace: String,
    /// What it is called.
    pub name: String,
}

impl std::str::FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(format!("`{text}` is not NAMESPACE/NAME")),
        }
    }
}

impl Account {
    fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// Looks a pod's node up where the API server does not name it.
pub(crate) type NodeOfPod = Box<dyn Fn(&BoundPod) -> Option<String> + Send + Sync>;

/// The authenticator.
pub(crate) struct Reviewed<R> {
    review: R,
    audience: String,
    users: Vec<String>,
    node_of_pod: NodeOfPod,
    verdicts: Verdicts,
    running: Semaphore,
    clock: Clock,
}

impl<R: Review> Reviewed<R> {
    /// Accepts tokens of `accounts` for `audience`.
    pub(crate) fn new(review: R, audience: &str, accounts: &[Account], node_of_pod: NodeOfPod, clock: Clock) -> Self {
        Self {
            review,
            audience: audience.to_owned(),
            users: accounts.iter().map(Account::user).collect(),
            node_of_pod,
            verdicts: Verdicts::default(),
            running: Semaphore::new(REVIEWS),
            clock,
        }
    }

    async fn ask(&self, token: &str, patience: Duration) -> Result<Answer, Unauthenticated> {
        let review = async {
            // Never closed.
            let _running = self.running.acquire().await;
            self.review.review(token, &self.audience).await
        };
        match tokio::time::timeout(patience, review).await {
            Ok(answer) => answer.map_err(Unauthenticated::Unavailable),
            Err(_) => Err(Unauthenticated::Unavailable(format!("no answer within {patience:?}"))),
        }
    }

    fn judge(&self, answer: Answer, claims: &Claims, now: SystemTime) -> Result<String, Unauthenticated> {
        let unix = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let refused = |said: &str| Unauthenticated::Refused(claims.explain(&self.audience, unix, said));
        let (user, audiences, node, pod) = match answer {
            Answer::Refused(said) => return Err(refused(&said)),
            Answer::Accepted {
                user,
                audiences,
                node,
                pod,
            } => (user, audiences, node, pod),
        };
        // An API server that knows nothing of audiences would accept any token.
        if !audiences.contains(&self.audience) {
            return Err(refused("it does not say that the token is meant for us"));
        }
        if !self.users.contains(&user) {
            return Err(Unauthenticated::Account(user));
        }
        if let Some(node) = node.filter(|node| !node.is_empty()) {
            return Ok(node);
        }
        let pod = pod.ok_or_else(|| Unauthenticated::NoNode("it is bound to no pod".into()))?;
        (self.node_of_pod)(&pod).ok_or_else(|| {
            let BoundPod { namespace, name, uid } = pod;
            Unauthenticated::NoNode(format!(
                "pod {namespace}/{name} with uid {uid} is not known, or not on a node"
            ))
        })
    }
}

#[tonic::async_trait]
impl<R: Review> Authenticator for Reviewed<R> {
    async fn node_of(&self, token: &str) -> Result<String, Unauthenticated> {
        // What has not the form of a token is not worth the API server's time.
        let claims = Claims::parse(token).map_err(|error| Unauthenticated::Refused(error.to_string()))?;
        let expires = claims
            .expires
            .and_then(|at| Some(UNIX_EPOCH + Duration::from_secs(at.try_into().ok()?)));
        let slot = self.verdicts.slot(token, self.clock.now());
        let mut verdict = slot.lock().await;
        let now = self.clock.now();
        if let Some(verdict) = verdict.as_ref().filter(|verdict| verdict.is_fresh(now)) {
            return verdict.outcome.clone();
        }
        let usable = verdict.as_ref().is_some_and(|verdict| verdict.is_usable(now));
        let patience = if usable { SHORT_PATIENCE } else { PATIENCE };
        let outcome = self.ask(token, patience).await;
        let now = self.clock.now();
        match (outcome, &mut *verdict) {
            (Err(error), Some(earlier)) if earlier.is_usable(now) => {
                tracing::warn!(%error, "an earlier verdict on a node's token stands");
                earlier.extend(now);
                earlier.outcome.clone()
            }
            (outcome, verdict) => {
                let outcome = outcome.and_then(|answer| self.judge(answer, &claims, now));
                *verdict = Some(Verdict::new(outcome.clone(), expires, now));
                outcome
            }
        }
    }
}

#[cfg(test)]
mod tests;
