//! ServiceEntries behind a waypoint: as what routes are for, as where they lead, and their endpoints that are DNS names, with dnsmasq as the
//! waypoint's resolver. The servers are on the nodes themselves, whose addresses are outside of the mesh's ranges.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, Pod, PodSpec, Process, wait_until};
use culvert_tests::{
    PATIENCE, Town, app,
    app::Seen,
    dns,
    http::{self, Head},
    lab,
    scene::service,
    town::PORT,
    waypoint::{Kind, Place, Waypoint},
};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Where the servers on the nodes listen.
const SERVED: u16 = 8090;
/// Outside of the mesh's ranges, and nobody's.
const API: [u8; 4] = [198, 18, 0, 50];
const BOXES: [u8; 4] = [198, 18, 0, 51];

/// A town with a waypoint, a resolver for it, and a server on each node (`one`, `two`).
struct Outside<'lab> {
    town: Town<'lab>,
    waypoint: Waypoint,
    resolver: Process,
    hosts: PathBuf,
    nodes: [Ipv4Addr; 2],
    seen: Seen,
}

fn at(address: [u8; 4]) -> SocketAddr {
    SocketAddr::from((address, 80))
}

impl<'lab> Outside<'lab> {
    fn set(lab: &'lab Lab, kind: Kind) -> Self {
        let town = Town::meshed(lab);
        lab.namespace("outside").unwrap();
        let resolver = lab.pod(PodSpec::new("outside", "resolver").on(2)).unwrap();
        let nodes = [1, 2].map(|number| lab.node(number).ip4());
        let seen = Seen::default();
        for (number, name) in [(1, "one"), (2, "two")] {
            let node = lab.node(number);
            let listener = node.run(|| TcpListener::bind((node.ip4(), SERVED))).unwrap();
            app::serve_at(listener.unwrap(), name, &seen);
        }
        app::serve(&town.server, PORT + 1, "web", &seen);
        lab.service(service("web", "server", PORT + 1, "http")).unwrap();
        let hosts = lab.dir().join("hosts");
        fs::write(&hosts, format!("{} api.example\n", nodes[0])).unwrap();
        let arguments = [
            "--local=/example/".to_owned(),
            "--local-ttl=1".to_owned(),
            format!("--addn-hosts={}", hosts.display()),
        ];
        let at = SocketAddr::from((resolver.ip4(), 53));
        let resolver = dns::dnsmasq(&resolver, &arguments, "nothing.example");
        let mut place = Place::of(lab, "town", "wp", kind);
        place.0.resolver = Some(at);
        let waypoint = Waypoint::start_at(place, lab, &town.mesh, kind);
        Self {
            town,
            waypoint,
            resolver,
            hosts,
            nodes,
            seen,
        }
    }

    /// Other names from now on.
    fn rename(&self, names: &str) {
        fs::write(&self.hosts, names).unwrap();
        self.resolver.signal(libc::SIGHUP).unwrap();
    }

    fn ask(&self, from: &Pod, to: SocketAddr, path: &str) -> Result<(u16, Head), String> {
        let lines = [
            format!("GET {path} HTTP/1.1"),
            "host: any.example".to_owned(),
            format!("{}: {path}", app::KEY),
            "connection: close".to_owned(),
        ];
        let (head, _) = http::ask(from, to, &lines, Duration::from_secs(5)).map_err(|error| error.to_string())?;
        Ok((head.status().unwrap_or(0), head))
    }

    /// Which application answers, or with which status somebody else does.
    fn answer(&self, to: SocketAddr, path: &str) -> String {
        match self.ask(&self.town.client, to, path) {
            Ok((status, head)) => head.get("x-app").map_or_else(|| status.to_string(), str::to_owned),
            Err(error) => error,
        }
    }

    #[track_caller]
    fn wait_for(&self, to: SocketAddr, path: &str, expected: &str) {
        let mut last = String::new();
        let waited = wait_until(&format!("{path} at {to} to lead to {expected}"), PATIENCE, || {
            last = self.answer(to, path);
            last == expected
        });
        waited.unwrap_or_else(|error| panic!("{}\n{error:#}: {last}", self.last_words()));
    }

