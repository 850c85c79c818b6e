//! Waypoints that are killed, and taken away and given back while connections are open; endpoints that go while requests come.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    io::{BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use culvert_lab::{Pod, PodSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, app,
    app::Seen,
    http::{Head, ask, read_head},
    lab,
    scene::{Scene, service},
    town::PORT,
    waypoint::{Kind, Waypoint},
};
use serde_json::json;

/// How long an answer may take.
const ATTEMPT: Duration = Duration::from_secs(5);

fn request(key: &str) -> Vec<String> {
    vec![
        "GET / HTTP/1.1".to_owned(),
        "host: web.town".to_owned(),
        format!("x-key: {key}"),
    ]
}

fn get(from: &Pod, to: SocketAddr) -> std::io::Result<Head> {
    ask(from, to, &request("any"), ATTEMPT).map(|(head, _)| head)
}

/// Whether `times` requests in a row are answered by applications.
fn all_answered(from: &Pod, to: SocketAddr, times: usize) -> bool {
    (0..times).all(|_| get(from, to).is_ok_and(|head| head.status() == Some(200) && head.get("x-app").is_some()))
}

fn a_killed_waypoint_is_replaced_under_load(kind: Kind) {
    let lab = lab(&format!("wp_killed_{}", kind.word()));
    let mut scene = Scene::set(&lab, kind);
    let (client, web) = (scene.town.client.clone(), scene.web);
    wait_until("requests to be answered", PATIENCE, || all_answered(&client, web, 20)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut answers: Vec<Head> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // What is cut is a failure that the client sees; what is answered must be right.
                answers.extend(get(&client, web));
            }
            answers
        });
        scene.waypoint.process.kill().unwrap();
        let refused = wait_until("requests to be refused", PATIENCE, || get(&client, web).is_err());
        let process = scene.waypoint.place.run(&scene.town.mesh, kind);
        let open = scene.waypoint.place.0.wait_open(&process, PATIENCE);
        let again = wait_until("requests to be answered again", PATIENCE, || {
            all_answered(&client, web, 50)
        });
        stop.store(true, Ordering::Relaxed);
        let answers = load.join().unwrap();
        refused.and(open).and(again).unwrap();
        let wrong: Vec<&Head> = answers.iter().filter(|head| head.get("x-app") != Some("web")).collect();
        assert!(!answers.is_empty() && wrong.is_empty(), "{wrong:?}");
    });
}

#[test]
fn culvert_is_replaced_under_load_when_it_is_killed_and_no_answer_is_a_wrong_one() {
    a_killed_waypoint_is_replaced_under_load(Kind::Culvert);
}

#[test]
fn envoy_is_replaced_under_load_when_it_is_killed_and_no_answer_is_a_wrong_one() {
    a_killed_waypoint_is_replaced_under_load(Kind::Envoy);
}

/// A connection that stays open.
struct Open(TcpStream, BufReader<TcpStream>);

impl Open {
    fn new(from: &Pod, to: SocketAddr) -> std::io::Result<Self> {
        let stream = from.connect(to, ATTEMPT)?;
        stream.set_read_timeout(Some(ATTEMPT))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self(stream, reader))
    }

    /// Whether a request over it is answered.
    fn answers(&mut self) -> bool {
        let sent = write!(self.0, "{}\r\n\r\n", request("open").join("\r\n"));
        let head = sent.and_then(|()| read_head(&mut self.1));
        let Ok(Some(head)) = head else { return false };
        let length = head
            .get("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let read = std::io::Read::read_exact(&mut self.1, &mut vec![0; length]);
        read.is_ok() && head.status() == Some(200)
    }
}

