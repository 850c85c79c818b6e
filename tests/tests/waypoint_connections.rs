//! What a DestinationRule says of connections to endpoints behind a waypoint: how long they last, how they are tried, and what they begin
//! with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use culvert_lab::{Lab, Pod, PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, echo,
    http::{self, Head},
    lab, pinged_app, proxied_app,
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::{Value, json};

const ATTEMPT: Duration = Duration::from_secs(5);
const BYTES: u16 = PORT + 1;
const WEB: u16 = PORT + 2;

struct Place<'lab> {
    lab: &'lab Lab,
    town: Town<'lab>,
    waypoint: Waypoint,
}

impl<'lab> Place<'lab> {
    fn make(lab: &'lab Lab, kind: Kind) -> Self {
        let town = Town::meshed(lab);
        let waypoint = Waypoint::start(lab, &town.mesh, "town", "wp", kind);
        Self { lab, town, waypoint }
    }

    /// A Service at port 80 in front of a port of the server, with a DestinationRule.
    fn service(&self, name: &str, protocol: &str, target: u16, rule: Value) -> SocketAddr {
        let port =
            json!({ "name": "any", "port": 80, "targetPort": target, "protocol": "TCP", "appProtocol": protocol });
        let spec = ServiceSpec::new("town", name)
            .port_object(port)
            .selector("app", "server")
            .label("culvert.dev/use-waypoint", "wp");
        let made = self.lab.service(spec).unwrap();
        let mut spec = rule;
        spec["host"] = name.into();
        self.apply("DestinationRule", name, &spec);
        SocketAddr::from((made.ip4(), 80))
    }

