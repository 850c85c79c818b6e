//! `culvert.dev/same-node: kernel`: connections between two pods of one node go past the proxy, where it lets them, and no others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod services;
mod support;
mod telemetry;

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
};

use culvert_lab::{MeshOptions, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab, probe, town::PORT};
use serde_json::Value;

use support::{
    ATTEMPT, ECHO, OPENED, annotate, goes_past, neighbour, only, open_past, past, series, strict, total, town,
    wait_for, wait_for_end,
};

#[test]
fn the_second_connection_of_an_allowed_pair_goes_past_the_proxy_and_both_ends_see_the_truth() {
    let lab = lab("sn_past");
    let town = town(&lab);
    for to in town.neighbour.addresses() {
        let to = SocketAddr::new(to, PORT);
        let client = town
            .client
            .addresses()
            .into_iter()
            .find(|own| own.is_ipv4() == to.is_ipv4());
        wait_until("a connection goes past the proxy", PATIENCE, || {
            let before = past(&town);
            let found = probe::dial(&town.client, to, &[]).unwrap();
            assert_eq!(probe::address(&found, "client", "getpeername"), to);
            assert_eq!(Some(probe::address(&found, "server", "accept").ip()), client);
            assert_eq!(probe::address(&found, "server", "getsockname"), to);
            past(&town) > before
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    }
    // From then on, the proxy does not notice.
    let to = neighbour(&town);
    wait_for(&town, &town.client, to, (true, true));
    let opened = || {
        let words = [OPENED, "connection_security_policy=\"mutual_tls\""];
        total(&town, 15020, &words)
    };
    let before = opened();
    for _ in 0..20 {
        assert_eq!(goes_past(&town, &town.client, to), (true, true));
    }
    assert!((opened() - before).abs() < 0.5, "the proxy has carried some");
    // To the other node nothing has changed.
    town.in_the_tunnel(|| probe::dial(&town.client, (town.server.ip4(), PORT), &[]))
        .unwrap();
    assert_eq!(
        goes_past(&town, &town.neighbour, neighbour(&town)),
        (true, false),
        "to itself"
    );
}

#[test]
fn a_policy_that_begins_to_deny_closes_what_is_open_and_lets_nothing_in_and_strict_pods_are_served() {
    let lab = lab("sn_deny");
    let town = town(&lab);
    strict(&lab);
    let to = neighbour(&town);
    let mut open = open_past(&town, &town.client, to);
    echo::round_trip(&mut open).unwrap();
    lab.apply(&only("somebody-else")).unwrap();
    wait_for_end(open);
    for _ in 0..5 {
        assert_eq!(goes_past(&town, &town.client, to), (false, false), "denied");
    }
    lab.delete("AuthorizationPolicy", "town", "only").unwrap();
    wait_for(&town, &town.client, to, (true, true));
    // A policy that allows it changes nothing.
    let mut open = open_past(&town, &town.client, to);
    lab.apply(&only("client")).unwrap();
    wait_for(&town, &town.client, to, (true, true));
    echo::round_trip(&mut open).unwrap();
}

#[test]
fn who_has_no_entry_goes_by_the_proxy_and_a_stranger_is_refused() {
    let lab = lab("sn_others");
    let town = town(&lab);
    lab.apply(&only("client")).unwrap();
    lab.namespace("outside").unwrap();
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let other = lab
        .pod(PodSpec::new("town", "other").on(1).service_account("other"))
        .unwrap();
    town.mesh.wait_enrolled(&[&other], true, PATIENCE).unwrap();
    let to = neighbour(&town);
    wait_for(&town, &other, to, (false, false));
    let _open = open_past(&town, &town.client, to);
    for _ in 0..5 {
        assert_eq!(goes_past(&town, &other, to), (false, false));
        assert_eq!(goes_past(&town, &stranger, to), (false, false));
    }
    wait_for(&town, &town.client, to, (true, true));
}

#[test]
fn without_the_annotation_nothing_goes_past_the_proxy_and_what_did_is_closed() {
    let lab = lab("sn_ask");
    let town = Town::meshed(&lab);
    echo::serve(&town.neighbour, ECHO);
    let to = neighbour(&town);
    for _ in 0..5 {
        assert_eq!(goes_past(&town, &town.client, to), (true, false));
    }
    annotate(&lab, Some("kernel"));
    let open = open_past(&town, &town.client, to);
    annotate(&lab, None);
    wait_for_end(open);
    assert_eq!(goes_past(&town, &town.client, to), (true, false));
    annotate(&lab, Some("direct"));
    wait_until("a mistake is shown", PATIENCE, || {
        town.mesh
            .get(1, 15022, "/pods")
            .unwrap()
            .body
            .contains("neither \\\"kernel\\\" nor \\\"proxy\\\"")
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
    assert_eq!(goes_past(&town, &town.client, to), (true, false));
}

#[test]
fn without_the_proxy_nothing_goes_past_it() {
    let lab = lab("sn_gone");
    let mut town = town(&lab);
    let to = neighbour(&town);
    let open = open_past(&town, &town.client, to);
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    wait_for_end(open);
    let mut waiting = town.client.connect(to, PATIENCE).unwrap();
    let before = past(&town);
    town.mesh.start_ztunnel(1).unwrap();
    town.mesh.wait_for_ztunnel(1).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.write_all(&[7]).unwrap();
    waiting.read_exact(&mut [0]).unwrap();
    assert!((past(&town) - before).abs() < 0.5, "what waits for a proxy gets one");
    wait_for(&town, &town.client, to, (true, true));
}

#[test]
fn a_pair_that_nobody_uses_goes_through_the_proxy_again_and_one_with_an_open_connection_stays() {
    let lab = lab("sn_age");
    let options = MeshOptions {
        agent_args: vec!["--same-node-idle".to_owned(), "2s".to_owned()],
        ..MeshOptions::default()
    };
    let town = Town::with(&lab, options);
    annotate(&lab, Some("kernel"));
    echo::serve(&town.neighbour, ECHO);
    let to = neighbour(&town);
    let unused = || total(&town, 15022, &["culvert_agent_same_node_pairs_unused_total"]);
    let pairs = || town.mesh.get(1, 15022, "/pods").unwrap().body;
    let mut open = open_past(&town, &town.client, to);
    // Of another port, to see that time has passed.
    let other = SocketAddr::from((town.neighbour.ip4(), PORT));
    for expected in 1..=2 {
        wait_until("another pair goes past the proxy", PATIENCE, || {
            let before = past(&town);
            probe::dial(&town.client, other, &[]).unwrap();
            past(&town) > before
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
        wait_until("nobody uses it", PATIENCE, || unused() > f64::from(expected) - 0.5)
            .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", pairs(), lab.logs(40)));
    }
    echo::round_trip(&mut open).unwrap();
    drop(open);
    wait_until("nobody uses it", PATIENCE, || unused() > 2.5).unwrap();
    wait_until("there are none", PATIENCE, || {
        serde_json::from_str::<Value>(&pairs()).unwrap()["same_node"]["pairs"] == 0
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", pairs(), lab.logs(40)));
}

#[test]
fn without_the_agent_nothing_new_goes_past_the_proxy_and_the_next_agent_closes_what_is_denied() {
    let lab = lab("sn_agent");
    let mut town = town(&lab);
    let to = neighbour(&town);
    let mut kept = open_past(&town, &town.client, to);
    // The next agent leaves alone what the proxy vouches for.
    town.mesh.restart_agent(1).unwrap();
    wait_for(&town, &town.client, to, (true, true));
    echo::round_trip(&mut kept).unwrap();

    town.mesh.agent(1).unwrap().kill().unwrap();
    let opened = || {
        let words = [
            OPENED,
            "reporter=\"source\"",
            "connection_security_policy=\"mutual_tls\"",
        ];
        total(&town, 15020, &words)
    };
    wait_until("connections go by the proxy", PATIENCE, || {
        let before = opened();
        echo::connect(&town.client, to, ATTEMPT).is_ok() && opened() > before + 0.5
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    lab.apply(&only("somebody-else")).unwrap();
    wait_until("it is denied", PATIENCE, || {
        echo::connect(&town.client, to, ATTEMPT).is_err()
    })
    .unwrap();
    town.mesh.start_agent(1).unwrap();
    town.mesh.wait_for_agent(1).unwrap();
    wait_for_end(kept);
    assert_eq!(goes_past(&town, &town.client, to), (false, false));
}

#[test]
fn a_worker_that_dies_takes_along_what_it_vouched_for_and_the_next_decides_anew() {
    let lab = lab("sn_worker");
    let mut town = town(&lab);
    let to = neighbour(&town);
    let open = open_past(&town, &town.client, to);
    town.mesh.kill_worker(1).unwrap();
    wait_for_end(open);
    wait_for(&town, &town.client, to, (true, true));
}

#[test]
fn a_client_whose_resets_do_not_get_out_gains_nothing_by_that() {
    let lab = lab("sn_deaf");
    let town = town(&lab);
    let to = SocketAddr::from((town.neighbour.ip4(), ECHO + 1));
    let listener = town.neighbour.listen(to).unwrap();
    let dial = || {
        let before = past(&town);
        let client = town.client.connect(to, PATIENCE).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, server, past(&town) > before)
    };
    let mut found = None;
    wait_until("a connection goes past the proxy", PATIENCE, || {
        let (client, server, is_past) = dial();
        found = is_past.then_some((client, server));
        is_past
    })
    .unwrap();
    let (client, server) = found.unwrap();
    let route = format!("{}/32", town.neighbour.ip4());
    let blocked = town
        .client
        .run(|| {
            std::process::Command::new("ip")
                .args(["route", "add", "blackhole", &route])
                .status()
        })
        .unwrap();
    assert!(blocked.unwrap().success());
    lab.apply(&only("somebody-else")).unwrap();
    for stream in [server, client] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        wait_for_end(stream);
    }
}

#[test]
fn a_pod_that_goes_takes_along_what_is_open_to_it() {
    let lab = lab("sn_pod");
    let town = town(&lab);
    let visitor = lab.pod(PodSpec::new("town", "visitor").on(1)).unwrap();
    town.mesh.wait_enrolled(&[&visitor], true, PATIENCE).unwrap();
    let to = echo::serve(&visitor, ECHO);
    let open = open_past(&town, &town.client, to);
    assert_eq!(series(&town, "town/visitor"), 4);
    lab.remove_pod(&visitor).unwrap();
    wait_for_end(open);
    wait_until("its series are gone", PATIENCE, || series(&town, "town/visitor") == 0).unwrap();
    // Of others, nothing has changed.
    wait_for(&town, &town.client, neighbour(&town), (true, true));
}
