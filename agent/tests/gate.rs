//! The gate with the plug-in as a process: what container runtimes run, over a real socket, with a source that tests own.
//! Needs root, for learning a network namespace's cookie, and the program `culvert-cni` beside this one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests and what they stand on; clippy takes only functions marked #[test] for tests"
)]

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use culvert_agent::{
    enrolment::status::{PodState, PodStatus, ProxyStatus, Status},
    gate::{
        doorkeeper::{Doorkeeper, Gatekeeper},
        metrics::{Metrics, Outcome},
        server::Server,
    },
    source::{
        PodName,
        kubernetes::{Arrival, ArrivalError, Verdict},
    },
};
use culvert_net::Netns;
use culvert_proto::zds::Version;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};

const PREVIOUS: &str = r#"{"cniVersion":"1.0.0","ips":[{"address":"198.19.1.7/24"}]}"#;

/// The test's own network namespace stands for the pod's.
const NETNS: &str = "/proc/self/ns/net";

/// What the source says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Outside,
    Wanted,
    Unknown,
    ApiAway,
    Nothing,
}

#[derive(Debug)]
struct Fake {
    says: Says,
    arrived: Mutex<Vec<Arrival>>,
    left: Mutex<Vec<(String, Option<PathBuf>)>>,
}

#[derive(Clone)]
struct Source(Arc<Fake>);

impl Gatekeeper for Source {
    async fn arrive(&self, arrival: Arrival) -> Result<Verdict, ArrivalError> {
        let pod = format!("{}/{}", arrival.namespace, arrival.name);
        let uid = arrival.uid.clone();
        self.0.arrived.lock().unwrap().push(arrival);
        match self.0.says {
            Says::Outside => Ok(Verdict::Outside),
            Says::Wanted => Ok(Verdict::Wanted {
                uid: uid.as_str().into(),
            }),
            Says::Unknown => Err(ArrivalError::Unknown { pod, uid }),
            Says::ApiAway => Err(ArrivalError::Timeout { pod }),
            Says::Nothing => std::future::pending().await,
        }
    }

    fn leave(&self, uid: &str, netns: Option<&Path>) {
        let left = (uid.to_owned(), netns.map(Path::to_path_buf));
        self.0.left.lock().unwrap().push(left);
    }
}

/// A gate that listens.
struct Gate {
    folder: tempfile::TempDir,
    source: Arc<Fake>,
    status: watch::Sender<Arc<Status>>,
    metrics: Arc<Metrics>,
    serving: JoinHandle<()>,
    _enrolled: watch::Sender<BTreeSet<String>>,
}

impl Gate {
    fn open(says: Says) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let server = Server::bind(&folder.path().join("run/cni.sock")).expect("listen");
        let source = Arc::new(Fake {
            says,
            arrived: Mutex::default(),
            left: Mutex::default(),
        });
        let (status, shown) = watch::channel(Arc::default());
        let (enrolled, known) = watch::channel(BTreeSet::from(["shop".to_owned()]));
        let metrics = Arc::<Metrics>::default();
        let doorkeeper = Doorkeeper::new(Source(Arc::clone(&source)), shown, known, Arc::clone(&metrics))
            .patience(Duration::from_millis(1500));
        let serving = tokio::spawn(server.run(Arc::new(doorkeeper)));
        Self {
            folder,
            source,
            status,
            metrics,
            serving,
            _enrolled: enrolled,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/cni.sock")
    }

    fn start(&self, command: &str, namespace: &str) -> Child {
        start(
            &self.socket(),
            &self.folder.path().join("state.json"),
            command,
            namespace,
        )
    }

    async fn call(&self, command: &str, namespace: &str) -> Output {
        finish(self.start(command, namespace)).await
    }

    fn show(&self, state: PodState, cookie: Option<u64>, problem: Option<&str>) {
        self.show_with(state, cookie, problem, None);
    }

    /// With a proxy that says whether the pod is certified.
    fn show_with(&self, state: PodState, cookie: Option<u64>, problem: Option<&str>, certified: Option<bool>) {
        let pod = PodStatus {
            name: PodName {
                namespace: "shop".into(),
                name: "a".into(),
            },
            uid: "u-1".into(),
            addresses: Vec::new(),
            cookie,
            state,
            certified: certified == Some(true),
            fallback: culvert_objects::Fallback::None,
            problem: problem.map(str::to_owned),
            unguarded: None,
            notices: Vec::new(),
        };
        let proxy = certified.map(|_| ProxyStatus {
            pid: 1,
            version: Version::CulvertV1,
        });
        self.status.send_replace(Arc::new(Status {
            ready: true,
            pods: vec![pod],
            proxies: proxy.into_iter().collect(),
            letting_go: 0,
            ..Status::default()
        }));
    }

