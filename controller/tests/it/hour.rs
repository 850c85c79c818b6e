//! An API server that is away for an hour, by clocks that the test owns: nothing expires, nothing is pushed, and when it is back
//! exactly what changed.
//!
//! The controller runs inside the test, on one thread: its timers go by tokio's time, which the test moves on, and its time
//! of day by the same. The API server is a real one, and by its own clock it is away for seconds.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, SystemTime};

use clap::Parser as _;
use culvert_cluster::Component;
use culvert_controller::{clock::Clock, flags::Cli, run};
use culvert_identity::{CertificateRequest, TrustBundle};
use culvert_proto::ROOTS_TYPE;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::authority::{Lab, WORLD, ask_over, id, pod};
use crate::client::{ADDRESS_TYPE, Client, channel_to, names, rendered};
use crate::process::{PATIENCE, page};

const HOUR: Duration = Duration::from_secs(3600);
/// What the clock is moved by at a time: less than any pause in the controller that matters.
const STEP: Duration = Duration::from_secs(2);

/// A controller inside this program.
struct Inside {
    xds: SocketAddr,
    monitoring: SocketAddr,
    clock: Clock,
    root: String,
}

impl Inside {
    async fn start(lab: &Lab) -> Self {
        // Below those that the kernel gives to whoever asks for any port.
        let mut ports = 19_000..20_000;
        let mut free = || {
            let mut addresses = ports.by_ref().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
            addresses.find(|at| TcpListener::bind(at).is_ok()).unwrap()
        };
        let (xds, monitoring) = (free(), free());
        let (xds_text, monitoring_text) = (xds.to_string(), monitoring.to_string());
        let flags = Cli::parse_from([
            "culvert-controller".as_ref(),
            "--kubeconfig".as_ref(),
            lab.kubeconfig().as_os_str(),
            "--xds-listen".as_ref(),
            xds_text.as_ref(),
            "--monitoring-listen".as_ref(),
            monitoring_text.as_ref(),
            // The stream that is told nothing for an hour has to last that long.
            "--stream-age".as_ref(),
            "24h".as_ref(),
        ]);
        let (began, at) = (SystemTime::now(), Instant::now());
        let clock = Clock::new(move || began + at.elapsed());
        let running = tokio::spawn(run::run(flags.serve, clock.clone(), None));
        let mut inside = Self {
            xds,
            monitoring,
            clock,
            root: String::new(),
        };
        let begin = Instant::now();
        while tokio::net::TcpStream::connect(monitoring).await.is_err() {
            assert!(
                !running.is_finished() && begin.elapsed() < PATIENCE,
                "it does not start"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        inside
            .until("/status", |status| status["election"]["leads"] == true)
            .await;
        inside
            .until("/status", |status| status["authority"]["roots"] == 1)
            .await;
        inside.root = lab.secret("ca.crt");
        inside
    }

    /// A page, asked from another thread, since the controller runs on this one.
    async fn page(&self, path: &'static str) -> String {
        let monitoring = self.monitoring;
        tokio::task::spawn_blocking(move || page(monitoring, path))
            .await
            .unwrap()
    }

    /// Waits until a page of JSON is as it should be.
    async fn until(&self, path: &'static str, what: impl Fn(&Value) -> bool) {
        let begin = Instant::now();
        loop {
            let value: Value = serde_json::from_str(&self.page(path).await).unwrap();
            if what(&value) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{path} stays {value:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How often lists and watches failed.
    async fn failures(&self) -> u64 {
        let text = self.page("/metrics").await;
        let lines = text
            .lines()
            .filter(|line| line.starts_with("culvert_controller_watch_failures_total{"));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Lets so much time pass, while connections get their share of the real one.
    async fn pass(&self, time: Duration) {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            tokio::time::pause();
            tokio::time::advance(STEP).await;
            tokio::time::resume();
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
    }

    async fn stream(&self, token: &str) -> Result<Client, Status> {
        Client::over(channel_to(self.xds, self.root.as_bytes()).await, token).await
    }

    /// A chain for an identity, leaf first.
    async fn sign(&self, token: &str, account: &str) -> Result<Vec<CertificateDer<'static>>, Status> {
        let channel = channel_to(self.xds, self.root.as_bytes()).await;
        let request = CertificateRequest::new(&id(account)).unwrap();
        let chain = ask_over(channel, token, &id(account), request.csr_pem()).await?;
        let leaf = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
        Ok(vec![leaf])
    }

    /// Whether a node whose clock is the controller's accepts it.
    fn is_good(&self, chain: &[CertificateDer<'static>]) -> bool {
        let bundle = TrustBundle::from_pem(self.root.as_bytes()).unwrap();
        bundle.verify(chain, "cluster.local", self.clock.now()).is_ok()
    }
}

/// A pod of the shop that runs, with this address.
fn run_pod(lab: &Lab, name: &str, account: &str, address: &str) {
    lab.apply(&pod("shop", name, account, "node1"));
    set_address(lab, name, address);
}

fn set_address(lab: &Lab, name: &str, address: &str) {
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}]}});
    let patch = format!("--patch={status}");
    lab.run(&[
        "patch",
        "pod",
        name,
        "-n",
        "shop",
        "--subresource=status",
        "--type=merge",
        &patch,
    ]);
}

fn of_pod(name: &str) -> String {
    format!("Kubernetes//Pod/shop/{name}")
}

#[tokio::test]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
async fn an_hour_without_the_api_server_costs_nothing_and_then_what_changed_is_told() {
    let lab = Lab::up("hour");
    lab.apply(WORLD);
    lab.apply(&pod("culvert-system", "proxy1", "culvert-node", "node1"));
    run_pod(&lab, "stays", "cart", "198.19.1.1");
    run_pod(&lab, "moves", "cart", "198.19.1.2");
    run_pod(&lab, "goes", "cart", "198.19.1.3");
    // Nobody but the test changes anything: these nodes have no kubelet, which would be noticed.
    lab.0.stop(Component::ControllerManager).unwrap();
    lab.0.stop(Component::Scheduler).unwrap();
    let token = |duration| lab.token_for("culvert-node", "istio-ca", "proxy1", duration);
    let (long, short, unknown) = (token("4h"), token("10m"), token("4h"));
    let controller = Inside::start(&lab).await;

    let mut before = controller.stream(&long).await.unwrap();
    let told = rendered(&before.wildcard(ADDRESS_TYPE).await);
    for name in ["stays", "moves", "goes"] {
        assert!(told.contains_key(&of_pod(name)), "{told:#?}");
    }
    before.wildcard(ROOTS_TYPE).await;
    let early = controller.sign(&long, "cart").await.unwrap();
    controller.sign(&short, "cart").await.unwrap();

    let failures = controller.failures().await;
    // Without a word: one that says goodbye takes its own address out of the Service `kubernetes`, which is a change.
    lab.0.kill(Component::ApiServer).unwrap();
    controller.pass(HOUR).await;

    // It was an hour for the controller, too: each of six kinds was asked for again every five seconds at the latest.
    let failed = controller.failures().await - failures;
    assert!(failed >= 6 * 3600 / 5 / 2, "{failed} attempts in an hour");
    controller
        .until("/status", |status| status["election"]["leads"] == false)
        .await;
    if let Some(pushed) = before.unasked().await {
        panic!("nothing changed, yet a node was told {pushed:?}");
    }
    // A node that comes now is told what the first one was.
    let mut during = controller.stream(&long).await.unwrap();
    assert_eq!(rendered(&during.wildcard(ADDRESS_TYPE).await), told);
    // What was signed is good for many more hours, and what is known is signed.
    assert!(controller.is_good(&early));
    assert!(controller.is_good(&controller.sign(&long, "cart").await.unwrap()));
    for (what, token, code) in [
        ("a token that expired", &short, Code::Unauthenticated),
        ("a token never seen", &unknown, Code::Unavailable),
    ] {
        let refused = controller.sign(token, "cart").await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused}");
    }

