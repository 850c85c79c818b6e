//! What each kind of caller sees.

use culvert_proto::workload::{Address, Service, Workload, address};

use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use culvert_xds::server::{Meaning, Stream};
use culvert_xds::{Change, Index, StreamId};

use super::*;
use crate::snapshot::{PLACED_TYPE, PROXY_TYPE, Resource};

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (number, namespace) in ["shop", "bank"].into_iter().enumerate() {
        let octet = u8::try_from(number).unwrap();
        let service = Service {
            name: "web".to_owned(),
            namespace: namespace.to_owned(),
            ..Service::default()
        };
        let service_name = format!("{namespace}/web");
        let workload = Workload {
            uid: format!("{namespace}/pod"),
            namespace: namespace.to_owned(),
            addresses: vec![vec![198, 18, 0, octet]],
            node: "n".to_owned(),
            services: [(service_name.clone(), Default::default())].into(),
            ..Workload::default()
        };
        for (name, kind) in [
            (service_name, address::Type::Service(service)),
            (workload.uid.clone(), address::Type::Workload(workload)),
        ] {
            let address = Address { r#type: Some(kind) };
            snapshot.set(Resource::address(&name, &namespace.into(), &address));
        }
    }
    snapshot
}

fn own<'a>(roots: &'a Roots, secrets: &'a Secrets, waypoint: Option<&'a Arc<str>>) -> Own<'a> {
    Own {
        roots,
        secrets,
        waypoint,
    }
}

#[test]
fn a_workload_sees_its_own_namespace_and_a_node_all() {
    let (snapshot, roots) = (snapshot(), Roots::new(&"pem".into()));
    let secrets = Secrets::default();
    let workload = Caller::Workload {
        namespace: "shop".to_owned(),
        account: "waypoint".to_owned(),
        pod: None,
        node: None,
    };
    let node = Caller::Node { name: "n".to_owned() };
    let view = CallerView::new(&workload, &snapshot, own(&roots, &secrets, None));
    let names = |names: Vec<Arc<str>>| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let all = |view: &CallerView<'_>| names(view.all(ADDRESS_TYPE).map(|(name, _)| Arc::clone(name)).collect());
    assert_eq!(all(&view), ["shop/pod", "shop/web"]);
    assert_eq!(names(view.expand(ADDRESS_TYPE, "shop/web")), ["shop/pod", "shop/web"]);
    for foreign in ["bank/web", "bank/pod", "/198.18.0.1"] {
        assert!(view.expand(ADDRESS_TYPE, foreign).is_empty(), "{foreign}");
        assert!(!view.knows(ADDRESS_TYPE, foreign), "{foreign}");
        assert!(view.get(ADDRESS_TYPE, foreign).is_none(), "{foreign}");
    }
    assert!(view.knows(ADDRESS_TYPE, "/198.18.0.0") && view.initial(ADDRESS_TYPE).is_empty());
    assert!(view.get(ROOTS_TYPE, "roots").is_some());
    assert!(view.types().iter().all(|spec| spec.url != AUTHORIZATION_TYPE));

    let view = CallerView::new(&node, &snapshot, own(&roots, &secrets, None));
    assert_eq!(all(&view).len(), 4);
    assert_eq!(names(view.initial(ADDRESS_TYPE)), ["bank/pod", "shop/pod"]);
    assert!(view.knows(ADDRESS_TYPE, "/198.18.0.1"));
}

const SCOPES: [&str; 2] = ["shop/wp", "shop/other"];

/// For each of two waypoints a cluster, its endpoints, a listener and routes.
fn of_waypoints() -> Snapshot {
    let mut snapshot = snapshot();
    for scope in SCOPES {
        for url in SCOPED_TYPES {
            snapshot.set(scoped(url, scope, "web:80", "first"));
        }
        let pod = Resource::scoped(PROXY_TYPE, &scope.into(), &format!("{scope}-1"), Vec::new(), &[]);
        snapshot.set(pod);
    }
    snapshot
}

#[test]
fn a_waypoint_sees_endpoints_as_they_are_for_its_place() {
    let (mut snapshot, roots, secrets) = (of_waypoints(), Roots::new(&"pem".into()), Secrets::default());
    let (pod, scope): (_, Arc<str>) = (waypoints_pod(), "shop/wp".into());
    let body = |snapshot: &Snapshot| {
        let view = CallerView::new(&pod, snapshot, own(&roots, &secrets, Some(&scope)));
        let one = view.get(ENDPOINT_TYPE, "shop/wp/web:80").unwrap().body.to_vec();
        let all: Vec<Vec<u8>> = view.all(ENDPOINT_TYPE).map(|(_, entry)| entry.body.to_vec()).collect();
        assert_eq!(all, std::slice::from_ref(&one));
        String::from_utf8(one).unwrap()
    };
    for place in ["n2", "r1/zb/"] {
        snapshot.set(scoped(PLACED_TYPE, "shop/wp", &format!("web:80 {place}"), place));
    }
    assert_eq!(body(&snapshot), "first", "nobody knows where it is");
    for (places, expected) in [("n1\nr1/za/", "first"), ("n1\nr1/zb/", "r1/zb/"), ("n2\nr1/zb/", "n2")] {
        snapshot.set(Resource::scoped(PROXY_TYPE, &scope, "shop/wp-1", places.into(), &[]));
        assert_eq!(body(&snapshot), expected, "{places:?}");
    }
}

