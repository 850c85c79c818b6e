//! Waypoints: node proxies lead connections there, and nobody gets around one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{Pod, PodSpec, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    authority::Authority,
    echo, http, lab,
    played::PlayedWaypoint,
    town::PORT,
    waypoint::{Kind, Place, Waypoint},
};
use serde_json::{Value, json};

/// Where the echo is, beside the town's own servers.
const ECHO: u16 = PORT + 1;
/// Another port of the same pod, of which no Service knows.
const OTHER: u16 = PORT + 2;

/// How long an attempt may take: on a pod's link it may be lost, and nobody answers.
const ATTEMPT: Duration = Duration::from_secs(5);

fn reaches(from: &Pod, to: SocketAddr) -> bool {
    echo::connect(from, to, ATTEMPT).is_ok()
}

#[track_caller]
fn wait_for(town: &Town<'_>, what: &str, condition: impl FnMut() -> bool) {
    let waited = wait_until(what, PATIENCE, condition);
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(30)));
}

#[test]
fn a_service_behind_a_waypoint_is_reached_through_it_alone() {
    let lab = lab("wp_node");
    let town = Town::meshed(&lab);
    for port in [ECHO, OTHER] {
        echo::serve(&town.server, port);
    }
    let spec = ServiceSpec::new("town", "web")
        .port_to(80, ECHO)
        .selector("app", "server");
    let web = lab.service(spec).unwrap();
    let virtual_address = SocketAddr::from((web.ip4(), 80));
    let [at_port, other] = [ECHO, OTHER].map(|port| SocketAddr::from((town.server.ip4(), port)));
    lab.namespace("outside").unwrap();
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    wait_for(&town, "the Service to be reached", || {
        reaches(&town.client, virtual_address)
    });
    wait_for(&town, "the pod to be reached", || {
        reaches(&town.client, at_port) && reaches(&stranger, at_port)
    });

    // The waypoint is named and not there.
    lab.label_with("town", "culvert.dev/use-waypoint", Some("wp")).unwrap();
    let mut log = String::new();
    wait_for(&town, "the Service to be refused, and why", || {
        let refused = !reaches(&town.client, virtual_address);
        log = town.lab.logs(40);
        refused && log.contains("is reached through waypoint town/wp.town.svc.cluster.local, which is not known")
    });

    // It comes, and is asked for what was dialled.
    let place = Place::make(&lab, "town", "wp");
    let waypoint = place.play(&lab);
    wait_for(&town, "the Service to be reached through the waypoint", || {
        reaches(&town.client, virtual_address) && !waypoint.asked().is_empty()
    });
    let asked = waypoint.asked();
    assert!(
        asked.iter().all(|authority| *authority == virtual_address.to_string()),
        "{asked:?}"
    );
    town.in_the_tunnel(|| assert!(reaches(&town.client, virtual_address)));

    // Nobody goes around it: a client of the mesh is led there by the pod's address, too, and one outside is refused.
    wait_for(&town, "the pod to be reached through the waypoint alone", || {
        let through = reaches(&town.client, at_port) && waypoint.asked().contains(&at_port.to_string());
        through && !reaches(&stranger, at_port)
    });
    assert!(
        reaches(&town.client, other) && reaches(&stranger, other),
        "another port is as it was"
    );
    // The pod's port is strict by that, so its guard stops whoever has no certificate, and counts it.
    wait_for(&town, "the guard to count it", || {
        let page = town.mesh.get(2, 15022, "/pods").unwrap();
        let page: Value = serde_json::from_str(&page.body).unwrap();
        let mut pods = page["pods"].as_array().into_iter().flatten();
        pods.any(|pod| pod["guard"]["dropped"].as_u64() > Some(0))
    });

    // Nor does somebody else pass for the waypoint.
    drop(waypoint);
    let leaf = Authority::of(&lab).leaf(&[&town.neighbour.identity()]);
    let impostor = PlayedWaypoint::serve(place.pod(), leaf);
    wait_for(&town, "an impostor to get nothing", || {
        !reaches(&town.client, virtual_address)
    });
    assert!(impostor.asked().is_empty(), "{:?}", impostor.asked());

    // It is no longer asked for.
    lab.label_with("town", "culvert.dev/use-waypoint", None).unwrap();
    wait_for(&town, "the Service to be reached without a waypoint", || {
        reaches(&town.client, virtual_address) && reaches(&town.client, at_port) && reaches(&stranger, at_port)
    });
}

