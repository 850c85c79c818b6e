//! The plug-in as container runtimes run it: a process with an environment and standard input, against a socket.

#![allow(
    clippy::expect_used,
    reason = "tests and what they stand on; clippy takes only functions marked #[test] for tests"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Output, Stdio},
    thread::{self, JoinHandle},
};

use culvert_cni::{
    state::State,
    wire::{self, Answer, Failure, Request},
};
use serde_json::Value;

const PREVIOUS: &str = r#"{ "cniVersion":"1.0.0", "interfaces":[{"name":"eth0","sandbox":"/var/run/netns/cni-1"}],
  "ips":[{"interface":0,"address":"198.19.1.7/24"}], "routes":[{"dst":"0.0.0.0/0"}], "x-unknown":1.50 }"#;

const ARGS: &str =
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1";

/// Longer than any test.
const HOUR_MS: u64 = 3_600_000;

/// A folder with what a call may need.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// With an hour for the agent at each step: what a test does not want to wait for, it never ends by.
    fn config(&self, more: &str) -> String {
        self.config_with(HOUR_MS, HOUR_MS, more)
    }

    fn config_with(&self, heard_ms: u64, timeout_ms: u64, more: &str) -> String {
        let (socket, state) = (self.path("cni.sock"), self.path("state.json"));
        format!(
            r#"{{"cniVersion":"1.0.0","name":"n","type":"culvert-cni","agentSocket":{socket:?},"stateFile":{state:?},
            "heardMs":{heard_ms},"timeoutMs":{timeout_ms}{more}}}"#
        )
    }

    fn add(&self, args: &str) -> Output {
        self.add_with(HOUR_MS, HOUR_MS, args)
    }

    /// With these times for the agent: to say that it has heard, and to answer.
    fn add_with(&self, heard_ms: u64, timeout_ms: u64, args: &str) -> Output {
        let previous = format!(r#","prevResult":{PREVIOUS}"#);
        call("ADD", args, &self.config_with(heard_ms, timeout_ms, &previous))
    }

    /// Writes the state file.
    fn enrolled(&self, namespaces: &[&str]) {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        std::fs::write(self.path("state.json"), State { namespaces }.json()).expect("write");
    }

    /// An agent that gives these answers to one caller, and returns what it was asked.
    fn agent(&self, answers: Vec<Answer>) -> JoinHandle<Request> {
        let listener = self.listen();
        thread::spawn(move || {
            let (request, mut stream) = hear(&listener);
            for answer in answers {
                // A caller that says goodbye does not wait for long.
                let _ = stream.write_all(answer.line().as_bytes());
            }
            // Until the caller has gone.
            drop(stream.read_to_end(&mut Vec::new()));
            request
        })
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.path("cni.sock")).expect("listen")
    }
}

fn hear(listener: &UnixListener) -> (Request, UnixStream) {
    let (stream, _) = listener.accept().expect("accept");
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).expect("request");
    (Request::parse(line.as_bytes()).expect("a request"), stream)
}

fn call(command: &str, args: &str, config: &str) -> Output {
    call_with(
        &[
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/var/run/netns/cni-1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", args),
        ],
        config,
    )
}

fn call_with(environment: &[(&str, &str)], config: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_culvert-cni"))
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    // It may end without reading all.
    let _ = child.stdin.take().expect("standard input").write_all(config.as_bytes());
    let output = child.wait_with_output().expect("output");
    assert!(output.stderr.is_empty(), "only the error object speaks: {output:?}");
    output
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

/// The error object's code and message.
fn error(output: &Output) -> (u64, String) {
    assert!(!output.status.success(), "{output:?}");
    let object: Value = serde_json::from_slice(&output.stdout).expect("an error object");
    assert!(object["cniVersion"].is_string(), "{object}");
    (
        object["code"].as_u64().expect("code"),
        object["msg"].as_str().expect("msg").to_owned(),
    )
}

fn assert_passed(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(output), PREVIOUS, "the previous result goes through to the byte");
}