fn scoped(url: &'static str, scope: &str, name: &str, body: &str) -> Resource {
    Resource::scoped(url, &scope.into(), &format!("{scope}/{name}"), body.into(), &[])
}

fn waypoints_pod() -> Caller {
    Caller::Workload {
        namespace: "shop".to_owned(),
        account: "wp".to_owned(),
        pod: Some("wp-1".to_owned()),
        node: None,
    }
}

#[test]
fn a_waypoint_sees_what_is_for_it_and_nothing_of_another_and_others_see_none_of_it() {
    let (snapshot, roots, secrets) = (of_waypoints(), Roots::new(&"pem".into()), Secrets::default());
    let (pod, scope): (_, Arc<str>) = (waypoints_pod(), "shop/wp".into());
    let view = CallerView::new(&pod, &snapshot, own(&roots, &secrets, Some(&scope)));
    for url in SCOPED_TYPES {
        let all: Vec<String> = view.all(url).map(|(name, _)| name.to_string()).collect();
        assert_eq!(all, ["shop/wp/web:80"], "{url}");
        assert_eq!(view.expand(url, "shop/wp/web:80").len(), 1);
        assert!(view.get(url, "shop/wp/web:80").is_some() && view.knows(url, "shop/wp/web:80"));
        assert!(view.expand(url, "shop/other/web:80").is_empty());
        assert!(view.get(url, "shop/other/web:80").is_none() && !view.knows(url, "shop/other/web:80"));
    }
    let addresses: Vec<String> = view.all(ADDRESS_TYPE).map(|(name, _)| name.to_string()).collect();
    assert_eq!(addresses, ["shop/pod", "shop/web"], "its namespace, as any workload");
    assert!(
        view.types()
            .iter()
            .all(|spec| spec.url != PROXY_TYPE && spec.url != AUTHORIZATION_TYPE)
    );

    let node = Caller::Node { name: "n".to_owned() };
    for caller in [&node, &pod] {
        let view = CallerView::new(caller, &snapshot, own(&roots, &secrets, None));
        for url in SCOPED_TYPES.into_iter().chain([SECRET_TYPE]) {
            assert!(view.types().iter().all(|spec| spec.url != url), "{caller} {url}");
            assert!(view.get(url, "shop/wp/web:80").is_none(), "{caller} {url}");
        }
    }
}

#[test]
fn a_waypoint_that_asked_for_everything_is_woken_by_what_is_for_it_alone() {
    let scope: Arc<str> = "shop/wp".into();
    let all = |type_url| Interest {
        type_url,
        key: Key::All,
        wanted: true,
    };
    let mut index = Index::default();
    index.apply(StreamId(1), woken_by(all(CLUSTER_TYPE), Some(&scope)));
    index.apply(StreamId(2), woken_by(all(CLUSTER_TYPE), Some(&"shop/other".into())));
    let snapshot = of_waypoints();
    let change = |name: &str| Change {
        type_url: CLUSTER_TYPE,
        name: name.into(),
        keys: snapshot.keys(CLUSTER_TYPE, name).into_iter().collect(),
    };
    assert_eq!(index.concerned(&change("shop/wp/web:80")), [StreamId(1)]);
    assert_eq!(index.concerned(&change("shop/other/web:80")), [StreamId(2)]);
    // What is not of a scope wakes as it did.
    assert_eq!(woken_by(all(ADDRESS_TYPE), Some(&scope)), all(ADDRESS_TYPE));
    assert_eq!(woken_by(all(CLUSTER_TYPE), None), all(CLUSTER_TYPE));
}

/// What Envoy does of delta ADS: it acknowledges clusters when it has their endpoints, and asks for listeners when it has clusters.
struct Envoy {
    stream: Stream,
    snapshot: Snapshot,
    roots: Roots,
    secrets: Secrets,
}

impl Envoy {
    fn with_view<T>(&mut self, work: impl FnOnce(&mut Stream, &CallerView<'_>) -> T) -> T {
        let (pod, scope): (_, Arc<str>) = (waypoints_pod(), "shop/wp".into());
        let view = CallerView::new(&pod, &self.snapshot, own(&self.roots, &self.secrets, Some(&scope)));
        work(&mut self.stream, &view)
    }

    fn ask(&mut self, type_url: &str, names: &[&str]) {
        let request = DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        self.with_view(|stream, view| stream.receive(&request, view));
    }

    fn acknowledge(&mut self, response: &DeltaDiscoveryResponse) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        let meaning = self.with_view(|stream, view| stream.receive(&request, view));
        assert_eq!(meaning, Meaning::Acknowledged);
    }

