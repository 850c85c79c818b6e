//! Redis, as Debian packages it: many requests before the first answer, subscribers that wait, a request that is idle.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, Pod, Process};
use culvert_tests::{PATIENCE, Town, lab, programs, programs::Dialogue};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    process::Command,
};

const PORT: u16 = 6379;

/// Requests that are sent without waiting for an answer.
const PIPELINED: usize = 50_000;

const SUBSCRIBERS: usize = 100;

/// The server in the pod, which writes nothing to disk.
fn server(lab: &Lab, pod: &Pod) -> Process {
    let folder = programs::folder(lab, "redis");
    let mut server = programs::unprivileged("/usr/bin/redis-server", "redis-server");
    server
        .args(["--bind", "0.0.0.0", "::", "--protected-mode", "no"])
        .args(["--save", "", "--port", &PORT.to_string(), "--dir"])
        .arg(&folder);
    programs::serve(pod, "redis", &mut server, PORT)
}

fn redis_cli(server: &Pod) -> Command {
    let mut client = programs::command("/usr/bin/redis-cli", "redis-tools");
    client.args(["-h", &server.ip4().to_string(), "-p", &PORT.to_string()]);
    client
}

/// Subscribes, on a connection of its own, and has the server's word for it.
fn subscribe(town: &Town<'_>) -> BufReader<TcpStream> {
    let mut stream = town.client.connect((town.server.ip4(), PORT), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"SUBSCRIBE news\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(next(&mut reader, 6), ["*3", "$9", "subscribe", "$4", "news", ":1"]);
    reader
}

/// So many lines of what the server says.
fn next(reader: &mut BufReader<TcpStream>, lines: usize) -> Vec<String> {
    let line = |_| {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    (0..lines).map(line).collect()
}

#[test]
fn redis_answers_what_is_pipelined_and_whoever_waits_for_news_over_an_agents_restart() {
    let lab = lab("real_redis");
    let mut town = Town::meshed(&lab);
    let _server = server(&lab, &town.server);
    let (mut waiting, mut subscribers) = town.in_the_tunnel(|| {
        let requests: String = (0..PIPELINED)
            .map(|number| format!("SET key-{number} {number}\r\n"))
            .collect();
        let requests = programs::file(lab.dir(), "requests", requests.as_bytes());
        let mut pipe = Command::new("sh");
        pipe.args(["-c", "input=$1; shift; exec \"$@\" --pipe <\"$input\"", "sh"])
            .arg(&requests)
            .arg(redis_cli(&town.server).get_program())
            .args(redis_cli(&town.server).get_args());
        let said = programs::run_in(&town.client, &mut pipe);
        assert!(said.contains(&format!("errors: 0, replies: {PIPELINED}")), "{said}");
        let kept = programs::run_in(&town.client, redis_cli(&town.server).arg("DBSIZE"));
        assert_eq!(kept.trim(), PIPELINED.to_string());

        let mut waiting = Dialogue::start(&lab, &town.client, &redis_cli(&town.server));
        waiting.say("CLIENT SETNAME patient");
        waiting.wait_for("OK");
        waiting.say("BLPOP queue 0");
        (waiting, (0..SUBSCRIBERS).map(|_| subscribe(&town)).collect::<Vec<_>>())
    });
    for node in [1, 2] {
        town.mesh.restart_agent(node).unwrap();
    }
    town.in_the_tunnel(|| {
        let told = programs::run_in(
            &town.client,
            redis_cli(&town.server).args(["PUBLISH", "news", "all is well"]),
        );
        assert_eq!(
            told.trim(),
            SUBSCRIBERS.to_string(),
            "subscribers that the server knows"
        );
        for subscriber in &mut subscribers {
            let expected = ["*3", "$7", "message", "$4", "news", "$11", "all is well"];
            assert_eq!(next(subscriber, expected.len()), expected);
        }
        programs::run_in(&town.client, redis_cli(&town.server).args(["RPUSH", "queue", "work"]));
        waiting.wait_for("work");
        // Its name is known on the same connection alone.
        waiting.say("CLIENT GETNAME");
        waiting.wait_for("patient");
    });
}
