//! Clusters that change while requests go to them.

use culvert_envoy::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;
use proptest::prelude::*;

use super::*;

const NAME: &str = "a";
const ENDPOINTS: [&str; 3] = ["a", "b", "c"];

/// What a controller may say, in whatever order, and time that passes.
#[derive(Clone, Debug)]
enum Step {
    /// A cluster: which endpoints it names, and what else it says.
    Cluster {
        told: usize,
        is_tls: bool,
    },
    NoCluster,
    /// Endpoints, and how many.
    Endpoints {
        told: usize,
        count: u8,
    },
    Refused {
        told: usize,
    },
    NoEndpoints {
        told: usize,
    },
    Seconds(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let told = 0..ENDPOINTS.len();
    prop_oneof![
        6 => (told.clone(), any::<bool>()).prop_map(|(told, is_tls)| Step::Cluster { told, is_tls }),
        1 => Just(Step::NoCluster),
        6 => (told.clone(), 0u8..4).prop_map(|(told, count)| Step::Endpoints { told, count }),
        1 => told.clone().prop_map(|told| Step::Refused { told }),
        1 => told.prop_map(|told| Step::NoEndpoints { told }),
        3 => (0u64..20).prop_map(Step::Seconds),
    ]
}

fn message(told: usize, is_tls: bool) -> ClusterMessage {
    ClusterMessage {
        eds_cluster_config: Some(EdsClusterConfig {
            service_name: ENDPOINTS[told].to_owned(),
            ..EdsClusterConfig::default()
        }),
        ..cluster(is_tls.then_some("a.example"))
    }
}

fn endpoints(told: usize, count: u8) -> ClusterLoadAssignment {
    let mut assignment = assignment();
    ENDPOINTS[told].clone_into(&mut assignment.cluster_name);
    let one = assignment.endpoints[0].lb_endpoints[0].clone();
    let many = (0..count).map(|number| {
        let mut one = one.clone();
        if let Some(HostIdentifier::Endpoint(place)) = &mut one.host_identifier
            && let Some(address::Address::SocketAddress(socket)) =
                place.address.as_mut().and_then(|address| address.address.as_mut())
        {
            socket.address = format!("198.18.{told}.{number}");
        }
        one
    });
    assignment.endpoints[0].lb_endpoints = many.collect();
    assignment
}

/// What requests see.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    said: u64,
    told: String,
    endpoints: Vec<SocketAddr>,
}

fn seen(store: &Store) -> Option<Seen> {
    let snapshot = store.published.load();
    let cluster = snapshot.clusters.get(NAME)?;
    Some(Seen {
        said: cluster.config.said,
        told: cluster.config.told().unwrap().to_string(),
        endpoints: cluster.endpoints.iter().map(|one| one.config.address).collect(),
    })
}

fn warming(store: &Store) -> Option<u64> {
    let snapshot = store.published.load();
    snapshot.warming.get(NAME).map(|config| config.said)
}

fn said(told: usize, is_tls: bool) -> u64 {
    cluster::read(&message(told, is_tls)).unwrap().said
}

