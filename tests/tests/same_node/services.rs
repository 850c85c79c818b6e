//! Addresses of Services: past the proxy where they lead to one pod of the node, and through it where there is a choice.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    net::{IpAddr, SocketAddr},
};

use culvert_lab::{Lab, Service, ServiceSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab, probe, town::PORT};
use serde_json::{Value, json};

use super::support::{
    ATTEMPT, ECHO, OPENED, access_line, goes_past, only, open_past, past, strict, total, town, wait_for, wait_for_end,
};

/// Of Services, in front of the echo.
const FRONT: u16 = 90;

/// A Service of the pods with a label, in front of the echo and of `probe serve`.
fn service(lab: &Lab, key: &str, value: &str) -> Service {
    let spec = ServiceSpec::new("town", "cart").port_to(FRONT, ECHO).port(PORT);
    lab.service(spec.selector(key, value)).unwrap()
}

fn front(service: &Service) -> SocketAddr {
    (service.ip4(), FRONT).into()
}

/// The same Service, with more in its `spec`.
fn change(lab: &Lab, service: &Service, selector: Value, more: Value) {
    let mut spec = json!({
        "type": "ClusterIP", "clusterIP": service.ip4().to_string(),
        "clusterIPs": service.addresses().map(|ip| ip.to_string()),
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack", "selector": selector,
        "ports": [
            { "name": "tcp-front", "port": FRONT, "targetPort": ECHO, "protocol": "TCP" },
            { "name": "tcp-probe", "port": PORT, "targetPort": PORT, "protocol": "TCP" },
        ],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let metadata = json!({ "name": "cart", "namespace": "town" });
    let object = json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec });
    lab.apply(&object).unwrap();
}

/// Says of the neighbour that it is ready, or that it is not.
fn set_ready(lab: &Lab, is_ready: bool) {
    let file = "pod-town-neighbour.yaml";
    let text = fs::read_to_string(lab.config_dir().join(file)).unwrap();
    let (from, to) = if is_ready { ("False", "True") } else { ("True", "False") };
    assert!(text.contains(from), "{text}");
    lab.write_config(file, &text.replace(from, to)).unwrap();
}

/// The pods that have answered, and whether anything went past the proxy.
fn answers(town: &Town<'_>, service: &Service, times: usize) -> (BTreeSet<IpAddr>, bool) {
    let before = past(town);
    let dial = |_| {
        let found = probe::dial(&town.client, (service.ip4(), PORT), &[]).unwrap();
        probe::address(&found, "server", "getsockname").ip()
    };
    ((0..times).map(dial).collect(), past(town) > before)
}

