//! Pods that dial a Service of which they are servers: they may be led to themselves, and to their peers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Pod, PodSpec, Service, ServiceSpec, wait_until};
use culvert_tests::{PATIENCE, Town, lab, probe};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

const PORT: u16 = 8085;

/// Dials the Service until each of these pods has answered, and no other. The client sees the Service all along.
fn assert_leads_to(from: &Pod, service: &Service, servers: &[&Pod]) {
    for (family, address) in service.addresses().into_iter().enumerate() {
        let to = SocketAddr::new(address, PORT);
        let expected: BTreeSet<IpAddr> = servers.iter().map(|pod| pod.addresses()[family]).collect();
        let mut seen = BTreeSet::new();
        let waited = wait_until("each pod of the Service has answered", PATIENCE, || {
            let found = probe::dial(from, to, &[]).unwrap_or_else(|error| panic!("{to}: {error}"));
            assert_eq!(probe::address(&found, "client", "getpeername"), to);
            seen.insert(probe::address(&found, "server", "getsockname").ip());
            seen == expected
        });
        waited.unwrap_or_else(|error| panic!("{to}: {error:#}: {seen:?}, not {expected:?}"));
        probe::dial(from, to, &["--transfer", "300000:300000"]).unwrap_or_else(|error| panic!("{to}: {error}"));
    }
}

#[test]
fn a_pod_reaches_itself_and_its_peers_by_their_service_and_does_in_strict_mode() {
    let lab = lab("own_service");
    let town = Town::meshed(&lab);
    // Each on a node, with an identity of their own, as those of a StatefulSet.
    let peers = [1, 2].map(|node| {
        let spec = PodSpec::new("town", &format!("peer-{node}")).on(node);
        lab.pod(spec.service_account("peer").label("set", "peers")).unwrap()
    });
    let [first, second] = &peers;
    let _servers = [first, second, &town.client].map(|pod| probe::serve(pod, PORT));
    let service = |name: &str, key: &str, value: &str| {
        let spec = ServiceSpec::new("town", name).port(PORT).selector(key, value);
        lab.service(spec).unwrap()
    };
    let (own, shared) = (service("own", "app", "client"), service("shared", "set", "peers"));
    town.mesh.wait_enrolled(&[first], true, PATIENCE).unwrap();
    town.wait_in_the_tunnel(second, PORT);
    let check = || {
        assert_leads_to(&town.client, &own, &[&town.client]);
        assert_leads_to(first, &shared, &[first, second]);
        assert_leads_to(second, &shared, &[first, second]);
        // As a headless Service has them: by the peer's own address, also in the pod itself.
        for (from, to) in [(first, first), (first, second), (second, first)] {
            probe::dial(from, (to.ip4(), PORT), &[]).unwrap_or_else(|error| panic!("{}: {error}", to.name()));
        }
    };
    for (from, service) in [(&town.client, &own), (first, &shared), (second, &shared)] {
        let to = SocketAddr::from((service.ip4(), PORT));
        wait_until("the Service is known", PATIENCE, || {
            probe::dial(from, to, &["--timeout", "5"]).is_ok()
        })
        .unwrap();
    }
    check();

    let stranger = lab.pod(PodSpec::new("outside", "stranger")).unwrap();
    let strict = serde_json::json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "strict", "namespace": "town" },
        "spec": { "mtls": { "mode": "STRICT" } },
    });
    lab.apply(&strict).unwrap();
    wait_until("strict mode is in force", PATIENCE, || {
        let dial = |pod: &Pod| probe::dial(&stranger, (pod.ip4(), PORT), &["--timeout", "2"]);
        [first, second, &town.client].into_iter().all(|pod| dial(pod).is_err())
    })
    .unwrap();
    check();
}