    fn last_words(&self) -> String {
        format!("{}\n{}", self.waypoint.process.log_tail(40), self.town.lab.logs(20))
    }
}

fn object(group: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": group, "kind": kind,
        "metadata": { "name": name, "namespace": "town", "labels": { "culvert.dev/use-waypoint": "wp" } },
        "spec": spec,
    })
}

fn entry(name: &str, host: &str, addresses: &[String], port: Value, more: Value) -> Value {
    let mut spec = json!({ "hosts": [host], "addresses": addresses, "ports": [port], "location": "MESH_EXTERNAL" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object("networking.istio.io/v1", "ServiceEntry", name, spec)
}

fn http_port(more: Value) -> Value {
    let mut port = json!({ "number": 80, "name": "http", "protocol": "HTTP" });
    port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    port
}

fn host(name: &str, port: u16) -> Value {
    json!({ "group": "networking.istio.io", "kind": "Hostname", "name": name, "port": port })
}

fn route(name: &str, entry: &str, rules: Value) -> Value {
    let parent = json!({ "group": "networking.istio.io", "kind": "ServiceEntry", "name": entry });
    let spec = json!({ "parentRefs": [parent], "rules": rules });
    object("gateway.networking.k8s.io/v1", "HTTPRoute", name, spec)
}

fn prefix(path: &str) -> Value {
    json!([{ "path": { "type": "PathPrefix", "value": path } }])
}

fn routes_take_entries_and_lead_to_their_hosts(kind: Kind) {
    let lab = lab(&format!("wp_entries_{}", kind.word()));
    let outside = Outside::set(&lab, kind);
    let served = http_port(json!({ "targetPort": SERVED }));
    let address = |address: [u8; 4]| [Ipv4Addr::from(address).to_string()];
    let by_name = json!({ "resolution": "DNS" });
    lab.apply(&entry("api", "api.example", &address(API), served.clone(), by_name))
        .unwrap();
    let listed = json!({ "resolution": "STATIC", "endpoints": [{ "address": outside.nodes[1].to_string() }] });
    lab.apply(&entry("boxes", "boxes.example", &address(BOXES), served, listed))
        .unwrap();
    // Without any route everything goes to the entry's own endpoints.
    outside.wait_for(at(API), "/x", "one");
    outside.wait_for(at(BOXES), "/x", "two");

    lab.apply(&route(
        "api",
        "api",
        json!([
            { "matches": prefix("/boxes"), "backendRefs": [host("boxes.example", 80)] },
            { "matches": prefix("/web"), "backendRefs": [{ "name": "web", "port": 80 }] },
            { "matches": prefix("/nowhere"), "backendRefs": [host("nowhere.example", 80)] },
            { "backendRefs": [host("api.example", 80)] },
        ]),
    ))
    .unwrap();
    outside.wait_for(at(API), "/boxes", "two");
    outside.wait_for(at(API), "/web", "web");
    outside.wait_for(at(API), "/nowhere", "500");
    outside.wait_for(at(API), "/x", "one");
    let findings = outside.town.mesh.get_controller("/findings").unwrap().body;
    assert!(findings.contains("nowhere.example"), "{findings}");

    // A VirtualService of one entry that leads to another one's host.
    lab.apply(&object(
        "networking.istio.io/v1",
        "VirtualService",
        "boxes",
        json!({
            "hosts": ["boxes.example"],
            "http": [
                { "match": [{ "uri": { "prefix": "/api" } }], "route": [{ "destination": { "host": "api.example" } }] },
                { "route": [{ "destination": { "host": "boxes.example" } }] },
            ],
        }),
    ))
    .unwrap();
    outside.wait_for(at(BOXES), "/api", "one");
    outside.wait_for(at(BOXES), "/x", "two");

    // A policy for an entry decides at its waypoint.
    let target = json!({ "group": "networking.istio.io", "kind": "ServiceEntry", "name": "boxes" });
    lab.apply(&object(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        "no",
        json!({ "targetRefs": [target], "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": ["/no"] } }] }] }),
    ))
    .unwrap();
    outside.wait_for(at(BOXES), "/no", "403");
    outside.wait_for(at(BOXES), "/x", "two");

    // A name is followed, and what it led to stays while nobody answers.
    outside.rename(&format!("{} api.example\n", outside.nodes[1]));
    outside.wait_for(at(API), "/x", "two");
    outside.resolver.signal(libc::SIGSTOP).unwrap();
    let begun = Instant::now();
    let resolutions = || http::page(outside.waypoint.place.pod(), 15020, "/metrics").unwrap_or_default();
    let timeout = "culvert_waypoint_name_resolutions_total{outcome=\"timeout\"}";
    let waited = wait_until("the resolver's silence to be noticed", PATIENCE, || {
        assert_eq!(outside.answer(at(API), "/x"), "two", "{}", outside.last_words());
        let is_noticed = kind != Kind::Culvert || resolutions().contains(timeout);
        begun.elapsed() > Duration::from_secs(6) && is_noticed
    });
    waited.unwrap_or_else(|error| panic!("{}\n{error:#}", outside.last_words()));
    outside.resolver.signal(libc::SIGCONT).unwrap();
    outside.rename(&format!("{} api.example\n", outside.nodes[0]));
    outside.wait_for(at(API), "/x", "one");
    if kind != Kind::Culvert {
        return;
    }
    // Nobody who writes a name leads requests past the encryption: the address is a pod's.
    let pod = outside.town.server.ip4();
    outside.rename(&format!("{pod} api.example\n"));
    outside.wait_for(at(API), "/x", "503");
    let metrics = resolutions();
    for outcome in ["resolved", "timeout", "of_the_mesh"] {
        let series = format!("culvert_waypoint_name_resolutions_total{{outcome=\"{outcome}\"}}");
        assert!(metrics.contains(&series), "{series}: {metrics}");
    }
    let said = wait_until("the log to say why", PATIENCE, || {
        outside.waypoint.process.log().contains("leads into the mesh")
    });
    said.unwrap_or_else(|error| panic!("{}\n{error:#}", outside.last_words()));
}