#[test]
fn a_service_that_leads_to_one_pod_goes_past_the_proxy_and_both_ends_see_the_truth() {
    let lab = lab("sn_svc");
    let town = town(&lab);
    strict(&lab);
    let service = service(&lab, "app", "neighbour");
    for (family, address) in service.addresses().into_iter().enumerate() {
        let to = SocketAddr::new(address, PORT);
        let ends = [&town.client, &town.neighbour].map(|pod| pod.addresses()[family]);
        wait_until("a connection goes past the proxy", PATIENCE, || {
            let before = past(&town);
            let Ok(found) = probe::dial(&town.client, to, &[]) else {
                return false;
            };
            assert_eq!(probe::address(&found, "client", "getpeername"), to);
            let (client, server) = (
                probe::address(&found, "server", "accept").ip(),
                probe::address(&found, "server", "getsockname"),
            );
            assert_eq!([client, server.ip()], ends);
            assert_eq!(server.port(), PORT);
            past(&town) > before
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    }
    // From then on, the proxy does not notice. The pod itself is reached through it: nothing goes past it to oneself.
    wait_for(&town, &town.client, front(&service), (true, true));
    let carried = || total(&town, 15020, &[OPENED, "connection_security_policy=\"mutual_tls\""]);
    let before = carried();
    for _ in 0..20 {
        assert_eq!(goes_past(&town, &town.client, front(&service)), (true, true));
    }
    assert!((carried() - before).abs() < 0.5, "the proxy has carried some");
    wait_for(&town, &town.neighbour, front(&service), (true, false));
    // A denial closes what is open, and lets nothing in.
    let mut open = open_past(&town, &town.client, front(&service));
    echo::round_trip(&mut open).unwrap();
    lab.apply(&only("somebody-else")).unwrap();
    wait_for_end(open);
    for _ in 0..5 {
        assert_eq!(
            goes_past(&town, &town.client, front(&service)),
            (false, false),
            "denied"
        );
    }
    lab.delete("AuthorizationPolicy", "town", "only").unwrap();
    wait_for(&town, &town.client, front(&service), (true, true));
}

#[test]
fn where_there_is_a_choice_the_proxy_makes_it_and_where_the_service_prefers_the_node_there_is_none() {
    let lab = lab("sn_choice");
    let town = town(&lab);
    echo::serve(&town.server, ECHO);
    let service = service(&lab, "tier", "back");
    let both: BTreeSet<IpAddr> = [&town.neighbour, &town.server].map(|pod| pod.ip4().into()).into();
    wait_for(&town, &town.client, front(&service), (true, false));
    assert_eq!(answers(&town, &service, 30), (both.clone(), false));
    let back = json!({ "tier": "back" });
    let here = BTreeSet::from([IpAddr::from(town.neighbour.ip4())]);
    for preference in [
        json!({ "trafficDistribution": "PreferSameNode" }),
        json!({ "internalTrafficPolicy": "Local" }),
    ] {
        change(&lab, &service, back.clone(), preference);
        wait_for(&town, &town.client, front(&service), (true, true));
        let mut open = open_past(&town, &town.client, front(&service));
        wait_until("the other port has followed", PATIENCE, || {
            answers(&town, &service, 5) == (here.clone(), true)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
        change(&lab, &service, back.clone(), json!({}));
        wait_for(&town, &town.client, front(&service), (true, false));
        assert_eq!(answers(&town, &service, 30), (both.clone(), false));
        echo::round_trip(&mut open).unwrap();
    }
    // Who stays with an endpoint has no choice, either: all go one way.
    change(&lab, &service, back, json!({ "sessionAffinity": "ClientIP" }));
    let all_to_one = || {
        let (who, is_past) = answers(&town, &service, 10);
        who.len() == 1 && is_past == (who == here)
    };
    wait_until("all go to one", PATIENCE, all_to_one).unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
}

#[test]
fn a_service_whose_endpoint_is_not_ready_or_that_is_gone_leads_nowhere_and_what_is_open_stays() {
    let lab = lab("sn_unready");
    let town = town(&lab);
    let service = service(&lab, "app", "neighbour");
    let to = front(&service);
    let mut open = open_past(&town, &town.client, to);
    set_ready(&lab, false);
    wait_for(&town, &town.client, to, (false, false));
    echo::round_trip(&mut open).unwrap();
    set_ready(&lab, true);
    wait_for(&town, &town.client, to, (true, true));
    // Another selector: the address leads to another pod.
    echo::serve(&town.server, ECHO);
    change(&lab, &service, json!({ "app": "server" }), json!({}));
    wait_for(&town, &town.client, to, (true, false));
    town.in_the_tunnel(|| echo::connect(&town.client, to, PATIENCE).unwrap());
    change(&lab, &service, json!({ "app": "neighbour" }), json!({}));
    wait_for(&town, &town.client, to, (true, true));
    lab.delete("Service", "town", "cart").unwrap();
    wait_until("nothing goes past the proxy", PATIENCE, || {
        !goes_past(&town, &town.client, to).1
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    echo::round_trip(&mut open).unwrap();
    // The pod's own address is dialled as ever.
    wait_for(&town, &town.client, (town.neighbour.ip4(), ECHO).into(), (true, true));
}

#[test]
fn an_entrys_address_goes_past_the_proxy_until_the_entry_goes() {
    let lab = lab("sn_entry");
    let town = town(&lab);
    let entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": { "name": "bank", "namespace": "town" },
        "spec": {
            "hosts": ["bank.example.com"], "addresses": ["198.18.200.1"], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{ "name": "tcp", "number": FRONT, "targetPort": ECHO, "protocol": "TCP" }],
            "workloadSelector": { "labels": { "app": "neighbour" } },
        },
    });
    lab.apply(&entry).unwrap();
    let to = "198.18.200.1:90".parse().unwrap();
    let mut open = open_past(&town, &town.client, to);
    assert_eq!(open.peer_addr().unwrap(), to);
    lab.delete("ServiceEntry", "town", "bank").unwrap();
    wait_for(&town, &town.client, to, (false, false));
    echo::round_trip(&mut open).unwrap();
}

#[test]
fn the_proxys_log_and_metrics_name_the_service_and_a_refusal_leaves_the_next_connection_to_the_proxy() {
    let lab = lab("sn_svc_log");
    let mut town = town(&lab);
    let service = service(&lab, "app", "neighbour");
    let open = open_past(&town, &town.client, front(&service));
    let source = open.local_addr().unwrap();
    drop(open);
    for direction in ["outbound", "inbound"] {
        let mut found = None;
        wait_until("the access log has its line", PATIENCE, || {
            found = access_line(&mut town, direction, source);
            found.is_some()
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
        let found = found.unwrap();
        let neighbour = SocketAddr::from((town.neighbour.ip4(), ECHO));
        assert_eq!(found["dst.addr"], neighbour.to_string(), "{found}");
        assert_eq!(found["via"], "kernel", "{found}");
        // As in the proxy, which is told of no service by the other end.
        let is_named = direction == "outbound";
        let name = is_named.then(|| json!("cart.town.svc.cluster.local"));
        assert_eq!(found.get("dst.service"), name.as_ref(), "{found}");
        let dialled = is_named.then(|| json!(front(&service).to_string()));
        assert_eq!(found.get("dst.dialled_addr"), dialled.as_ref(), "{found}");
    }
    let words = [
        OPENED,
        "reporter=\"source\"",
        "connection_security_policy=\"none\"",
        "destination_service=\"cart.town.svc.cluster.local\"",
        "destination_workload=\"neighbour\"",
    ];
    wait_until("it is counted", PATIENCE, || total(&town, 15020, &words) > 0.5)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));

    // Nobody listens any more behind another port.
    let closed = SocketAddr::from((town.neighbour.ip4(), ECHO + 1));
    let listener = town.neighbour.listen(closed).unwrap();
    change(
        &lab,
        &service,
        json!({ "app": "neighbour" }),
        json!({ "ports": [{ "name": "tcp-front", "port": FRONT, "targetPort": ECHO + 1, "protocol": "TCP" }] }),
    );
    wait_until("a connection goes past the proxy", PATIENCE, || {
        let before = past(&town);
        let client = town.client.connect(front(&service), ATTEMPT);
        listener.set_nonblocking(true).unwrap();
        let is_the_other = listener.accept().is_ok();
        drop(client);
        is_the_other && past(&town) > before
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    drop(listener);
    let refused = town.client.connect(front(&service), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    wait_until("the proxy has the next connection", PATIENCE, || {
        let before = past(&town);
        // It accepts first, and breaks off.
        let broken = town.client.connect(front(&service), ATTEMPT).is_ok_and(|mut stream| {
            stream.set_read_timeout(Some(ATTEMPT)).unwrap();
            !matches!(stream.read(&mut [0]), Ok(1))
        });
        broken && past(&town) - before < 0.5
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    let words = [
        "connection failed",
        "\"via\":\"kernel\"",
        "\"dst.service\":\"cart.town.svc.cluster.local\"",
    ];
    // Lines are gathered for some milliseconds before they are written.
    wait_until("the refusal is said", PATIENCE, || {
        let log = town.mesh.ztunnel(1).unwrap().log();
        log.lines().any(|line| words.iter().all(|word| line.contains(word)))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
}