    // All of this before the controller has a moment to see the API server: this thread is the controller's as well.
    lab.0.start_api_server().unwrap();
    lab.run(&["delete", "pod", "goes", "-n", "shop", "--force", "--grace-period=0"]);
    set_address(&lab, "moves", "198.19.1.4");
    run_pod(&lab, "comes", "cart", "198.19.1.5");
    lab.run(&[
        "annotate",
        "pod",
        "stays",
        "-n",
        "shop",
        "golden.culvert.dev/unread=yes",
    ]);
    for client in [&mut before, &mut during] {
        exactly_what_changed_is_told(client).await;
    }
    // The last of all, so that everything before it was told.
    run_pod(&lab, "last", "cart", "198.19.1.6");
    for client in [&mut before, &mut during] {
        let last = client.next().await;
        assert_eq!(
            (last.type_url.as_str(), names(&last)),
            (ADDRESS_TYPE, [of_pod("last")].into())
        );
        assert_eq!(last.removed_resources, Vec::<String>::new());
    }
    controller
        .until("/status", |status| status["source"]["stale_since"].is_null())
        .await;
    controller
        .until("/status", |status| status["election"]["leads"] == true)
        .await;
    controller
        .until("/status", |status| status["authority"]["problem"].is_null())
        .await;
    assert_eq!(
        lab.secret("ca.crt"),
        controller.root,
        "an hour is no reason for another root"
    );
    assert!(controller.is_good(&controller.sign(&unknown, "cart").await.unwrap()));
}

/// In however many messages.
async fn exactly_what_changed_is_told(client: &mut Client) {
    let (mut told, mut removed) = (BTreeSet::new(), BTreeSet::new());
    let (changed, gone) = ([of_pod("moves"), of_pod("comes")].into(), [of_pod("goes")].into());
    while (&told, &removed) != (&changed, &gone) {
        let response = client.next().await;
        assert_eq!(response.type_url, ADDRESS_TYPE);
        told.extend(names(&response));
        removed.extend(response.removed_resources.iter().cloned());
        assert!(
            told.is_subset(&changed) && removed.is_subset(&gone),
            "{told:?}, without {removed:?}"
        );
    }
}