proptest! {
    /// Whatever comes in whatever order: what is served stays served, whole, while the endpoints of what it is to be are awaited.
    #[test]
    fn a_change_never_makes_a_served_cluster_unserved_while_its_endpoints_are_awaited(
        steps in proptest::collection::vec(step(), 1..40)
    ) {
        let begin = Instant::now();
        let mut store = Store::default();
        // Of the last change, for as long as it waits.
        let mut since = 0;
        let mut elapsed = 0;
        let mut last = None;
        for step in steps {
            let (before, was_warming) = (seen(&store), warming(&store));
            match step {
                Step::Cluster { told, is_tls } => {
                    let config = cluster::read(&message(told, is_tls)).unwrap();
                    let is_new = was_warming.or(before.as_ref().map(|seen| seen.said)) != Some(config.said);
                    store.clusters.put(config, begin + Duration::from_secs(elapsed));
                    last = Some((told, is_tls));
                    if is_new {
                        since = elapsed;
                    }
                }
                Step::NoCluster => {
                    store.remove_cluster(NAME);
                    last = None;
                }
                Step::Endpoints { told, count } => store.put_endpoints(&endpoints(told, count)).unwrap(),
                Step::Refused { told } => store.refuse_endpoints(ENDPOINTS[told]),
                Step::NoEndpoints { told } => store.remove_endpoints(ENDPOINTS[told]),
                Step::Seconds(seconds) => {
                    elapsed += seconds;
                    store.tend(begin + Duration::from_secs(elapsed));
                }
            }
            store.publish();
            let (after, is_warming) = (seen(&store), warming(&store));
            let (before, after) = match (before, after) {
                (Some(before), Some(after)) => (before, after),
                (_, after) => {
                    // New, or gone: nothing is waited for.
                    prop_assert_eq!(is_warming, None);
                    prop_assert_eq!(after.is_some(), last.is_some());
                    continue;
                }
            };
            let is_served = !before.endpoints.is_empty();
            match step {
                Step::Cluster { told, is_tls } if is_served => {
                    prop_assert_eq!(&after, &before);
                    let is_as_before = was_warming.is_none() && said(told, is_tls) == before.said;
                    prop_assert_eq!(is_warming, (!is_as_before).then(|| said(told, is_tls)));
                }
                Step::Cluster { told, is_tls } => {
                    // It may be as it was while another change waits.
                    prop_assert!(is_warming.is_none() && after.said == said(told, is_tls) || is_warming == was_warming);
                }
                Step::Endpoints { told, count } => {
                    let is_awaited = last.is_some_and(|(awaited, _)| was_warming.is_some() && awaited == told);
                    prop_assert_eq!(is_warming, was_warming.filter(|_| !is_awaited));
                    if after.told == ENDPOINTS[told] {
                        prop_assert_eq!(after.endpoints.len(), usize::from(count));
                    }
                }
                Step::Refused { .. } | Step::NoEndpoints { .. } if is_warming == was_warming => {
                    prop_assert_eq!(&after, &before);
                }
                Step::Seconds(_) => {
                    let is_late = elapsed - since >= 15;
                    prop_assert_eq!(is_warming, was_warming.filter(|_| !is_late));
                    if is_warming == was_warming {
                        prop_assert_eq!(&after, &before);
                    }
                }
                _ => {}
            }
            // What nobody waits for is in force.
            if is_warming.is_none() {
                let (told, is_tls) = last.unwrap();
                prop_assert_eq!(after.said, said(told, is_tls));
            }
            let mut told = BTreeSet::from([after.told]);
            if let (Some(_), Some((awaited, _))) = (is_warming, last) {
                told.insert(ENDPOINTS[awaited].to_owned());
            }
            prop_assert_eq!(store.wanted_endpoints(), told);
            prop_assert_eq!(store.warming.get(), i64::from(is_warming.is_some()));
        }
    }
}

#[test]
fn a_changed_cluster_is_in_force_with_its_endpoints_and_what_is_counted_goes_on() {
    let mut store = Store::default();
    store.put_cluster(&message(0, false)).unwrap();
    store.put_endpoints(&endpoints(0, 2)).unwrap();
    store.publish();
    let before = Arc::clone(&store.published.load().clusters[NAME]);
    let id = |store: &Store| store.published.load().clusters[NAME].endpoints[0].id;
    let first = id(&store);
    // The same endpoints, which come anew.
    let mut changed = message(0, false);
    changed.alt_stat_name = "other".to_owned();
    store.put_cluster(&changed).unwrap();
    store.publish();
    assert!(Arc::ptr_eq(&store.published.load().clusters[NAME], &before));
    let dump = store.published.load().warming.dump();
    assert_eq!(dump[NAME]["waits_for"], "endpoints `a`");
    store.put_endpoints(&endpoints(0, 2)).unwrap();
    store.publish();
    let after = Arc::clone(&store.published.load().clusters[NAME]);
    assert_ne!(after.config.said, before.config.said);
    assert!(Arc::ptr_eq(&after.load, &before.load));
    assert_eq!(id(&store), first, "connections are used again");
    assert_eq!(store.missing(), ["the listener"]);
}
