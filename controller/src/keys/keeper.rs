//! A task for each source of keys: it fetches, and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::client::Client;
use super::fetch;
use culvert_resources::keys::{Fetched, Known, Source};

/// Fetches at the same time.
const FETCHES: usize = 16;
/// The first pause after a failure; it doubles with each.
const SHORTEST: Duration = Duration::from_secs(1);

/// Keeps the keys of all sources that are wanted.
pub(crate) struct Keeper {
    client: Client,
    /// Time between fetches.
    refresh: Duration,
    fetched: watch::Sender<Fetched>,
}

impl Keeper {
    /// Nothing is fetched yet.
    pub(crate) fn new(client: Client, refresh: Duration) -> Self {
        Self {
            client,
            refresh,
            fetched: watch::Sender::new(Fetched::default()),
        }
    }

    /// What is fetched, whenever it changes.
    pub(crate) fn fetched(&self) -> watch::Receiver<Fetched> {
        self.fetched.subscribe()
    }

    /// Fetches for as long as somebody says what is wanted.
    pub(crate) async fn run(self, mut wanted: watch::Receiver<BTreeSet<Source>>) {
        let permits = Arc::new(Semaphore::new(FETCHES));
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<Source, AbortHandle> = BTreeMap::new();
        loop {
            let now = wanted.borrow_and_update().clone();
            running.retain(|source, task| {
                let is_wanted = now.contains(source);
                if !is_wanted {
                    task.abort();
                    self.fetched.send_modify(|fetched| fetched.remove(source));
                }
                is_wanted
            });
            // Those that were aborted.
            while tasks.try_join_next().is_some() {}
            for source in now {
                running.entry(source.clone()).or_insert_with(|| {
                    let one = One {
                        source,
                        client: self.client.clone(),
                        refresh: self.refresh,
                        fetched: self.fetched.clone(),
                        permits: Arc::clone(&permits),
                    };
                    tasks.spawn(one.keep())
                });
            }
            if wanted.changed().await.is_err() {
                return;
            }
        }
    }
}

/// One source being kept.
struct One {
    source: Source,
    client: Client,
    refresh: Duration,
    fetched: watch::Sender<Fetched>,
    permits: Arc<Semaphore>,
}

impl One {
    async fn keep(self) {
        let mut pause = SHORTEST.min(self.refresh);
        let mut good: Option<(Arc<str>, String)> = None;
        loop {
            let fetched = {
                let _permit = self.permits.acquire().await;
                fetch::keys(&self.client, &self.source).await
            };
            let known = match fetched {
                Ok(keys) => {
                    pause = SHORTEST.min(self.refresh);
                    good = Some((Arc::clone(&keys), now()));
                    Known {
                        keys: Some(keys),
                        problem: None,
                    }
                }
                Err(why) => {
                    tracing::warn!(source = %self.source, why, "keys of a token issuer cannot be fetched");
                    let problem = match &good {
                        Some((_, at)) => format!("{why}; the last good keys hold, of {at}"),
                        None => why,
                    };
                    Known {
                        keys: good.as_ref().map(|(keys, _)| Arc::clone(keys)),
                        problem: Some(problem.into()),
                    }
                }
            };
            let failed = known.problem.is_some();
            self.fetched.send_if_modified(|all| {
                let is_news = all.get(&self.source) != Some(&known);
                if is_news {
                    all.set(self.source.clone(), known);
                }
                is_news
            });
            let wait = if failed {
                let wait = pause;
                pause = (pause * 2).min(self.refresh);
                wait
            } else {
                // Not all at the same time.
                self.refresh.mul_f64(0.9 + 0.1 * fastrand::f64())
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// The time, in whole seconds.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0)
        .unwrap_or(now)
        .format(&Rfc3339)
        .unwrap_or_default()
}
