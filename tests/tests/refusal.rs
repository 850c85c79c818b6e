//! Who is refused: peers that cannot prove who they are, and peers that are not who was asked for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Pod, PodSpec};
use culvert_tests::{
    PATIENCE, Town,
    authority::Authority,
    lab, probe,
    town::PORT,
    tunnel::{Answer, Impostor, connect},
};
use std::net::SocketAddr;
use time::{Duration, OffsetDateTime};

const HBONE: u16 = 15008;

fn tunnel_of(pod: &Pod) -> SocketAddr {
    (pod.ip4(), HBONE).into()
}

fn authority_of(pod: &Pod) -> String {
    format!("{}:{PORT}", pod.ip4())
}

#[track_caller]
fn assert_refused(answer: &Answer) {
    assert!(
        matches!(answer, Answer::Refused(_)),
        "not refused but answered: {answer:?}"
    );
}

#[test]
fn a_good_certificate_is_let_in() {
    // Shows that the refusals below are not refusals of everything.
    let lab = lab("ref_good");
    let town = Town::meshed(&lab);
    let leaf = Authority::of(&lab).leaf(&[&town.client.identity()]);
    let answer = connect(
        &town.client,
        tunnel_of(&town.server),
        Some(leaf),
        &authority_of(&town.server),
    );
    assert_eq!(answer, Answer::Status(200));
}

#[test]
fn a_peer_without_certificate_is_refused() {
    let lab = lab("ref_none");
    let town = Town::meshed(&lab);
    assert_refused(&connect(
        &town.client,
        tunnel_of(&town.server),
        None,
        &authority_of(&town.server),
    ));
    town.assert_works();
}

#[test]
fn a_peer_of_another_authority_is_refused() {
    let lab = lab("ref_ca");
    let town = Town::meshed(&lab);
    let leaf = Authority::stranger().leaf(&[&town.client.identity()]);
    assert_refused(&connect(
        &town.client,
        tunnel_of(&town.server),
        Some(leaf),
        &authority_of(&town.server),
    ));
    town.assert_works();
}

#[test]
fn a_peer_of_another_trust_domain_is_refused() {
    let lab = lab("ref_td");
    let town = Town::meshed(&lab);
    let leaf = Authority::of(&lab).leaf(&["spiffe://elsewhere.example/ns/town/sa/client"]);
    assert_refused(&connect(
        &town.client,
        tunnel_of(&town.server),
        Some(leaf),
        &authority_of(&town.server),
    ));
    town.assert_works();
}

#[test]
fn a_peer_without_exactly_one_identity_is_refused() {
    let lab = lab("ref_uri");
    let town = Town::meshed(&lab);
    let authority = Authority::of(&lab);
    let two = [town.client.identity(), town.server.identity()];
    let two: Vec<&str> = two.iter().map(String::as_str).collect();
    for uris in [
        &[][..],
        &["https://cluster.local/ns/town/sa/client"],
        &["spiffe://cluster.local/client"],
        &two,
    ] {
        let leaf = authority.leaf(uris);
        let answer = connect(
            &town.client,
            tunnel_of(&town.server),
            Some(leaf),
            &authority_of(&town.server),
        );
        assert!(matches!(answer, Answer::Refused(_)), "{uris:?}: {answer:?}");
    }
    town.assert_works();
}

#[test]
fn an_expired_and_a_future_certificate_are_refused() {
    let lab = lab("ref_time");
    let town = Town::meshed(&lab);
    let authority = Authority::of(&lab);
    let now = OffsetDateTime::now_utc();
    let identity = town.client.identity();
    for (from, to) in [
        (now - 2 * Duration::HOUR, now - Duration::HOUR),
        (now + Duration::HOUR, now + 2 * Duration::HOUR),
    ] {
        let leaf = authority.leaf_between(&[&identity], from, to);
        assert_refused(&connect(
            &town.client,
            tunnel_of(&town.server),
            Some(leaf),
            &authority_of(&town.server),
        ));
    }
    town.assert_works();
}

