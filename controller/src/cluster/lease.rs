//! Which of several replicas writes: the one that holds the Lease.
//!
//! All replicas serve; only what is written to the cluster (the authority's Secret, the trust bundles, events) is for one
//! alone. As other controllers do, a replica compares no clocks: it trusts a lease for as long as its own monotonic clock says since it
//! last *saw* the lease change. The times in the Lease are for people.
//!
//! [`Election`] decides, without I/O; [`elect`] asks and writes.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

/// The Lease's name, in the system namespace.
pub(crate) const NAME: &str = "culvert-controller";
/// How long a holder that is no longer heard of is waited for.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long does not write any more, well before another may.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the holder renews.
const RENEW: Duration = Duration::from_secs(5);
/// How often the others look, and how soon a failed renewal is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(3);

/// What everybody may know about the election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether this replica writes.
    pub(crate) leads: bool,
    /// Who does, as far as is known.
    pub(crate) holder: String,
}

/// Takes part in the election until `stop` turns true, and then gives the lease back.
pub(crate) async fn elect(
    client: Client,
    namespace: &str,
    replica: String,
    standing: watch::Sender<Standing>,
    mut stop: watch::Receiver<bool>,
) {
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let mut election = Election::new(replica);
    loop {
        let result = tokio::time::timeout(REQUEST, turn(&api, &mut election)).await;
        if let Err(error) = result.map_err(|_| "no answer in time".to_owned()).flatten() {
            tracing::debug!(error, "election");
        }
        publish(&standing, &election);
        let pause = election.pause(Instant::now());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        publish(&standing, &election);
    }
    let led = election.leads(Instant::now());
    // Nobody here writes any more before another may begin.
    standing.send_modify(|s| s.leads = false);
    if led && let Some(lease) = election.released(Timestamp::now()) {
        let given_back = tokio::time::timeout(REQUEST, api.replace(NAME, &PostParams::default(), &lease)).await;
        tracing::info!(given_back = matches!(given_back, Ok(Ok(_))), "the lease is given back");
    }
}

fn publish(standing: &watch::Sender<Standing>, election: &Election) {
    let now = Standing {
        leads: election.leads(Instant::now()),
        holder: election.holder().to_owned(),
    };
    standing.send_if_modified(|before| {
        if before.leads != now.leads {
            tracing::info!(leads = now.leads, holder = now.holder, "election");
        }
        let changed = *before != now;
        *before = now;
        changed
    });
}

async fn turn(api: &Api<Lease>, election: &mut Election) -> Result<(), String> {
    let text = |error: kube::Error| error.to_string();
    let seen = api.get_opt(NAME).await.map_err(text)?;
    let begin = Instant::now();
    let exists = seen.is_some();
    let Some(wanted) = election.wanted(begin, Timestamp::now(), seen) else {
        return Ok(());
    };
    let params = PostParams::default();
    // A conflict means that another was faster: the next look tells who.
    let written = match exists {
        true => api.replace(NAME, &params, &wanted).await,
        false => api.create(&params, &wanted).await,
    };
    election.wrote(begin, written.map_err(text)?);
    Ok(())
}

/// One replica's view of the election.
#[derive(Debug)]
struct Election {
    replica: String,
    /// When the last renewal that went through was begun.
    renewed: Option<Instant>,
    /// The lease as last seen, and when it was first seen like this.
    seen: Option<(Lease, Instant)>,
}

impl Election {
    fn new(replica: String) -> Self {
        Self {
            replica,
            renewed: None,
            seen: None,
        }
    }

    /// The lease that this replica wants to write, given the one that is there.
    fn wanted(&mut self, now: Instant, wall: Timestamp, lease: Option<Lease>) -> Option<Lease> {
        let Some(lease) = lease else {
            self.seen = None;
            return Some(self.taken(wall, Lease::default()));
        };
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        if self
            .seen
            .as_ref()
            .is_none_or(|(before, _)| version(before) != version(&lease))
        {
            self.seen = Some((lease.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if holder == self.replica {
            return Some(self.taken(wall, lease));
        }
        self.renewed = None;
        let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let duration = seconds.map_or(DURATION, Duration::from_secs);
        let free = holder.is_empty() || now.duration_since(since) >= duration;
        free.then(|| self.taken(wall, lease))
    }

    /// The lease, held by this replica.
    fn taken(&self, wall: Timestamp, lease: Lease) -> Lease {
        let mut spec = lease.spec.unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.replica) {
            let transitions = spec.lease_transitions.map_or(0, |n| n.saturating_add(1));
            spec.lease_transitions = Some(transitions);
            spec.acquire_time = Some(MicroTime(wall));
        }
        Lease {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                ..lease.metadata
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.replica.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                renew_time: Some(MicroTime(wall)),
                ..spec
            }),
        }
    }