    fn apply(&self, kind: &str, name: &str, spec: &Value) {
        let metadata = json!({ "name": name, "namespace": "town" });
        let object =
            json!({ "apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec });
        self.lab.apply(&object).unwrap();
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, condition).unwrap_or_else(|error| {
            let log = self.waypoint.process.log_tail(40);
            let findings = self.town.mesh.get_controller("/findings").unwrap().body;
            panic!("{error:#}\n{log}\n{}\n{findings}", self.lab.logs(20))
        });
    }

    fn ask(&self, from: &Pod, to: SocketAddr) -> Option<(Head, String)> {
        let lines = ["GET / HTTP/1.1", "host: web.town"].map(str::to_owned);
        let answer = http::ask(from, to, &lines, ATTEMPT).ok();
        answer.filter(|(head, _)| head.status() == Some(200))
    }
}

/// Whether a connection ends before the attempt does.
fn ends(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    !ends(stream)
}

fn connections_last_as_rules_say(kind: Kind) {
    let lab = lab(&format!("wp_last_{}", kind.word()));
    let place = Place::make(&lab, kind);
    let client = &place.town.client;
    echo::serve(&place.town.server, BYTES);
    let pinged = pinged_app::serve(&place.town.server, WEB);
    let tcp = |pool: Value| json!({ "connectionPool": { "tcp": pool } });
    let of_port = json!([{ "port": { "number": 80 }, "connectionPool": { "tcp": { "idleTimeout": "1s" } } }]);
    let of_port = json!({ "trafficPolicy": { "connectionPool": { "tcp": { "idleTimeout": "1h" } }, "portLevelSettings": of_port } });
    let silent = place.service("silent", "tcp", BYTES, of_port);
    let of_subset =
        json!([{ "name": "one", "labels": { "app": "server" }, "trafficPolicy": tcp(json!({ "idleTimeout": "1s" })) }]);
    let subset = place.service("subset", "tcp", BYTES, json!({ "subsets": of_subset }));
    let route = json!([{ "destination": { "host": "subset", "subset": "one" } }]);
    place.apply(
        "VirtualService",
        "subset",
        &json!({ "hosts": ["subset"], "tcp": [{ "route": route }] }),
    );
    let old = json!({ "trafficPolicy": tcp(json!({ "maxConnectionDuration": "1s" })) });
    let old = place.service("old", "tcp", BYTES, old);
    let pings =
        json!({ "connectionPool": { "http": { "http2KeepAlive": { "interval": "200ms", "timeout": "10s" } } } });
    let pings = place.service("pings", "http2", WEB, json!({ "trafficPolicy": pings }));

    for (to, name) in [(silent, "port"), (subset, "subset")] {
        place.wait(
            &format!("a silent connection to end, as the {name}'s policy says"),
            || echo::connect(client, to, ATTEMPT).is_ok_and(|mut stream| ends(&mut stream)),
        );
    }
    // One that is not silent goes on while others end.
    let mut busy = echo::connect(client, silent, ATTEMPT).unwrap();
    let mut quiet = echo::connect(client, silent, ATTEMPT).unwrap();
    let begun = Instant::now();
    while is_open(&mut quiet) {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        echo::round_trip(&mut busy).unwrap();
    }
    echo::round_trip(&mut busy).unwrap();

    place.wait("a connection to end that is old, although it is used", || {
        let Ok(mut stream) = echo::connect(client, old, ATTEMPT) else {
            return false;
        };
        let begun = Instant::now();
        while begun.elapsed() < ATTEMPT {
            if echo::round_trip(&mut stream).is_err() {
                return true;
            }
        }
        false
    });

    place.wait("a connection to an endpoint to be made", || {
        place.ask(client, pings).is_some()
    });
    place.wait("a connection without requests to be tried", || pinged.times() > 2);
}

#[test]
fn culvert_ends_connections_of_bytes_and_tries_those_of_http2_as_rules_say() {
    connections_last_as_rules_say(Kind::Culvert);
}

#[test]
fn envoy_ends_connections_of_bytes_and_tries_those_of_http2_as_rules_say() {
    connections_last_as_rules_say(Kind::Envoy);
}

fn endpoints_are_told_who_the_client_is(kind: Kind) {
    let lab = lab(&format!("wp_proxied_{}", kind.word()));
    let place = Place::make(&lab, kind);
    let guest = lab.pod(PodSpec::new("town", "guest").on(1)).unwrap();
    place.town.mesh.wait_enrolled(&[&guest], true, PATIENCE).unwrap();
    proxied_app::serve_http(&place.town.server, WEB);
    proxied_app::serve_bytes(&place.town.server, BYTES);
    let version = |version: &str| json!({ "trafficPolicy": { "proxyProtocol": { "version": version } } });
    let web = place.service("web", "http", WEB, version("V1"));
    let bytes = place.service("bytes", "tcp", BYTES, version("V2"));
    let expected = |version: &str, from: &Pod, to: SocketAddr, said: &str| {
        let source = format!("{version} {}:", from.ip4());
        said.starts_with(&source) && said.ends_with(&format!(" {to}"))
    };

    // Requests of two clients, one after the other: none goes over a connection that is said to be the other's.
    let clients = [&place.town.client, &guest];
    for from in clients {
        place.wait("a request to come with its client's address", || {
            place
                .ask(from, web)
                .is_some_and(|(_, said)| expected("v1", from, web, &said))
        });
    }
    let mut connections = [BTreeSet::new(), BTreeSet::new()];
    for _ in 0..10 {
        for (from, connections) in clients.into_iter().zip(&mut connections) {
            let (head, said) = place.ask(from, web).unwrap();
            assert!(expected("v1", from, web, &said), "{}: {said}", from.ip4());
            connections.insert(head.get("x-connection").unwrap().to_owned());
        }
    }
    assert!(connections[0].is_disjoint(&connections[1]), "{connections:?}");
    assert!(
        connections.iter().all(|one| one.len() < 10),
        "they are kept: {connections:?}"
    );

    // Bytes, where the server speaks first.
    for from in clients {
        let said = |to: SocketAddr| -> io::Result<(String, BufReader<TcpStream>)> {
            let stream = from.connect(to, ATTEMPT)?;
            stream.set_read_timeout(Some(ATTEMPT))?;
            let (mut reader, mut line) = (BufReader::new(stream), String::new());
            reader.read_line(&mut line)?;
            Ok((line.trim_end().to_owned(), reader))
        };
        let mut last = String::new();
        let mut open = None;
        place.wait("a connection to come with its client's address", || {
            let Ok((line, reader)) = said(bytes) else { return false };
            last = line;
            open = Some(reader);
            expected("v2", from, bytes, &last)
        });
        let mut open = open.unwrap();
        open.get_mut().write_all(b"more\n").unwrap();
        let mut line = String::new();
        open.read_line(&mut line).unwrap();
        assert_eq!(line, "more\n");

        // By their own addresses endpoints are told, too.
        let own = SocketAddr::from((place.town.server.ip4(), BYTES));
        let (line, _) = said(own).unwrap();
        assert!(expected("v2", from, own, &line), "{line}");
        let own = SocketAddr::from((place.town.server.ip4(), WEB));
        let (_, line) = place.ask(from, own).unwrap();
        assert!(expected("v1", from, own, &line), "{line}");
    }
}

#[test]
fn culvert_tells_endpoints_by_the_proxy_protocol_who_the_client_is() {
    endpoints_are_told_who_the_client_is(Kind::Culvert);
}

#[test]
fn envoy_tells_endpoints_by_the_proxy_protocol_who_the_client_is() {
    endpoints_are_told_who_the_client_is(Kind::Envoy);
}