#[test]
fn a_request_for_another_pod_is_refused() {
    let lab = lab("ref_auth");
    let town = Town::meshed(&lab);
    let authority = Authority::of(&lab);
    // Another pod, another node, the proxy's own ports, this pod's loopback, and no address at all.
    let targets = [
        authority_of(&town.neighbour),
        format!("{}:{PORT}", lab.node(2).ip4()),
        format!("{}:15008", town.server.ip4()),
        "127.0.0.1:8080".to_owned(),
        "[::1]:8080".to_owned(),
        "localhost:8080".to_owned(),
        format!("{}:0", town.server.ip4()),
    ];
    for target in targets {
        let leaf = authority.leaf(&[&town.client.identity()]);
        let answer = connect(&town.client, tunnel_of(&town.server), Some(leaf), &target);
        assert!(
            !matches!(answer, Answer::Status(200)),
            "CONNECT {target} was answered: {answer:?}"
        );
    }
    town.assert_works();
}

#[test]
fn a_server_with_the_wrong_identity_gets_no_byte() {
    wrong_server("ref_srv_id", |lab| {
        Authority::of(lab).leaf(&["spiffe://cluster.local/ns/town/sa/somebody-else"])
    });
}

#[test]
fn a_server_of_another_authority_gets_no_byte() {
    wrong_server("ref_srv_ca", |_| {
        Authority::stranger().leaf(&["spiffe://cluster.local/ns/town/sa/impostor"])
    });
}

#[test]
fn a_server_of_another_trust_domain_gets_no_byte() {
    wrong_server("ref_srv_td", |lab| {
        Authority::of(lab).leaf(&["spiffe://elsewhere.example/ns/town/sa/impostor"])
    });
}

/// A pod that the mesh believes to be enrolled is served by an impostor: the agent of its node has gone, and the address
/// belongs to whoever listens there.
fn wrong_server(name: &str, leaf: impl FnOnce(&culvert_lab::Lab) -> culvert_tests::authority::Leaf) {
    let lab = lab(name);
    let mut town = Town::meshed(&lab);
    town.mesh.agent(2).unwrap().kill().unwrap();
    let pod = lab
        .pod(PodSpec::new("town", "impostor").on(2).service_account("impostor"))
        .unwrap();
    let listener = pod.listen((pod.ip4(), HBONE)).unwrap();
    let impostor = Impostor::serve(listener, leaf(&lab));
    let _application = probe::serve(&pod, PORT);

    let what = "the proxy has tried the impostor";
    culvert_lab::wait_until(what, PATIENCE, || {
        // Until the controller has seen the new pod, it may pass as a destination outside the mesh.
        let answer = probe::dial(&town.client, (pod.ip4(), PORT), &["--timeout", "30"]);
        impostor.connections() > 0 && answer.is_err()
    })
    .unwrap();
    assert_eq!(impostor.requests(), 0, "a request was entrusted to an impostor");
}

#[test]
fn a_good_server_in_the_same_place_is_accepted() {
    // Shows that the impostors above were refused for what they are.
    let lab = lab("ref_srv_ok");
    let mut town = Town::meshed(&lab);
    town.mesh.agent(2).unwrap().kill().unwrap();
    let pod = lab
        .pod(PodSpec::new("town", "honest").on(2).service_account("honest"))
        .unwrap();
    let listener = pod.listen((pod.ip4(), HBONE)).unwrap();
    let honest = Impostor::serve(listener, Authority::of(&lab).leaf(&[&pod.identity()]));
    culvert_lab::wait_until("the honest server is asked", PATIENCE, || {
        let _answer = probe::dial(&town.client, (pod.ip4(), PORT), &["--timeout", "30"]);
        honest.requests() > 0
    })
    .unwrap();
}
