//! ServiceEntries whose endpoints are DNS names: their hosts lead to allocated addresses, and connections to these to what the pod's
//! resolver says, with dnsmasq as that resolver.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, MeshOptions, Pod, PodSpec, Process, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    dns::{self, A, AAAA},
    echo, lab,
};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

const HOST: &str = "ext.example";
const PORT: u16 = 9000;

/// Outside of the mesh: two servers, each of which says its name, and dnsmasq.
struct Outside {
    one: Pod,
    two: Pod,
    resolver: Pod,
    hosts: PathBuf,
    dnsmasq: Process,
}

/// A server that says a letter to who connects.
fn say(pod: &Pod, letter: u8) {
    for address in pod.addresses() {
        let listener = pod.listen(SocketAddr::new(address, PORT)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.write_all(&[letter]);
            }
        });
    }
}

impl Outside {
    /// `names` are lines of a hosts file, made of the two servers; an answer holds for `ttl` seconds.
    fn start(lab: &Lab, ttl: u32, names: impl FnOnce(&Pod, &Pod) -> String) -> Self {
        let pod = |name: &str| lab.pod(PodSpec::new("outside", name).on(2)).unwrap();
        let (one, two, resolver) = (pod("one"), pod("two"), pod("resolver"));
        say(&one, b'1');
        say(&two, b'2');
        let hosts = lab.dir().join("hosts");
        fs::write(&hosts, names(&one, &two)).unwrap();
        let arguments = [
            "--local=/example/".to_owned(),
            format!("--local-ttl={ttl}"),
            format!("--addn-hosts={}", hosts.display()),
        ];
        let dnsmasq = dns::dnsmasq(&resolver, &arguments, "nothing.example");
        Self {
            one,
            two,
            resolver,
            hosts,
            dnsmasq,
        }
    }

    /// Other names from now on.
    fn rename(&self, names: &str) {
        fs::write(&self.hosts, names).unwrap();
        self.dnsmasq.signal(libc::SIGHUP).unwrap();
    }

    fn at(&self) -> SocketAddr {
        SocketAddr::from((self.resolver.ip4(), 53))
    }
}

fn town<'lab>(lab: &'lab Lab, args: &[&str]) -> Town<'lab> {
    let options = MeshOptions {
        ztunnel_args: args.iter().map(|text| (*text).to_owned()).collect(),
        log: Some("info,culvert_ztunnel=debug".to_owned()),
        ..MeshOptions::default()
    };
    Town::with(lab, options)
}

/// An entry of the host without addresses.
fn entry(more: Value) -> Value {
    let ports = json!([{ "number": 80, "name": "web", "protocol": "TCP", "targetPort": PORT }]);
    let mut spec = json!({ "hosts": [HOST], "ports": ports, "resolution": "DNS" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": { "name": "ext", "namespace": "town" }, "spec": spec,
    })
}

