//! NATS, as Debian packages it: servers that are one another's peers, as those of a StatefulSet, and clients that stay for long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Pod, Process};
use culvert_tests::{PATIENCE, Town, lab, programs};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

const CLIENTS: u16 = 4222;
const PEERS: u16 = 6222;
const MONITORING: u16 = 8222;

/// Subscribers at each server.
const SUBSCRIBERS: usize = 20;

/// More than a TLS record, so that a message is in several pieces.
const MESSAGE: usize = 100_000;

/// One of the peers, which knows the others by the addresses of their pods, as a headless Service gives them.
fn server(pod: &Pod, peers: &[&Pod]) -> Process {
    let routes: Vec<_> = peers
        .iter()
        .map(|peer| format!("nats://{}:{PEERS}", peer.ip4()))
        .collect();
    let mut server = programs::unprivileged("/usr/sbin/nats-server", "nats-server");
    server
        .args(["--name", pod.name(), "--addr", "0.0.0.0"])
        .args(["--port", &CLIENTS.to_string(), "--http_port", &MONITORING.to_string()])
        .args(["--cluster_name", "town", "--routes", &routes.join(",")])
        .args(["--cluster", &format!("nats://{}:{PEERS}", pod.ip4())]);
    programs::serve(pod, "nats", &mut server, CLIENTS)
}

/// Waits until a server's page about its connections to its peers shows this.
fn wait_for_routes(pod: &Pod, text: &str) {
    let url = format!("http://127.0.0.1:{MONITORING}/routez?subs=1");
    let page = || {
        let mut curl = programs::command("/usr/bin/curl", "curl");
        let output = pod.output(curl.args(["--silent", &url])).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    culvert_lab::wait_until("the servers know one another", PATIENCE, || page().contains(text))
        .unwrap_or_else(|error| panic!("{error:#}: no {text} in {}", page()));
}

/// How many connections to peers have ended, without those of which there were two: peers dial each other.
fn ended(servers: &[Process]) -> usize {
    let of_one = |server: &Process| {
        let log = server.log();
        let ends = log.lines().filter(|line| line.contains("Router connection closed"));
        ends.filter(|line| !line.contains("Duplicate Route")).count()
    };
    servers.iter().map(of_one).sum()
}

/// A client with one connection, which the server greets.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(from: &Pod, to: &Pod) -> Self {
        let stream = from.connect((to.ip4(), CLIENTS), PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self(BufReader::new(stream));
        let greeting = client.line();
        assert!(greeting.starts_with("INFO {"), "{greeting}");
        client.say("CONNECT {\"verbose\":false}\r\n");
        client
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line that is not about the cluster.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// Waits until the server has done all that it was told.
    fn settle(&mut self) {
        self.say("PING\r\n");
        while self.line() != "PONG\r\n" {}
    }

    fn subscribe(&mut self) {
        self.say("SUB news 1\r\n");
        self.settle();
    }

    fn publish(&mut self, message: &str) {
        self.say(&format!("PUB news {}\r\n{message}\r\n", message.len()));
        self.settle();
    }

    /// The next message.
    fn message(&mut self) -> String {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the server has closed");
            if line.starts_with("MSG news ") {
                return self.line().trim_end().to_owned();
            }
        }
    }
}

#[test]
fn nats_servers_are_one_cluster_and_their_clients_hear_all_news_over_an_agents_restart() {
    let lab = lab("real_nats");
    let mut town = Town::meshed(&lab);
    let pods = [&town.client, &town.server, &town.neighbour];
    // What the peers say crosses the link as well, from their first word on.
    let (servers, mut subscribers) = town.in_the_tunnel(|| {
        let servers = pods.map(|pod| {
            let peers: Vec<_> = pods.into_iter().filter(|peer| peer.ip4() != pod.ip4()).collect();
            server(pod, &peers)
        });
        for pod in pods {
            wait_for_routes(pod, "\"num_routes\": 2");
        }
        let near = || Client::connect(&town.client, &town.server);
        let subscribers: Vec<_> = (0..SUBSCRIBERS)
            .map(|_| {
                let mut client = near();
                client.subscribe();
                client
            })
            .collect();
        // The one where nobody subscribes knows that somebody does elsewhere.
        wait_for_routes(&town.neighbour, "\"news\"");
        (servers, subscribers)
    });
    let before = ended(&servers);
    for node in [1, 2] {
        town.mesh.restart_agent(node).unwrap();
    }
    town.in_the_tunnel(|| {
        // Said at one server, heard at another: over the connection between the two.
        let mut speaker = Client::connect(&town.client, &town.neighbour);
        let message: String = programs::text(MESSAGE / 65 + 1).replace('\n', "");
        speaker.publish(&message);
        for subscriber in &mut subscribers {
            assert!(subscriber.message() == message, "a message arrived changed");
        }
    });
    assert_eq!(ended(&servers), before, "connections between the servers ended");
}
