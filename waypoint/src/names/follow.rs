//! Which names are asked for, and when again. What a name led to last counts until a resolver says otherwise: one that does not answer
//! takes no endpoint away.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_telemetry::prometheus::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{ask::ask, schedule::Schedule};
use crate::state::Store;

/// How long to wait where nothing is due.
const REST: Duration = Duration::from_secs(3600);

/// What may become of a name that is asked for.
const OUTCOMES: [&str; 7] = [
    "resolved",
    "no_address",
    "refused",
    "timeout",
    "no_resolver",
    "malformed",
    "of_the_mesh",
];

/// What became of names that were asked for.
#[derive(Clone, Debug, Default)]
pub struct Resolutions {
    outcomes: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Resolutions {
    /// Registers the metric. What has not happened shows.
    pub fn register(registry: &mut Registry) -> Self {
        let resolutions = Self::default();
        registry.register(
            "culvert_waypoint_name_resolutions",
            "Names of endpoints that were asked for, by what became of it",
            resolutions.outcomes.clone(),
        );
        for outcome in OUTCOMES {
            drop(resolutions.outcomes.get_or_create(&[("outcome", outcome)]));
        }
        resolutions
    }

    fn count(&self, outcome: &'static str) {
        self.outcomes.get_or_create(&[("outcome", outcome)]).inc();
    }
}

/// Keeps the addresses of all names that the store wants up to date, for ever.
pub async fn follow(store: Arc<Mutex<Store>>, resolvers: Vec<SocketAddr>, resolutions: Resolutions) {
    let resolvers: Arc<[SocketAddr]> = resolvers.into();
    let changed = store.lock().names_changed();
    let mut schedule = Schedule::default();
    let mut asked = JoinSet::new();
    loop {
        let wanted = store.lock().wanted_names();
        let (gone, taken) = schedule.want(&wanted, Instant::now());
        if taken < wanted.len() {
            tracing::warn!(
                names = wanted.len(),
                resolved = taken,
                "too many endpoints are names: the rest has no address"
            );
        }
        for name in gone {
            store.lock().forget_name(&name);
        }
        for name in schedule.due(Instant::now()) {
            let resolvers = Arc::clone(&resolvers);
            asked.spawn(async move {
                let answer = ask(&name, &resolvers).await;
                (name, answer)
            });
        }
        let rest = tokio::time::Instant::from_std(schedule.next().unwrap_or_else(|| Instant::now() + REST));
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep_until(rest) => {}
            Some(Ok((name, answer))) = asked.join_next() => match answer {
                Ok(resolved) => {
                    resolutions.count(if resolved.addresses.is_empty() { "no_address" } else { "resolved" });
                    let (is_wanted, had_failed) = schedule.answered(&name, resolved.ttl, Instant::now());
                    if had_failed {
                        tracing::info!(%name, "an endpoint's name is resolved again");
                    }
                    if is_wanted {
                        store.lock().put_addresses(&name, resolved.addresses, |name, address| {
                            resolutions.count("of_the_mesh");
                            tracing::warn!(
                                name,
                                %address,
                                "an endpoint's name leads into the mesh, where nothing is reached in clear: the address is left out"
                            );
                        });
                    }
                }
                Err(error) => {
                    resolutions.count(error.outcome());
                    if schedule.failed(&name, Instant::now()) {
                        let why = crate::causes(&error);
                        tracing::warn!(%name, error = why, "an endpoint's name cannot be resolved: what it led to before counts");
                        store.lock().refuse_name(&name);
                    }
                }
            },
        }
    }
}
