//! Service account tokens: the API server says whose they are, and the token's pod says on which node.
//!
//! The API server is asked as little as can be, since anybody can send a text with the form of a token: what cannot be
//! accepted by its own claims is refused at once, a source that was never accepted may ask for few tokens, and tokens and
//! sources that were accepted before have reviews of their own, for which they need not wait behind strangers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clock::Clock;

use super::{
    Authenticated, Authenticator, Caller, Source, Unauthenticated,
    claims::{ACCOUNT, Claims},
    rate_limit::RateLimit,
    token_cache::{TokenCache, Verdict},
};

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take when an earlier acceptance could stand instead.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// How many reviews may be under way for those who were accepted before, and for others: strangers must not flood the API
/// server through us.
const KNOWN_REVIEWS: usize = 32;
const OTHER_REVIEWS: usize = 16;

/// How many sources are remembered from which a token was accepted.
const KNOWN_SOURCES: usize = 16_384;

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
pub(crate) struct TokenReviewer<R> {
    review: R,
    audience: String,
    node_users: Vec<String>,
    node_of_pod: NodeOfPod,
    cache: TokenCache,
    known: Lane,
    others: Semaphore,
    limit: RateLimit,
    clock: Clock,
}

/// Reviews for those who were accepted before.
struct Lane {
    running: Semaphore,
    sources: Mutex<HashMap<IpAddr, SystemTime>>,
}

impl Lane {
    fn knows(&self, source: Source) -> bool {
        source
            .address()
            .is_some_and(|address| self.sources.lock().contains_key(&address))
    }

    /// A token from there was accepted.
    fn learn(&self, source: Source, now: SystemTime) {
        let Some(address) = source.address() else { return };
        let mut sources = self.sources.lock();
        if sources.len() >= KNOWN_SOURCES && !sources.contains_key(&address) {
            let oldest = sources
                .iter()
                .min_by_key(|(_, seen)| **seen)
                .map(|(address, _)| *address);
            oldest.map(|oldest| sources.remove(&oldest));
        }
        sources.insert(address, now);
    }
}

impl<R: Review> TokenReviewer<R> {
    /// Accepts tokens for `audience`: those of `node_accounts` as a node's programs, others as workloads.
    pub(crate) fn new(
        review: R,
        audience: &str,
        node_accounts: &[Account],
        node_of_pod: NodeOfPod,
        clock: Clock,
    ) -> Self {
        Self {
            review,
            audience: audience.to_owned(),
            node_users: node_accounts.iter().map(Account::user).collect(),
            node_of_pod,
            cache: TokenCache::default(),
            known: Lane {
                running: Semaphore::new(KNOWN_REVIEWS),
                sources: Mutex::default(),
            },
            others: Semaphore::new(OTHER_REVIEWS),
            limit: RateLimit::default(),
            clock,
        }
    }

    async fn ask(&self, token: &str, is_known: bool, patience: Duration) -> Result<Answer, Unauthenticated> {
        let lane = if is_known { &self.known.running } else { &self.others };
        let review = async {
            // Never closed.
            let _running = lane.acquire().await;
            self.review.review(token, &self.audience).await
        };
        match tokio::time::timeout(patience, review).await {
            Ok(answer) => answer.map_err(Unauthenticated::Unavailable),
            Err(_) => Err(Unauthenticated::Unavailable(format!("no answer within {patience:?}"))),
        }
    }

    fn judge(&self, answer: Answer, claims: &Claims, now: SystemTime) -> Result<Caller, Unauthenticated> {
        let refused = |said: &str| Unauthenticated::Refused(claims.explain(&self.audience, unix(now), said));
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
        let account = user.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'));
        let Some((namespace, account)) = account else {
            return Err(Unauthenticated::Account(user));
        };
        let named = node.filter(|node| !node.is_empty());
        let node = named.or_else(|| pod.as_ref().and_then(|pod| (self.node_of_pod)(pod)));
        if !self.node_users.contains(&user) {
            return Ok(Caller::Workload {
                namespace: namespace.to_owned(),
                account: account.to_owned(),
                pod: pod.map(|pod| pod.name),
                node,
            });
        }
        match (node, pod) {
            (Some(name), _) => Ok(Caller::Node { name }),
            (None, None) => Err(Unauthenticated::NoNode("it is bound to no pod".into())),
            (None, Some(BoundPod { namespace, name, uid })) => Err(Unauthenticated::NoNode(format!(
                "pod {namespace}/{name} with uid {uid} is not known, or not on a node"
            ))),
        }
    }
}

#[tonic::async_trait]
impl<R: Review> Authenticator for TokenReviewer<R> {
    async fn authenticate(&self, token: &str, source: Source) -> Result<Authenticated, Unauthenticated> {
        // What has not the form of a token is not worth the API server's time, nor what cannot be accepted.
        let claims = Claims::parse(token).map_err(|error| Unauthenticated::Refused(error.to_string()))?;
        let now = self.clock.now();
        if claims.is_hopeless(&self.audience, unix(now)) {
            let why = claims.explain(&self.audience, unix(now), "");
            return Err(Unauthenticated::Refused(why));
        }
        let expires = claims
            .expires
            .and_then(|at| Some(UNIX_EPOCH + Duration::from_secs(at.try_into().ok()?)));
        let slot = self.cache.slot(token, now);
        let mut verdict = slot.lock().await;
        let now = self.clock.now();
        let accepted = |caller| Authenticated { caller, expires };
        if let Some(verdict) = verdict.as_ref().filter(|verdict| verdict.is_fresh(now)) {
            return verdict.outcome.clone().map(accepted);
        }
        let usable = verdict.as_ref().is_some_and(|verdict| verdict.is_usable(now));
        let is_known = usable || self.known.knows(source);
        if !is_known && !source.address().is_none_or(|address| self.limit.take(address)) {
            return Err(Unauthenticated::TooMany(source));
        }
        let patience = if usable { SHORT_PATIENCE } else { PATIENCE };
        let outcome = self.ask(token, is_known, patience).await;
        let now = self.clock.now();
        let outcome = match (outcome, &mut *verdict) {
            (Err(error), Some(earlier)) if earlier.is_usable(now) => {
                tracing::warn!(%error, %source, "an earlier verdict on a token stands");
                earlier.extend(now);
                earlier.outcome.clone()
            }
            (outcome, verdict) => {
                let outcome = outcome.and_then(|answer| self.judge(answer, &claims, now));
                *verdict = Some(Verdict::new(outcome.clone(), expires, now));
                outcome
            }
        };
        if outcome.is_ok() {
            self.known.learn(source, now);
        }
        outcome.map(accepted)
    }
}

fn unix(now: SystemTime) -> i64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests;