/// Report of a user of another mesh: removed while a node was away, and nobody ever tells that node.
#[test]
fn a_node_that_the_mesh_has_left_behind_keeps_no_pod_waiting_for_ever() {
    let node = Node::new();
    node.enrolled(&["shop"]);
    let logs = node.path("pods");
    std::fs::create_dir(&logs).expect("folder");
    let more = format!(r#","podLogs":{logs:?},"prevResult":{PREVIOUS}"#);
    let add = || call("ADD", ARGS, &node.config(&more));
    let since = |seconds: u64| std::fs::write(node.path("unattended"), seconds.to_string()).expect("write");

    let (code, message) = error(&add());
    assert!(code == 11 && message.contains("no pod of it for 0 s"), "{message}");
    // The node has been up for longer than this test could wait.
    let uptime = std::fs::read_to_string("/proc/uptime").expect("uptime");
    let uptime: u64 = uptime.split('.').next().expect("seconds").parse().expect("a number");
    assert!(uptime > 300, "this machine has just been started");
    since(uptime - 300);
    assert_passed(&add());

    // An agent that only fails, or is about to come, has a pod here: that is waited for.
    std::fs::create_dir(logs.join("culvert-system_culvert-node-abcde_u-2")).expect("folder");
    assert_eq!(error(&add()).0, 11);
    std::fs::remove_dir(logs.join("culvert-system_culvert-node-abcde_u-2")).expect("remove");
    assert_eq!(error(&add()).0, 11, "and the time begins anew");
}

#[test]
fn a_pod_starts_when_the_agent_says_so() {
    let node = Node::new();
    let agent = node.agent(vec![Answer::Heard, Answer::Ok]);
    assert_passed(&node.add(ARGS));
    let asked = agent.join().expect("agent");
    assert_eq!((asked.namespace.as_str(), asked.name.as_str()), ("shop", "a"));
    assert_eq!((asked.uid.as_deref(), asked.container_id.as_str()), (Some("u-1"), "c1"));
    assert_eq!(asked.netns.as_deref(), Some(Path::new("/var/run/netns/cni-1")));
    assert_eq!(
        asked.addresses,
        ["198.19.1.7".parse::<std::net::IpAddr>().expect("address")]
    );
}

#[test]
fn what_the_agent_refuses_is_what_the_kubelet_reads() {
    let node = Node::new();
    let agent = node.agent(vec![
        Answer::Heard,
        Answer::error(Failure::Late, "pod shop/a: why, and what helps"),
    ]);
    let (code, message) = error(&node.add(ARGS));
    assert_eq!((code, message.as_str()), (103, "pod shop/a: why, and what helps"));
    agent.join().expect("agent");
}

#[test]
fn without_an_agent_pods_of_enrolled_namespaces_wait_and_others_start() {
    let node = Node::new();
    assert_passed(&node.add(ARGS)); // No state file: no agent has ever run here.
    node.enrolled(&["shop", "bank"]);
    let (code, message) = error(&node.add(ARGS));
    assert_eq!(code, 11, "the kubelet tries again");
    for part in ["shop/a", "does not run", "namespace shop is enrolled", "culvert-node"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_passed(&node.add(&ARGS.replace("=shop", "=other")));

    // A socket that nobody listens at any more, as a killed agent leaves it.
    drop(node.listen());
    assert_eq!(error(&node.add(ARGS)).0, 11);
    assert_passed(&node.add(&ARGS.replace("=shop", "=other")));
}

#[test]
fn an_agent_that_hangs_holds_only_enrolled_namespaces_back() {
    let node = Node::new();
    node.enrolled(&["shop"]);
    let _hangs = node.listen();
    // It is not waited for as for one that has heard: that would take an hour.
    let (code, message) = error(&node.add_with(50, HOUR_MS, ARGS));
    assert_eq!(code, 11);
    assert!(message.contains("does not answer in time"), "{message}");
    assert_passed(&node.add_with(50, HOUR_MS, &ARGS.replace("=shop", "=other")));
}

#[test]
fn an_agent_that_has_heard_and_never_answers_is_no_permission() {
    let node = Node::new();
    node.enrolled(&["shop"]);
    let agent = node.agent(vec![Answer::Heard]);
    let (code, message) = error(&node.add_with(HOUR_MS, 200, ARGS));
    assert!(
        code == 11 && message.contains("does not answer in time"),
        "{code} {message}"
    );
    agent.join().expect("agent");
}

#[test]
fn a_successor_answers_for_an_agent_that_ends() {
    let node = Node::new();
    node.enrolled(&["shop"]);
    let listener = node.listen();
    let agents = thread::spawn(move || {
        let (_, first) = hear(&listener);
        drop(first);
        let (_, mut second) = hear(&listener);
        second
            .write_all((Answer::Heard.line() + &Answer::Ok.line()).as_bytes())
            .expect("answer");
    });
    assert_passed(&node.add(ARGS));
    agents.join().expect("agents");
}

#[test]
fn answers_that_make_no_sense_are_no_permission() {
    for nonsense in [
        "{}\n".to_owned(),
        "\n".to_owned(),
        Answer::Unsupported.line(),
        "x".repeat(70_000),
    ] {
        let node = Node::new();
        node.enrolled(&["shop"]);
        let listener = node.listen();
        let said = nonsense.clone();
        let agent = thread::spawn(move || {
            let (_, mut stream) = hear(&listener);
            // The caller stops listening when it has had enough.
            let _ = stream.write_all(said.as_bytes());
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!(error(&node.add(ARGS)).0, 11, "{:.20}", nonsense);
        agent.join().expect("agent");
    }
}

#[test]
fn a_damaged_state_file_holds_pods_back_rather_than_letting_them_out_in_clear() {
    let node = Node::new();
    std::fs::write(node.path("state.json"), "{\"version\":1,\"names").expect("write");
    let (code, message) = error(&node.add(ARGS));
    assert_eq!(code, 11);
    assert!(
        message.contains("cannot be told") && message.contains("state.json"),
        "{message}"
    );
}

#[test]
fn the_meshs_own_pods_and_strangers_ask_nobody() {
    let node = Node::new();
    node.enrolled(&["shop", "culvert-system"]);
    let listener = node.listen();
    listener.set_nonblocking(true).expect("nonblocking");
    assert_passed(&node.add(&ARGS.replace("=shop", "=culvert-system")));
    assert_passed(&node.add(""));
    assert_passed(&node.add("IgnoreUnknown=1;FOO=bar"));
    assert!(listener.accept().is_err(), "nobody has connected");
}

#[test]
fn everything_but_add_succeeds_without_an_agent() {
    let node = Node::new();
    node.enrolled(&["shop"]);
    for command in ["DEL", "CHECK", "GC", "STATUS"] {
        let output = call(command, ARGS, &node.config(""));
        assert!(
            output.status.success() && output.stdout.is_empty(),
            "{command}: {output:?}"
        );
    }
    for damaged in ["{", ""] {
        assert!(
            call("DEL", ARGS, damaged).status.success(),
            "what is damaged can be taken away"
        );
    }
    // However long an ADD would wait for it.
    let _hangs = node.listen();
    assert!(call("DEL", ARGS, &node.config("")).status.success());
}

#[test]
fn the_agent_hears_of_a_pods_end() {
    let node = Node::new();
    let agent = node.agent(vec![Answer::Heard, Answer::Ok]);
    assert!(call("DEL", ARGS, &node.config("")).status.success());
    assert_eq!(agent.join().expect("agent").command, wire::Command::Del);
}

#[test]
fn versions_are_told() {
    for input in [r#"{"cniVersion":"0.4.0"}"#, "", "{}"] {
        let output = call_with(&[("CNI_COMMAND", "VERSION")], input);
        let object: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let supported = object["supportedVersions"].as_array().expect("supportedVersions");
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            assert!(supported.contains(&version.into()), "{version}: {object}");
        }
        assert!(object["cniVersion"].is_string());
    }
}

#[test]
fn calls_that_make_no_sense_get_the_specifications_codes() {
    let node = Node::new();
    let previous = format!(r#","prevResult":{PREVIOUS}"#);
    for (config, code, part) in [
        ("{".to_owned(), 6, "standard input"),
        ("[]".to_owned(), 7, "no object"),
        (node.config(""), 7, "prevResult"),
        (node.config(r#","prevResult":null"#), 7, "prevResult"),
        (node.config(&previous).replacen("1.0.0", "9.0.0", 1), 1, "9.0.0"),
        ("x".repeat(2 << 20), 6, "longer"),
    ] {
        let (found, message) = error(&call("ADD", ARGS, &config));
        assert_eq!(found, code, "{message}");
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(error(&call("FLY", ARGS, &node.config(&previous))).0, 4);
    let (code, message) = error(&call_with(&[("CNI_COMMAND", "ADD")], &node.config(&previous)));
    assert!(code == 4 && message.contains("CNI_"), "{code} {message}");
}

#[test]
fn what_nothing_uses_is_an_error() {
    let call = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_culvert-cni"))
            .args(arguments)
            .output()
            .expect("run");
        output.status.code()
    };
    assert_eq!(call(&["--version"]), Some(0));
    assert_eq!(call(&["--state-dir"]), Some(2));
    assert_eq!(call(&["--version", "--state-dir"]), Some(2));
}
