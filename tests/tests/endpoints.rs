//! Which endpoint is chosen, what is done about one that fails, and what of that applications notice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{PodSpec, ServiceSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab};
use std::{
    io::{ErrorKind, Read as _},
    net::SocketAddr,
};

const ECHO: u16 = 9000;

#[test]
fn an_endpoint_that_refuses_costs_no_connection_while_there_is_another() {
    let lab = lab("ep_refuse");
    let town = Town::meshed(&lab);
    let backend = |name: &str| {
        let spec = PodSpec::new("town", name)
            .on(2)
            .service_account(name)
            .label("app", "back");
        lab.pod(spec).unwrap()
    };
    // Ready as far as Kubernetes knows; nothing listens in the second.
    let (works, fails) = (backend("b1"), backend("b2"));
    echo::serve(&works, ECHO);
    town.mesh.wait_enrolled(&[&works, &fails], true, PATIENCE).unwrap();
    let service = lab
        .service(ServiceSpec::new("town", "back").port(ECHO).selector("app", "back"))
        .unwrap();
    let to = SocketAddr::from((service.ip4(), ECHO));
    let mut held = None;
    wait_until("the service is known", PATIENCE, || {
        held = echo::connect(&town.client, to, PATIENCE).ok();
        held.is_some()
    })
    .unwrap();
    // With one connection open to the endpoint that works, the other one has fewer.
    let failed = (0..100)
        .filter(|_| echo::connect(&town.client, to, PATIENCE).is_err())
        .count();
    assert_eq!(failed, 0, "of 100");
    echo::round_trip(&mut held.unwrap()).unwrap();
}

#[test]
fn a_refusal_is_passed_on_after_one_attempt() {
    let lab = lab("ep_once");
    let mut town = Town::meshed(&lab);
    let closed = SocketAddr::from((town.server.ip4(), 9));
    // A program that had no processor in between hears of both at once.
    let answer = town.client.connect(closed, PATIENCE).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0])
    });
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let tried = || {
        let log = town.mesh.ztunnel(2).unwrap().log();
        let line = |line: &&str| line.contains("connection failed") && line.contains(&closed.to_string());
        log.lines().filter(line).count()
    };
    assert_eq!(wait_for_some(tried), 1, "attempts at the far side");
}

/// The number, once it is not 0.
fn wait_for_some(mut count: impl FnMut() -> usize) -> usize {
    let mut found = 0;
    wait_until("there is one", PATIENCE, || {
        found = count();
        found > 0
    })
    .unwrap();
    found
}