#[test]
fn culvert_routes_for_entries_and_to_their_hosts() {
    routes_take_entries_and_lead_to_their_hosts(Kind::Culvert);
}

#[test]
fn envoy_routes_for_entries_and_to_their_hosts() {
    routes_take_entries_and_lead_to_their_hosts(Kind::Envoy);
}

/// Of an entry without resolution a connection goes to the address that was dialled, of a range of them; its requests are seen on the way.
fn what_was_dialled_is_reached(kind: Kind) {
    let lab = lab(&format!("wp_dialled_{}", kind.word()));
    let outside = Outside::set(&lab, kind);
    let nodes = outside.nodes.map(|node| SocketAddr::from((node, SERVED)));
    let port = json!({ "number": SERVED, "name": "http", "protocol": "HTTP" });
    let ranges = ["198.18.0.0/30".to_owned()];
    lab.apply(&entry(
        "nodes",
        "*.nodes.example",
        &ranges,
        port,
        json!({ "resolution": "NONE" }),
    ))
    .unwrap();
    let mark = json!([{ "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [{ "name": "x-mark", "value": "seen" }] } }]);
    let rules = json!([{ "filters": mark, "backendRefs": [host("*.nodes.example", SERVED)] }]);
    lab.apply(&route("nodes", "nodes", rules)).unwrap();
    let marked = |path: &str| {
        let seen = outside.seen.with_key(path);
        seen.last()
            .is_some_and(|arrival| arrival.head.get("x-mark") == Some("seen"))
    };
    for (to, name) in [(nodes[0], "one"), (nodes[1], "two")] {
        let path = format!("/{name}");
        let waited = wait_until(&format!("{to} is reached through the waypoint"), PATIENCE, || {
            outside.answer(to, &path) == name && marked(&path)
        });
        waited.unwrap_or_else(|error| panic!("{}\n{error:#}", outside.last_words()));
    }
}

#[test]
fn culvert_goes_where_a_client_dialled() {
    what_was_dialled_is_reached(Kind::Culvert);
}

#[test]
fn envoy_goes_where_a_client_dialled() {
    what_was_dialled_is_reached(Kind::Envoy);
}