    fn wrote(&mut self, begun: Instant, lease: Lease) {
        self.renewed = Some(begun);
        self.seen = Some((lease, begun));
    }

    fn leads(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|at| now.duration_since(at) < DEADLINE)
    }

    fn holder(&self) -> &str {
        let spec = self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref());
        spec.and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or_default()
    }

    /// How long until the next turn: never past the moment at which this replica has to stop writing.
    fn pause(&self, now: Instant) -> Duration {
        let Some(at) = self.renewed else { return RETRY };
        let held = now.duration_since(at);
        if held < RENEW {
            return RENEW - held;
        }
        let left = DEADLINE.saturating_sub(held);
        if left.is_zero() { RETRY } else { left.min(RETRY) }
    }

    /// The lease without a holder, if this replica holds it.
    fn released(&self, wall: Timestamp) -> Option<Lease> {
        let (lease, _) = self.seen.as_ref().filter(|_| self.holder() == self.replica)?;
        let mut lease = lease.clone();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(wall));
        Some(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the API server would do: a new version for each write.
    fn stored(mut lease: Lease, version: u32) -> Lease {
        lease.metadata.resource_version = Some(version.to_string());
        lease
    }

    fn pair() -> (Election, Election, Instant, Timestamp) {
        let two = ["a", "b"].map(|name| Election::new(name.to_owned()));
        let [a, b] = two;
        (a, b, Instant::now(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn one_of_two_leads_and_the_other_waits_by_its_own_clock() {
        let (mut a, mut b, start, wall) = pair();
        let first = stored(a.wanted(start, wall, None).unwrap(), 1);
        a.wrote(start, first.clone());
        assert!(a.leads(start));
        // The times in the lease are of a clock that is wrong by decades; what counts is when it was seen.
        assert!(b.wanted(start, Timestamp::now(), Some(first.clone())).is_none());
        let almost = start + DURATION - Duration::from_millis(1);
        assert!(b.wanted(almost, Timestamp::now(), Some(first.clone())).is_none());
        assert!(!a.leads(almost), "who cannot renew stops before another begins");
        let taken = b.wanted(start + DURATION, wall, Some(first)).unwrap();
        assert_eq!(taken.spec.unwrap().lease_transitions, Some(1));
    }

    #[test]
    fn a_renewal_that_was_seen_starts_the_wait_anew() {
        let (mut a, mut b, start, wall) = pair();
        let first = stored(a.wanted(start, wall, None).unwrap(), 1);
        a.wrote(start, first.clone());
        b.wanted(start, wall, Some(first.clone()));
        let later = start + DURATION;
        let second = stored(a.wanted(later, wall, Some(first)).unwrap(), 2);
        assert!(b.wanted(later, wall, Some(second.clone())).is_none());
        assert!(b.wanted(later + DURATION, wall, Some(second)).is_some());
    }

    #[test]
    fn a_lease_that_was_given_back_is_free_at_once() {
        let (mut a, mut b, start, wall) = pair();
        let first = stored(a.wanted(start, wall, None).unwrap(), 1);
        a.wrote(start, first);
        let released = stored(a.released(wall).unwrap(), 2);
        assert!(b.wanted(start, wall, Some(released)).is_some());
        assert!(b.released(wall).is_none(), "only the holder can give it back");
    }

    #[test]
    fn who_finds_another_in_its_place_stops_at_once() {
        let (mut a, mut b, start, wall) = pair();
        let first = stored(a.wanted(start, wall, None).unwrap(), 1);
        a.wrote(start, first.clone());
        b.wanted(start, wall, Some(first.clone()));
        let taken = stored(b.wanted(start + DURATION, wall, Some(first)).unwrap(), 2);
        assert!(a.wanted(start + Duration::from_secs(1), wall, Some(taken)).is_none());
        assert!(!a.leads(start + Duration::from_secs(1)));
    }
}