    /// The next response: its type, what it brings and what it takes.
    fn next(&mut self) -> Option<DeltaDiscoveryResponse> {
        self.with_view(|stream, view| stream.next(view))
    }

    #[track_caller]
    fn gets(&mut self, type_url: &str, names: &[&str], removed: &[&str]) -> DeltaDiscoveryResponse {
        let response = self.next().unwrap_or_else(|| panic!("no response with {type_url}"));
        let got: Vec<&str> = response
            .resources
            .iter()
            .map(|resource| resource.name.as_str())
            .collect();
        assert_eq!((response.type_url.as_str(), got.as_slice()), (type_url, names));
        assert_eq!(response.removed_resources, removed);
        response
    }

    fn change(&mut self, resource: Resource) {
        let (type_url, name) = (resource.type_url, Arc::clone(&resource.name));
        self.snapshot.set(resource);
        self.touched(type_url, &name);
    }

    fn remove(&mut self, type_url: &'static str, name: &str) {
        self.snapshot.remove(type_url, name);
        self.touched(type_url, name);
    }

    fn touched(&mut self, type_url: &'static str, name: &str) {
        self.stream.touch(&Change {
            type_url,
            name: name.into(),
            keys: vec!["shop/wp".into()],
        });
    }
}

#[test]
fn envoy_gets_endpoints_before_it_acknowledges_clusters_and_what_leads_to_clusters_after() {
    let mut envoy = Envoy {
        stream: Stream::new(),
        snapshot: of_waypoints(),
        roots: Roots::new(&"pem".into()),
        secrets: Secrets::default(),
    };
    let (web, new) = ("shop/wp/web:80", "shop/wp/new:80");
    // It asks for both at once, as one does whose bootstrap names both.
    envoy.ask(CLUSTER_TYPE, &["*"]);
    envoy.ask(LISTENER_TYPE, &["*"]);
    let clusters = envoy.gets(CLUSTER_TYPE, &[web], &[]);
    assert!(envoy.next().is_none(), "listeners wait for clusters");
    // The cluster warms: its endpoints are asked for, and come at once.
    envoy.ask(ENDPOINT_TYPE, &[web]);
    let endpoints = envoy.gets(ENDPOINT_TYPE, &[web], &[]);
    assert!(envoy.next().is_none());
    envoy.acknowledge(&endpoints);
    envoy.acknowledge(&clusters);
    let listeners = envoy.gets(LISTENER_TYPE, &[web], &[]);
    // A listener warms as a cluster does.
    envoy.ask(ROUTE_TYPE, &[web]);
    let routes = envoy.gets(ROUTE_TYPE, &[web], &[]);
    envoy.acknowledge(&routes);
    envoy.acknowledge(&listeners);
    assert!(envoy.next().is_none());

    // A cluster that changes comes with its endpoints, which Envoy does not ask for again: neither waits for the other.
    envoy.change(scoped(CLUSTER_TYPE, "shop/wp", "web:80", "second"));
    envoy.change(scoped(ENDPOINT_TYPE, "shop/wp", "web:80", "second"));
    let clusters = envoy.gets(CLUSTER_TYPE, &[web], &[]);
    let endpoints = envoy.gets(ENDPOINT_TYPE, &[web], &[]);
    envoy.acknowledge(&endpoints);
    envoy.acknowledge(&clusters);

    // Make before break: a route to a new cluster comes after it, and the old cluster goes when the route has changed.
    envoy.change(scoped(CLUSTER_TYPE, "shop/wp", "new:80", "first"));
    envoy.change(scoped(ENDPOINT_TYPE, "shop/wp", "new:80", "first"));
    envoy.change(scoped(ROUTE_TYPE, "shop/wp", "web:80", "to new"));
    envoy.remove(CLUSTER_TYPE, web);
    let clusters = envoy.gets(CLUSTER_TYPE, &[new], &[]);
    assert!(envoy.next().is_none(), "the route waits for its cluster");
    envoy.ask(ENDPOINT_TYPE, &[new]);
    let endpoints = envoy.gets(ENDPOINT_TYPE, &[new], &[]);
    envoy.acknowledge(&endpoints);
    envoy.acknowledge(&clusters);
    let routes = envoy.gets(ROUTE_TYPE, &[web], &[]);
    assert!(
        envoy.next().is_none(),
        "the old cluster stays as long as the route may lead there"
    );
    envoy.acknowledge(&routes);
    envoy.gets(CLUSTER_TYPE, &[], &[web]);

    // One endpoint changes: that is all that is sent.
    envoy.change(scoped(ENDPOINT_TYPE, "shop/wp", "new:80", "second"));
    envoy.gets(ENDPOINT_TYPE, &[new], &[]);
    assert!(envoy.next().is_none());
}