/// What the pod's resolver says of the host, once the mesh answers: the addresses that were allocated.
fn allocated(town: &Town<'_>, outside: &Outside, kind: u16) -> SocketAddr {
    let mut found = Vec::new();
    let waited = wait_until("the host has its allocated address", PATIENCE, || {
        let answer = dns::ask(&town.client, outside.at(), &dns::query(7, HOST, kind), PATIENCE).unwrap();
        found = dns::addresses(&answer);
        let is_allocated = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.octets()[..2] == [240, 240],
            IpAddr::V6(v6) => v6.segments()[..2] == [0x2001, 2],
        };
        !found.is_empty() && found.iter().all(is_allocated)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {found:?}\n{}", town.lab.logs(30)));
    SocketAddr::new(found[0], 80)
}

/// Which server is reached there.
fn reached(town: &Town<'_>, to: SocketAddr) -> io::Result<u8> {
    let mut stream = town.client.connect(to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut letter = [0];
    stream.read_exact(&mut letter).map(|()| letter[0])
}

fn wait_for(town: &Town<'_>, to: SocketAddr, server: u8) {
    let mut last = None;
    let waited = wait_until("connections follow the name", PATIENCE, || {
        let found = reached(town, to);
        let is_there = found.as_ref().is_ok_and(|found| *found == server);
        last = Some(found);
        is_there
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:?}\n{}", town.lab.logs(30)));
}

fn metric(town: &Town<'_>, outcome: &str) -> f64 {
    let page = town.mesh.get(1, 15020, "/metrics").unwrap().body;
    let series = format!("culvert_ztunnel_name_resolutions_total{{outcome=\"{outcome}\"}}");
    let line = page.lines().find_map(|line| line.strip_prefix(&series));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

/// Waits for a line of the access log with all of these words.
fn wait_for_line(town: &mut Town<'_>, words: &[&str]) {
    let log = |town: &mut Town<'_>| town.mesh.ztunnel(1).unwrap().log();
    let waited = wait_until("the access log has its line", PATIENCE, || {
        let log = log(town);
        log.lines().any(|line| words.iter().all(|word| line.contains(word)))
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {words:?}\n{}", town.lab.logs(30)));
}

fn records(name: &str, pods: &[&Pod]) -> String {
    let addresses = pods.iter().flat_map(|pod| pod.addresses());
    addresses.map(|address| format!("{address} {name}\n")).collect()
}

#[test]
fn a_host_that_is_its_own_endpoint_is_reached_where_its_name_leads_and_followed_when_that_changes() {
    let lab = lab("dns_named");
    let outside = Outside::start(&lab, 2, |one, _| records(HOST, &[one]));
    let mut town = town(&lab, &[]);
    lab.apply(&entry(json!({}))).unwrap();
    let (v4, v6) = (allocated(&town, &outside, A), allocated(&town, &outside, AAAA));
    wait_for(&town, v4, b'1');
    wait_for(&town, v6, b'1');
    for to in outside.one.addresses() {
        let to = SocketAddr::new(to, PORT);
        wait_for_line(
            &mut town,
            &[&format!("\"dst.addr\":\"{to}\""), "\"dst.hostname\":\"ext.example\""],
        );
    }
    assert!(metric(&town, "resolved") >= 1.0);
    let shows = |town: &Town<'_>| town.mesh.get(1, 15000, "/names").unwrap().body;
    wait_until("the page shows the name", PATIENCE, || {
        shows(&town).contains(&outside.one.ip4().to_string())
    })
    .unwrap();
    outside.rename(&records(HOST, &[&outside.two]));
    wait_for(&town, v4, b'2');
    wait_for(&town, v6, b'2');
    // Its old address for a while, when nobody answers; none, when there is no such name.
    outside.dnsmasq.signal(libc::SIGSTOP).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(reached(&town, v4).unwrap(), b'2');
    }
    outside.dnsmasq.signal(libc::SIGCONT).unwrap();
    outside.rename("");
    wait_until("the name is gone", PATIENCE, || reached(&town, v4).is_err()).unwrap();
    wait_until("the name is gone, IPv6", PATIENCE, || reached(&town, v6).is_err()).unwrap();
    // For want of a name, and not because a time was up.
    wait_for_line(
        &mut town,
        &[
            "cannot resolve ext.example: no such name",
            "\"dst.service\":\"ext.example\"",
        ],
    );
    assert!(metric(&town, "no_address") >= 1.0);
}

#[test]
fn endpoints_by_name_and_by_address_share_and_what_fails_is_passed_over() {
    let lab = lab("dns_weights");
    let outside = Outside::start(&lab, 2, |one, _| records("one.example", &[one]));
    let town = town(&lab, &[]);
    let list = |named: &str, weight: u32| {
        let two = json!({ "address": outside.two.ip4().to_string(), "weight": 1 });
        entry(json!({ "endpoints": [{ "address": named, "weight": weight }, two] }))
    };
    lab.apply(&list("one.example", 3)).unwrap();
    let to = allocated(&town, &outside, A);
    let mut seen = HashSet::new();
    let waited = wait_until("both are reached", PATIENCE, || {
        seen.extend(reached(&town, to));
        seen.len() == 2
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {seen:?}\n{}", lab.logs(30)));
    let ones = (0..60).filter(|_| reached(&town, to).unwrap() == b'1').count();
    assert!((30..60).contains(&ones), "three of four: {ones}");
    // A name that leads nowhere is no reason to fail as long as there is another endpoint.
    let before = metric(&town, "no_address");
    outside.rename("");
    wait_until("the name is gone", PATIENCE, || {
        metric(&town, "no_address") > before || reached(&town, to).is_err()
    })
    .unwrap();
    for _ in 0..20 {
        assert_eq!(reached(&town, to).unwrap(), b'2');
    }
}

#[test]
fn a_resolver_that_is_silent_or_missing_is_named_within_the_connect_timeout() {
    let lab = lab("dns_silent");
    let outside = Outside::start(&lab, 2, |one, _| records(HOST, &[one]));
    let nobody = outside.one.ip4().to_string();
    let mut town = town(&lab, &["--resolver", &nobody]);
    lab.apply(&entry(json!({ "addresses": ["240.240.200.1"] }))).unwrap();
    let to = SocketAddr::new("240.240.200.1".parse().unwrap(), 80);
    // The pod has asked nobody yet, and nobody listens at the proxy's own resolver.
    let waited = wait_until("the refusal is known", PATIENCE, || {
        reached(&town, to).is_err() && metric(&town, "refused") >= 1.0
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
    wait_for_line(
        &mut town,
        &["cannot resolve ext.example: the pod's resolvers refuse to answer"],
    );
    // It asks, and its own resolver is asked from then on.
    dns::ask(&town.client, outside.at(), &dns::query(7, "other.example", A), PATIENCE).unwrap();
    wait_for(&town, to, b'1');
    // One that has never answered about a name.
    outside.dnsmasq.signal(libc::SIGSTOP).unwrap();
    let other = entry(json!({ "addresses": ["240.240.200.1"], "endpoints": [{ "address": "slow.example" }] }));
    lab.apply(&other).unwrap();
    wait_until("the other name is asked for", PATIENCE, || reached(&town, to).is_err()).unwrap();
    wait_for_line(
        &mut town,
        &["cannot resolve slow.example: the pod's resolvers do not answer"],
    );
    outside.dnsmasq.signal(libc::SIGCONT).unwrap();
    assert!(metric(&town, "timeout") >= 1.0);
}

/// Whoever writes an entry, or the zone that it names, leads nobody past the mesh's encryption.
#[test]
fn a_name_that_leads_to_a_pod_of_the_mesh_leads_into_the_tunnel() {
    let lab = lab("dns_owner");
    let mut town = town(&lab, &[]);
    let server = town.server.addresses();
    let outside = Outside::start(&lab, 300, |_, _| format!("{} {HOST}\n", server[0]));
    echo::serve(&town.server, PORT);
    lab.apply(&entry(json!({}))).unwrap();
    let to = allocated(&town, &outside, A);
    let connect = || echo::connect(&town.client, to, PATIENCE);
    wait_until("the pod is reached", PATIENCE, || connect().is_ok())
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
    // Its name was asked for in clear.
    town.in_the_tunnel(|| connect().unwrap());
    let target = format!("\"dst.addr\":\"{}:{PORT}\"", server[0]);
    wait_for_line(
        &mut town,
        &[&target, "\"dst.workload\":\"server\"", "\"encrypted\":true"],
    );
}
