//! What these tests have in common.

use std::{
    io::{ErrorKind, Read as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use culvert_lab::{Lab, Pod, wait_until};
use culvert_tests::{PATIENCE, Town, echo, town::PORT};
use serde_json::{Value, json};

/// Where the echo is, beside the town's own servers.
pub(crate) const ECHO: u16 = PORT + 1;

/// What the proxy counts, of those that it has carried (which are encrypted) and of those that it has not.
pub(crate) const OPENED: &str = "istio_tcp_connections_opened_total";

/// How long an attempt may take that is lost on a strict pod's link.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(5);

pub(crate) fn annotate(lab: &Lab, value: Option<&str>) {
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": "town",
            "labels": { "culvert.dev/mesh": "ambient" },
            "annotations": value.map(|value| json!({ "culvert.dev/same-node": value })).unwrap_or(json!({})),
        },
    });
    lab.apply(&object).unwrap();
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": { "name": name, "namespace": "town" }, "spec": spec,
    })
}

/// A mesh in which the neighbour asks for it, and has an echo.
pub(crate) fn town(lab: &Lab) -> Town<'_> {
    let town = Town::meshed(lab);
    annotate(lab, Some("kernel"));
    echo::serve(&town.neighbour, ECHO);
    town
}

pub(crate) fn neighbour(town: &Town<'_>) -> SocketAddr {
    (town.neighbour.ip4(), ECHO).into()
}

/// A number of an agent's metrics, all series with these words together.
pub(crate) fn total(town: &Town<'_>, port: u16, words: &[&str]) -> f64 {
    let metrics = town.mesh.get(1, port, "/metrics").unwrap().body;
    let lines = metrics
        .lines()
        .filter(|line| words.iter().all(|word| line.contains(word)));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// How many series the agent has of what goes past the proxy to a pod.
pub(crate) fn series(town: &Town<'_>, server: &str) -> usize {
    let metrics = town.mesh.get(1, 15022, "/metrics").unwrap().body;
    let words = ["culvert_agent_same_node_", &format!("server=\"{server}\"")];
    let is_one = |line: &&str| words.iter().all(|word| line.contains(word));
    metrics.lines().filter(is_one).count()
}

/// How many connections the kernel has let past the proxy.
pub(crate) fn past(town: &Town<'_>) -> f64 {
    total(town, 15022, &["hook=\"sk_lookup\"", "outcome=\"same_node\""])
}

/// Whether a new connection of `from` works, and whether it went past the proxy; `past` is asked before and after.
pub(crate) fn goes_past(town: &Town<'_>, from: &Pod, to: SocketAddr) -> (bool, bool) {
    let before = past(town);
    let works = echo::connect(from, to, ATTEMPT).is_ok();
    (works, past(town) > before)
}

/// Waits until new connections work and go past the proxy, or until they work and do not.
#[track_caller]
pub(crate) fn wait_for(town: &Town<'_>, from: &Pod, to: SocketAddr, wanted: (bool, bool)) {
    let mut last = None;
    let waited = wait_until("connections go as they should", PATIENCE, || {
        last = Some(goes_past(town, from, to));
        last == Some(wanted)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:?}, not {wanted:?}\n{}", town.lab.logs(40)));
}

/// Opens one that goes past the proxy.
#[track_caller]
pub(crate) fn open_past(town: &Town<'_>, from: &Pod, to: SocketAddr) -> TcpStream {
    wait_for(town, from, to, (true, true));
    let before = past(town);
    let open = echo::connect(from, to, PATIENCE).unwrap();
    assert!(past(town) > before, "it went through the proxy\n{}", town.lab.logs(40));
    open
}

/// Waits for the end of an open connection.
#[track_caller]
pub(crate) fn wait_for_end(mut stream: TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => panic!("bytes that nobody sent"),
        Err(error) => assert!(
            [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted].contains(&error.kind()),
            "{error}"
        ),
    }
}

pub(crate) fn only(name: &str) -> Value {
    let principal = format!("cluster.local/ns/town/sa/{name}");
    let rules = json!([{ "from": [{ "source": { "principals": [principal] } }] }]);
    let spec = json!({ "selector": { "matchLabels": { "app": "neighbour" } }, "rules": rules });
    object("AuthorizationPolicy", "only", spec)
}

pub(crate) fn strict(lab: &Lab) {
    lab.apply(&object(
        "PeerAuthentication",
        "default",
        json!({ "mtls": { "mode": "STRICT" } }),
    ))
    .unwrap();
}

/// The line of a connection that comes from this address and port.
pub(crate) fn access_line(town: &mut Town<'_>, direction: &str, source: SocketAddr) -> Option<Value> {
    let log = town.mesh.ztunnel(1).unwrap().log();
    let words = [
        format!("\"direction\":\"{direction}\""),
        format!("\"src.addr\":\"{source}\""),
    ];
    let mut lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    lines.find_map(|line| serde_json::from_str(line).ok())
}