/// Two applications behind one Service by an HTTPRoute with weights, as each kind of waypoint carries it.
fn shares_requests_by_weight(kind: Kind) {
    let lab = lab(&format!("wp_weights_{}", kind.word()));
    let town = Town::meshed(&lab);
    let both = [(&town.server, "v1"), (&town.neighbour, "v2")];
    for (pod, name) in both {
        http::serve(pod, ECHO, name);
        let spec = ServiceSpec::new("town", name)
            .port_object(http_port(80, ECHO))
            .selector("app", pod.name());
        lab.service(spec).unwrap();
    }
    let web = ServiceSpec::new("town", "web")
        .port_object(http_port(80, ECHO))
        .selector("app", "server")
        .label("culvert.dev/use-waypoint", "wp");
    let web = lab.service(web).unwrap();
    let backend = |name: &str, weight: u32| json!({ "name": name, "port": 80, "weight": weight });
    lab.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "canary", "namespace": "town" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
            "rules": [{ "backendRefs": [backend("v1", 90), backend("v2", 10)] }],
        },
    }))
    .unwrap();
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", kind);
    let address = SocketAddr::from((web.ip4(), 80));
    let get = || http::get(&town.client, address, "web.town", "/hello?x=1", ATTEMPT);
    let mut last = String::new();
    let waited = wait_until("both to answer through the waypoint", PATIENCE, || {
        let mut names: Vec<String> = Vec::new();
        for _ in 0..30 {
            match get() {
                Ok(answer) => names.push(answer.name),
                Err(error) => last = error.to_string(),
            }
        }
        names.iter().any(|name| name == "v1") && names.iter().any(|name| name == "v2")
    });
    waited.unwrap_or_else(|error| {
        panic!(
            "{error:#}: {last}\n{}\n{}",
            waypoint.process.log_tail(60),
            town.lab.logs(30)
        )
    });

    // Nothing is readable between the nodes: the client and one application are on node 1, waypoint and the other on node 2.
    let answers: Vec<http::Answer> = town.in_the_tunnel(|| (0..500).map(|_| get().unwrap()).collect());
    assert!(answers.iter().all(|answer| answer.status == 200));
    let second = answers.iter().filter(|answer| answer.name == "v2").count();
    assert!(
        (20..=90).contains(&second),
        "{second} of 500, with a tenth of the weight"
    );
    let seen = &answers[0];
    assert_eq!(seen.seen[0], "GET /hello?x=1 HTTP/1.1");
    assert_eq!(seen.header("host"), Some("web.town"));
    let client = town.client.ip4().to_string();
    // Envoy behind an internal listener writes none.
    let expected = (kind == Kind::Culvert).then_some(client.as_str());
    assert_eq!(seen.header("x-forwarded-for"), expected, "{seen:?}");
}

fn http_port(port: u16, target: u16) -> Value {
    json!({ "name": "http", "port": port, "targetPort": target, "protocol": "TCP", "appProtocol": "http" })
}

#[test]
fn culvert_shares_requests_by_weight() {
    shares_requests_by_weight(Kind::Culvert);
}

#[test]
fn envoy_shares_requests_by_weight() {
    shares_requests_by_weight(Kind::Envoy);
}

#[test]
fn envoy_takes_all_that_the_controller_tells_a_waypoint() {
    let lab = lab("wp_envoy_ads");
    let town = Town::meshed(&lab);
    let web = ServiceSpec::new("town", "web")
        .port_object(http_port(80, PORT))
        .selector("app", "server")
        .label("culvert.dev/use-waypoint", "wp");
    lab.service(web).unwrap();
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", Kind::Envoy);
    let stats = || {
        let pod = waypoint.place.pod();
        http::page(pod, 15000, "/stats?filter=update_(rejected|success)|warming").unwrap_or_default()
    };
    let value = |stats: &str, name: &str| -> Option<u64> {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))?;
        line.trim().parse().ok()
    };
    let mut last = String::new();
    let waited = wait_until("Envoy to have listeners and clusters", PATIENCE, || {
        last = stats();
        let has = |name: &str| value(&last, name).is_some_and(|count| count > 0);
        let is_warm = value(&last, "cluster_manager.warming_clusters") == Some(0);
        has("listener_manager.lds.update_success") && has("cluster_manager.cds.update_success") && is_warm
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last}\n{}", waypoint.process.log_tail(60)));
    let rejected = last
        .lines()
        .filter(|line| line.contains("update_rejected") && !line.ends_with(" 0"));
    assert_eq!(rejected.collect::<Vec<_>>(), Vec::<&str>::new());
    let log = town.lab.logs(200);
    assert!(!log.contains("a client refused a response"), "{log}");
    assert!(log.contains("made a certificate and its key"), "{log}");
}

/// It is started here with every privilege that there is.
#[test]
fn a_waypoint_holds_no_privilege_and_can_gain_none() {
    let lab = lab("wp_privileges");
    let town = Town::meshed(&lab);
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", Kind::Culvert);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", waypoint.process.pid())).unwrap();
    for task in tasks {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().to_owned()
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(
            (field("NoNewPrivs").as_str(), field("Seccomp").as_str()),
            ("1", "2"),
            "{status}"
        );
    }
}