fn a_waypoint_comes_and_goes_twice(kind: Kind) {
    let lab = lab(&format!("wp_toggled_{}", kind.word()));
    let town = Town::meshed(&lab);
    let seen = Seen::default();
    app::serve(&town.server, PORT + 3, "web", &seen);
    let web = lab.service(service("web", "server", PORT + 3, "http")).unwrap();
    let web = SocketAddr::from((web.ip4(), 80));
    lab.apply(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "mark", "namespace": "town" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
            "rules": [{
                "filters": [{ "type": "ResponseHeaderModifier", "responseHeaderModifier": { "set": [{ "name": "x-route", "value": "1" }] } }],
                "backendRefs": [{ "name": "web", "port": 80 }],
            }],
        },
    }))
    .unwrap();
    let waypoint = Waypoint::start(&lab, &town.mesh, "town", "wp", kind);
    let is_through = |through: bool| {
        let fits = |head: Head| head.status() == Some(200) && head.get("x-route").is_some() == through;
        (0..10).all(|_| get(&town.client, web).is_ok_and(fits))
    };
    let wait = |what: &str, condition: &mut dyn FnMut() -> bool| {
        wait_until(what, PATIENCE, condition)
            .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", waypoint.process.log_tail(30), lab.logs(20)));
    };
    wait("requests to go without a waypoint", &mut || is_through(false));
    for _ in 0..2 {
        let mut around = Open::new(&town.client, web).unwrap();
        assert!(around.answers());
        lab.label_with("town", "culvert.dev/use-waypoint", Some("wp")).unwrap();
        wait("requests to go through the waypoint", &mut || is_through(true));
        wait("the connection around it to end", &mut || !around.answers());
        let mut through = Open::new(&town.client, web).unwrap();
        assert!(through.answers());
        lab.label_with("town", "culvert.dev/use-waypoint", None).unwrap();
        wait("requests to go without a waypoint again", &mut || is_through(false));
        drop(through);
    }
}

#[test]
fn culvert_comes_and_goes_twice_is_used_at_once_and_nobody_gets_around_it() {
    a_waypoint_comes_and_goes_twice(Kind::Culvert);
}

#[test]
fn envoy_comes_and_goes_twice_is_used_at_once_and_nobody_gets_around_it() {
    a_waypoint_comes_and_goes_twice(Kind::Envoy);
}

fn endpoints_are_replaced_behind_a_waypoint(kind: Kind) {
    let lab = lab(&format!("wp_rolling_{}", kind.word()));
    let scene = Scene::set(&lab, kind);
    let (client, web) = (&scene.town.client, scene.web);
    wait_until("requests to be answered", PATIENCE, || all_answered(client, web, 20)).unwrap();
    let spec = PodSpec::new("town", "server-b")
        .on(1)
        .service_account("server")
        .label("app", "server");
    let next = lab.pod(spec).unwrap();
    app::serve(&next, PORT + 3, "next", &scene.seen);
    scene.town.mesh.wait_enrolled(&[&next], true, PATIENCE).unwrap();
    let mut failed = Vec::new();
    let mut in_a_row = 0;
    let mut removed = false;
    let waited = wait_until("the new endpoint to have all requests", PATIENCE, || {
        for _ in 0..10 {
            match get(client, web) {
                Ok(head) if head.status() == Some(200) => {
                    let is_next = head.get("x-app") == Some("next");
                    if is_next && !removed {
                        lab.delete("Pod", "town", "server").unwrap();
                        removed = true;
                    }
                    in_a_row = if is_next { in_a_row + 1 } else { 0 };
                }
                other => failed.push(format!("{other:?}")),
            }
        }
        removed && in_a_row >= 100
    });
    waited.unwrap_or_else(|error| panic!("{}\n{error:#}", scene.last_words()));
    assert!(failed.is_empty(), "{failed:?}\n{}", scene.last_words());
}

#[test]
fn culvert_fails_no_request_while_endpoints_are_replaced_behind_it() {
    endpoints_are_replaced_behind_a_waypoint(Kind::Culvert);
}

#[test]
fn envoy_fails_no_request_while_endpoints_are_replaced_behind_it() {
    endpoints_are_replaced_behind_a_waypoint(Kind::Envoy);
}
