//! Traffic of every kind that the dashboards tell apart.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use culvert_lab::{Pod, PodSpec, ServiceSpec};
use culvert_tests::{
    PATIENCE, Town, app,
    dns::{self, A, Resolver},
    echo, grpc, http,
    scene::service,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::json;

/// Where the echo is, beside the town's own servers.
const ECHO: u16 = PORT + 1;

/// Where the application and the echo behind the waypoint are.
const WEB: u16 = PORT + 2;
const BYTES: u16 = PORT + 3;
const BOOKS: u16 = PORT + 4;

/// Where nobody listens.
const CLOSED: u16 = 9;

/// It, again and again.
pub(super) struct Traffic<'town, 'lab> {
    town: &'town Town<'lab>,
    service: SocketAddr,
    /// A pod outside the mesh.
    stranger: Pod,
    /// A pod whose connections are held.
    holder: Pod,
    /// The waypoint of what follows.
    pub(super) waypoint: Waypoint,
    /// A Service whose requests it reads, and sends once more where they fail.
    web: SocketAddr,
    /// One whose bytes it copies.
    bytes: SocketAddr,
    /// One of gRPC.
    books: SocketAddr,
    /// What serves it.
    _server: grpc::Server,
    /// The stranger, who knows no name.
    resolver: Resolver,
    /// How many rounds there were.
    rounds: AtomicU64,
}

impl<'town, 'lab> Traffic<'town, 'lab> {
    pub(super) fn new(town: &'town Town<'lab>) -> Self {
        let lab = town.lab;
        lab.namespace("outside").unwrap();
        let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
        let holder = PodSpec::new("town", "holder").on(1).service_account("holder");
        let holder = lab
            .pod(holder.annotation("culvert.dev/hold-connections", "true"))
            .unwrap();
        town.mesh.wait_enrolled(&[&holder], true, PATIENCE).unwrap();
        let service = lab.service(
            ServiceSpec::new("town", "echo")
                .port_to(80, ECHO)
                .selector("app", "server"),
        );
        let service = (service.unwrap().ip4(), 80).into();
        echo::serve(&town.server, ECHO);
        let deny = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "not-the-neighbour", "namespace": "town" },
            "spec": {
                "action": "DENY",
                "rules": [{ "from": [{ "source": { "principals": ["cluster.local/ns/town/sa/neighbour"] } }] }],
            },
        });
        lab.apply(&deny).unwrap();
        let [web, bytes, books] = behind_the_waypoint(town);
        Self {
            town,
            service,
            resolver: Resolver::start(&stranger, dns::no_such_name),
            stranger,
            holder,
            waypoint: Waypoint::start(lab, &town.mesh, "town", "wp", Kind::Culvert),
            web,
            bytes,
            books,
            _server: grpc::serve(&town.server, BOOKS, "books"),
            rounds: AtomicU64::default(),
        }
    }

    /// One connection of each kind. How they end is not looked at here: the metrics tell.
    fn round(&self) {
        let server = SocketAddr::from((self.town.server.ip4(), ECHO));
        let closed = SocketAddr::from((self.town.server.ip4(), CLOSED));
        let tunnels = SocketAddr::from((self.waypoint.place.pod().ip4(), 15008));
        let patience = Duration::from_secs(5);
        for (from, to) in [
            (&self.town.client, server),
            (&self.town.client, self.service),
            (&self.town.client, closed),
            (&self.town.neighbour, server),
            (&self.stranger, server),
            (&self.holder, server),
            (&self.holder, closed),
            (&self.town.client, self.bytes),
            (&self.stranger, tunnels),
        ] {
            let _how = echo::connect(from, to, patience);
        }
        // Every other round what is behind the waypoint fails.
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        let fails = round % 2 == 1;
        let head = [
            "GET / HTTP/1.1".to_owned(),
            "host: web".to_owned(),
            format!("{}: {round}", app::KEY),
            format!("{}: 503,{}", app::ANSWERS, if fails { "503" } else { "200" }),
        ];
        let _how = http::ask(&self.town.client, self.web, &head, patience);
        let method = if fails { "/shop.Books/Fail" } else { "/shop.Books/Get" };
        let _how = grpc::call(&self.town.client, self.books, method, patience);
        for (resolver, name) in [
            (self.stranger.ip4(), "web.town.svc.cluster.local"),
            (self.stranger.ip4(), "elsewhere.test"),
            (self.town.server.ip4(), "elsewhere.test"),
        ] {
            let query = dns::query(round as u16, name, A);
            let _how = dns::ask(&self.town.client, (resolver, 53).into(), &query, patience);
        }
        self.resolver.take();
    }

    /// Makes rounds while `work` is at it.
    pub(super) fn while_doing<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Stops the rounds also where the work panics.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = Stop(&stop);
            let flag = stop.0;
            scope.spawn(move || {
                while !flag.load(Ordering::Relaxed) {
                    self.round();
                }
            });
            let done = work();
            drop(stop);
            done
        })
    }
}

/// The Services `web`, `bytes` and `books`.
fn behind_the_waypoint(town: &Town<'_>) -> [SocketAddr; 3] {
    let lab = town.lab;
    app::serve(&town.server, WEB, "web", &app::Seen::default());
    echo::serve(&town.server, BYTES);
    let behind = |name: &str, port: u16, protocol: &str| {
        let spec: ServiceSpec = service(name, "server", port, protocol);
        let service = lab.service(spec.label("culvert.dev/use-waypoint", "wp")).unwrap();
        SocketAddr::from((service.ip4(), 80))
    };
    // One that is tried out, and one that decides nothing.
    let policy = |action: &str| json!({ "action": action, "rules": [{}], "targetRefs": [{ "group": "", "kind": "Service", "name": "web" }] });
    for (group, kind, name, spec) in [
        (
            "networking",
            "DestinationRule",
            "web",
            json!({ "host": "web", "trafficPolicy": { "outlierDetection": { "consecutive5xxErrors": 1_000_000 } } }),
        ),
        (
            "networking",
            "VirtualService",
            "web",
            json!({ "hosts": ["web"], "http": [{
                "route": [{ "destination": { "host": "web" } }],
                "retries": { "attempts": 1, "retryOn": "5xx" },
            }] }),
        ),
        ("security", "AuthorizationPolicy", "nobody", policy("DENY")),
        ("security", "AuthorizationPolicy", "everybody", policy("AUDIT")),
    ] {
        let object = json!({
            "apiVersion": format!("{group}.istio.io/v1"), "kind": kind,
            "metadata": { "name": name, "namespace": "town", "annotations": { "istio.io/dry-run": (name == "nobody").to_string() } },
            "spec": spec,
        });
        lab.apply(&object).unwrap();
    }
    [
        behind("web", WEB, "http"),
        behind("bytes", BYTES, "tcp"),
        behind("books", BOOKS, "grpc"),
    ]
}