    async fn until_arrived(&self) {
        until(|| !self.source.arrived.lock().unwrap().is_empty()).await;
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn program() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let mut folders = own.ancestors().skip(1);
    let found = folders.find_map(|folder| Some(folder.join("culvert-cni")).filter(|path| path.is_file()));
    found.expect("`culvert-cni` is not built: run `cargo build -p culvert-cni`")
}

fn start(socket: &Path, state: &Path, command: &str, namespace: &str) -> Child {
    let previous: Value = serde_json::from_str(PREVIOUS).expect("JSON");
    let config = json!({
        "cniVersion": "1.0.0", "name": "n", "type": "culvert-cni", "agentSocket": socket, "stateFile": state,
        "prevResult": previous,
        // However busy the machine is: without an agent nothing is waited for.
        "heardMs": 60_000, "timeoutMs": 60_000,
    });
    let mut child = Command::new(program())
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_NETNS", NETNS)
        .env("CNI_IFNAME", "eth0")
        .env(
            "CNI_ARGS",
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=a;K8S_POD_UID=u-1"),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    let mut input = child.stdin.take().expect("standard input");
    input.write_all(config.to_string().as_bytes()).expect("write");
    child
}

async fn finish(child: Child) -> Output {
    spawn_blocking(|| child.wait_with_output().expect("output"))
        .await
        .expect("join")
}

fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let (found, previous): (Value, Value) = (
        serde_json::from_str(&text).expect("JSON"),
        serde_json::from_str(PREVIOUS).expect("JSON"),
    );
    assert_eq!(found, previous);
}

fn error(output: &Output) -> (u64, String) {
    assert!(!output.status.success(), "{output:?}");
    let object: Value = serde_json::from_slice(&output.stdout).expect("an error object");
    (
        object["code"].as_u64().expect("code"),
        object["msg"].as_str().expect("msg").to_owned(),
    )
}

fn own_cookie() -> u64 {
    Netns::open(Path::new(NETNS))
        .expect("open")
        .cookie()
        .expect("cookie (needs root)")
}

#[tokio::test]
async fn a_pod_outside_the_mesh_starts_at_once() {
    let gate = Gate::open(Says::Outside);
    assert_passed(&gate.call("ADD", "shop").await);
    let arrived = gate.source.arrived.lock().unwrap();
    let arrival = arrived.first().expect("asked");
    assert_eq!(
        (arrival.uid.as_str(), arrival.netns.as_path()),
        ("u-1", Path::new(NETNS))
    );
    assert_eq!(
        arrival.addresses,
        ["198.19.1.7".parse::<std::net::IpAddr>().expect("address")]
    );
    assert_eq!(gate.metrics.arrivals(Outcome::Outside), 1);
}

#[tokio::test]
async fn a_pod_of_the_mesh_starts_when_it_is_captured_and_not_before() {
    let gate = Gate::open(Says::Wanted);
    let mut child = gate.start("ADD", "shop");
    gate.until_arrived().await;
    let cookie = own_cookie();
    for (state, cookie) in [
        (PodState::Waiting, Some(cookie)),
        (PodState::Failed, None),
        (PodState::Captured, Some(cookie + 1)), // The sandbox before this one.
        (PodState::Leaving, Some(cookie)),
    ] {
        gate.show(state, cookie, None);
        tokio::task::yield_now().await;
        assert!(child.try_wait().expect("wait").is_none(), "{state:?}");
    }
    gate.show(PodState::Captured, Some(cookie), None);
    assert_passed(&finish(child).await);
    assert_eq!(gate.metrics.arrivals(Outcome::Captured), 1);
}

#[tokio::test]
async fn a_captured_pod_starts_with_its_certificate_or_after_a_moment_without() {
    let gate = Gate::open(Says::Wanted);
    let mut child = gate.start("ADD", "shop");
    gate.until_arrived().await;
    let show = |certified| gate.show_with(PodState::Captured, Some(own_cookie()), None, Some(certified));
    show(false);
    tokio::task::yield_now().await;
    assert!(
        child.try_wait().expect("wait").is_none(),
        "its certificate is on its way"
    );
    show(true);
    assert_passed(&finish(child).await);

    show(false);
    assert_passed(&gate.call("ADD", "shop").await);
    assert_eq!(
        gate.metrics.arrivals(Outcome::Captured),
        2,
        "an authority that is away holds nobody back"
    );
}

#[tokio::test]
async fn a_pod_that_is_not_captured_in_time_says_what_is_missing() {
    let gate = Gate::open(Says::Wanted);
    gate.show(PodState::Waiting, Some(own_cookie()), None);
    let (code, message) = error(&gate.call("ADD", "shop").await);
    assert_eq!(code, 103);
    assert!(
        message.contains("shop/a") && message.contains("no proxy is connected"),
        "{message}"
    );

    gate.show(PodState::Captured, Some(own_cookie() + 1), None);
    let (code, message) = error(&gate.call("ADD", "shop").await);
    assert_eq!(code, 103);
    assert!(message.contains("the sandbox that it had before"), "{message}");
    assert_eq!(gate.metrics.arrivals(Outcome::Late), 2);
}

#[tokio::test]
async fn a_failure_that_lasts_is_told_before_the_time_is_over() {
    for state in [PodState::Failed, PodState::Refused] {
        let gate = Gate::open(Says::Wanted);
        gate.show(state, None, Some("its address is another pod's"));
        let (code, message) = error(&gate.call("ADD", "shop").await);
        assert_eq!(code, 100);
        assert!(message.contains("its address is another pod's"), "{message}");
        assert_eq!(gate.metrics.arrivals(Outcome::Refused), 1);
    }
}

#[tokio::test]
async fn when_nobody_can_say_pods_of_enrolled_namespaces_wait_and_others_start() {
    for (says, code, outcome) in [
        (Says::Unknown, 101, Outcome::UnknownPod),
        (Says::ApiAway, 102, Outcome::Undecided),
        (Says::Nothing, 102, Outcome::Undecided),
    ] {
        let gate = Gate::open(says);
        let (found, message) = error(&gate.call("ADD", "shop").await);
        assert_eq!(found, code, "{says:?}: {message}");
        assert_eq!(gate.metrics.arrivals(outcome), 1);
        assert_passed(&gate.call("ADD", "other").await);
        assert_eq!(gate.metrics.arrivals(Outcome::Unjudged), 1, "{says:?}");
    }
}

#[tokio::test]
async fn the_source_hears_of_a_sandboxs_end() {
    let gate = Gate::open(Says::Wanted);
    let output = gate.call("DEL", "shop").await;
    assert!(output.status.success() && output.stdout.is_empty());
    let left = gate.source.left.lock().unwrap().clone();
    assert_eq!(left, [("u-1".to_owned(), Some(PathBuf::from(NETNS)))]);
    for command in ["CHECK", "GC", "STATUS", "VERSION"] {
        assert!(gate.call(command, "shop").await.status.success(), "{command}");
    }
}

#[tokio::test]
async fn an_agent_that_ends_leaves_no_pod_hanging() {
    let gate = Gate::open(Says::Wanted);
    let state = culvert_cni::state::State {
        namespaces: ["shop".to_owned()].into(),
    };
    std::fs::write(gate.folder.path().join("state.json"), state.json()).expect("write");
    let child = gate.start("ADD", "shop");
    gate.until_arrived().await;
    // As when the process ends: the listener and every conversation are closed with the runtime.
    gate.serving.abort();
    drop(gate.status);
    let (code, message) = error(&finish(child).await);
    assert!(code == 103 || code == 11, "{code}: {message}");
}

#[tokio::test]
async fn nonsense_on_the_socket_disturbs_nobody() {
    let gate = Gate::open(Says::Outside);
    let socket = gate.socket();
    let answers = spawn_blocking(move || {
        let ask = |said: &[u8]| {
            let mut stream = UnixStream::connect(&socket).expect("connect");
            // The agent may have closed already.
            let _ = stream.write_all(said);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        };
        [
            ask(b"{}\n"),
            ask(b"\xff\xfe\n"),
            ask(b"{\"version\":7}\n"),
            ask(&vec![b'x'; 200_000]),
            ask(b"half"),
        ]
    });
    let answers = answers.await.expect("join");
    assert!(
        answers[0].contains("\"code\":104") && answers[1].contains("\"code\":104"),
        "{answers:?}"
    );
    assert_eq!(answers[2], "{\"version\":1,\"answer\":\"unsupported\"}\n");
    assert!(answers[3].is_empty() && answers[4].is_empty(), "{answers:?}");
    assert_passed(&gate.call("ADD", "shop").await);
}

#[tokio::test]
async fn who_says_nothing_is_dismissed() {
    let gate = Gate::open(Says::Outside);
    let mut silent = UnixStream::connect(gate.socket()).expect("connect");
    let read = spawn_blocking(move || silent.read(&mut [0; 8]).expect("read"));
    assert_eq!(read.await.expect("join"), 0);
}

#[tokio::test]
async fn the_socket_is_roots_alone_and_replaces_one_that_was_left() {
    let gate = Gate::open(Says::Outside);
    let mode = std::fs::metadata(gate.socket()).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    gate.serving.abort();
    let _server = Server::bind(&gate.socket()).expect("a socket that was left is replaced");
    let files: Vec<_> = std::fs::read_dir(gate.folder.path().join("run"))
        .expect("list")
        .collect();
    assert_eq!(files.len(), 1, "nothing else stays behind: {files:?}");
}

#[tokio::test]
async fn a_hundred_pods_at_once_are_all_answered() {
    let gate = Gate::open(Says::Wanted);
    gate.show(PodState::Captured, Some(own_cookie()), None);
    let children: Vec<Child> = (0..100).map(|_| gate.start("ADD", "shop")).collect();
    let slowest = Instant::now();
    for child in children {
        assert_passed(&finish(child).await);
    }
    assert_eq!(gate.metrics.arrivals(Outcome::Captured), 100);
    eprintln!("100 pods within {:?}", slowest.elapsed());
}
