//! The authority on a real API server: whose tokens it accepts, and the Secret with the signing certificate.
//!
//! One test, since a control plane takes its time to come up; each part says what it protects.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use culvert_cluster::{Cluster, Component, Options};
use culvert_identity::{CertificateRequest, Credentials, SpiffeId, TrustBundle};
use culvert_proto::auth::IstioCertificateRequest;
use culvert_proto::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use prost_types::{Struct, Value, value::Kind};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use crate::client::{connected, with_token};
use crate::process::{Controller, PATIENCE};

/// What ztunnel asks for, in seconds.
const DAY: i64 = 24 * 3600;

pub(crate) const WORLD: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: culvert-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: culvert-node, namespace: culvert-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: other, namespace: culvert-system}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: late, namespace: shop}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
";

pub(crate) fn pod(namespace: &str, name: &str, account: &str, node: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  nodeName: {node}
  serviceAccountName: {account}
  tolerations: [{{operator: Exists}}]
  containers: [{{name: main, image: none}}]
"
    )
}

/// A control plane of the test's own, taken down at the end.
pub(crate) struct Lab(pub(crate) Cluster);

impl Lab {
    /// With this name, which no other test has.
    pub(crate) fn up(name: &str) -> Self {
        let options = Options::new(name, 0).unwrap();
        Self(Cluster::up(&options).unwrap())
    }

    pub(crate) fn apply(&self, manifests: &str) {
        self.0.kubectl_client().apply(manifests).unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.0.kubectl_client().run(arguments).unwrap()
    }

    /// The annotation by which somebody wants the root replaced.
    pub(crate) fn ask_for_another_root(&self) {
        let secret = ["annotate", "secret", "culvert-ca", "-n", "culvert-system"];
        self.run(&[&secret[..], &["culvert.dev/rotate=now"]].concat());
    }

    /// A token of an account, bound to a pod unless that is empty.
    fn token(&self, account: &str, audience: &str, pod: &str) -> String {
        self.token_for(account, audience, pod, "1h")
    }

    /// The same, for so long.
    pub(crate) fn token_for(&self, account: &str, audience: &str, pod: &str, duration: &str) -> String {
        let audience = format!("--audience={audience}");
        let name = format!("--bound-object-name={pod}");
        let duration = format!("--duration={duration}");
        let mut arguments = vec!["create", "token", account, "-n", "culvert-system"];
        arguments.extend([audience.as_str(), duration.as_str()]);
        if !pod.is_empty() {
            arguments.extend(["--bound-object-kind=Pod", name.as_str()]);
        }
        self.run(&arguments).trim().to_owned()
    }

    pub(crate) fn secret(&self, key: &str) -> String {
        let path = format!("jsonpath={{.data.{}}}", key.replace('.', "\\."));
        let text = self.run(&["get", "secret", "culvert-ca", "-n", "culvert-system", "-o", &path]);
        String::from_utf8(base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text.trim()).unwrap()).unwrap()
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        self.0.kubeconfig()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let options = Options::new(self.0.name(), 0).unwrap();
        let _ = Cluster::down(&options.state, self.0.name());
    }
}

async fn ask(controller: &Controller, token: &str, identity: &SpiffeId) -> Result<Credentials, Status> {
    let roots = controller.get("/root.pem");
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&roots))
        .domain_name("culvert-controller.culvert-system.svc");
    let endpoint = Endpoint::from_shared(format!("https://{}", controller.xds)).unwrap();
    let channel = connected(&endpoint.tls_config(tls).unwrap()).await;
    let request = CertificateRequest::new(identity).unwrap();
    let chain = ask_over(channel, token, identity, request.csr_pem()).await?;
    let bundle = TrustBundle::from_pem(roots.as_bytes()).unwrap();
    Ok(request.complete(&chain, &bundle).unwrap())
}

/// Asks for a certificate over a connection that is there; the chain, and the roots at its end.
pub(crate) async fn ask_over(
    channel: Channel,
    token: &str,
    identity: &SpiffeId,
    csr: &str,
) -> Result<Vec<String>, Status> {
    let wanted = Value {
        kind: Some(Kind::StringValue(identity.to_string())),
    };
    let message = IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: DAY,
        metadata: Some(Struct {
            fields: [("ImpersonatedIdentity".to_owned(), wanted)].into(),
        }),
    };
    let mut client = IstioCertificateServiceClient::new(channel);
    let answer = client.create_certificate(with_token(message, token)).await?;
    Ok(answer.into_inner().cert_chain)
}

pub(crate) fn id(account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", account).unwrap()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_signed_under(credentials: &Credentials, root: &str) -> bool {
    let bundle = TrustBundle::from_pem(root.as_bytes()).unwrap();
    let now = std::time::SystemTime::now();
    bundle.verify(credentials.chain(), "cluster.local", now).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_the_secret_on_a_real_api_server() {
    let lab = Lab::up("authority");
    lab.apply(WORLD);
    lab.apply(&pod("culvert-system", "proxy1", "culvert-node", "node1"));
    lab.apply(&pod("culvert-system", "proxy2", "culvert-node", "node2"));
    lab.apply(&pod("culvert-system", "other", "other", "node1"));
    lab.apply(&pod("shop", "cart", "cart", "node1"));
    let flags = ["--rotation-overlap", "2s", "--leaf-ttl", "1h"];
    let controller = Controller::start_on(lab.kubeconfig(), &flags);
    until("a root", || !controller.get("/root.pem").is_empty()).await;
    let first = lab.secret("ca.crt");
    assert_eq!(
        controller.get("/root.pem"),
        first,
        "the Secret's root is the one that is told"
    );

    tokens(&lab, &controller).await;
    workloads(&lab, &controller).await;
    pods_that_come_late(&lab, &controller).await;
    two_replicas_share_one_root(&lab, &flags, &first).await;
    rotation(&lab, &controller, &first).await;
    bad_secrets(&lab, &controller).await;
    the_api_server_goes_away(&lab, &controller).await;
    drop(controller);
    a_start_inside_a_rotation(&lab).await;
}

/// Each token that is not a node's is refused, with a reason.
async fn tokens(lab: &Lab, controller: &Controller) {
    let good = lab.token("culvert-node", "istio-ca", "proxy1");
    ask(controller, &good, &id("cart")).await.unwrap();
    let other_node = lab.token("culvert-node", "istio-ca", "proxy2");
    let refused = ask(controller, &other_node, &id("cart")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("node2"), "{refused}");

    let mut foreign = good.clone();
    let signature = foreign.rfind('.').unwrap() + 10;
    let letter = if foreign.as_bytes()[signature] == b'A' {
        "B"
    } else {
        "A"
    };
    foreign.replace_range(signature..=signature, letter);
    let gone = {
        lab.apply(&pod("culvert-system", "gone", "culvert-node", "node1"));
        let token = lab.token("culvert-node", "istio-ca", "gone");
        lab.run(&[
            "delete",
            "pod",
            "gone",
            "-n",
            "culvert-system",
            "--force",
            "--grace-period=0",
        ]);
        token
    };
    for (what, token, reason) in [
        (
            "another audience",
            lab.token("culvert-node", "vault", "proxy1"),
            "not for `istio-ca`",
        ),
        ("no pod", lab.token("culvert-node", "istio-ca", ""), "bound to no pod"),
        ("a forged signature", foreign, "the API server refuses it"),
        ("the token of a deleted pod", gone, "the API server refuses it"),
        ("garbage", "garbage".to_owned(), "no JSON web token"),
    ] {
        let refused = ask(controller, &token, &id("cart")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}: {refused}");
        assert!(refused.message().contains(reason), "{what}: {refused}");
    }
}

/// The token of any other account is good for its own identity alone, which need not be named.
async fn workloads(lab: &Lab, controller: &Controller) {
    let token = lab.token("other", "istio-ca", "other");
    let refused = ask(controller, &token, &id("cart")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("culvert-system/other"), "{refused}");
    let own = SpiffeId::new("cluster.local", "culvert-system", "other").unwrap();
    ask(controller, &token, &own).await.unwrap();
}

/// The first request for a new pod's identity succeeds although it is sent before the pod is even there.
///
/// The controller waits a second and a half, and a busy machine may take longer to make a pod: then another one is made.
async fn pods_that_come_late(lab: &Lab, controller: &Controller) {
    let token = lab.token("culvert-node", "istio-ca", "proxy1");
    ask(controller, &token, &id("cart")).await.unwrap();
    let late = id("late");
    let begin = Instant::now();
    loop {
        let asking = ask(controller, &token, &late);
        let making = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            tokio::task::block_in_place(|| lab.apply(&pod("shop", "late", "late", "node1")));
        };
        let (answer, ()) = tokio::join!(asking, making);
        let Err(refused) = answer else { return };
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(begin.elapsed() < 3 * PATIENCE, "{refused}");
        lab.run(&["delete", "pod", "late", "-n", "shop", "--force", "--grace-period=0"]);
        while ask(controller, &token, &late).await.is_ok() {
            assert!(begin.elapsed() < 3 * PATIENCE, "a pod that is gone keeps its identity");
        }
    }
}

/// A second replica signs under the same root, with a key of its own for its port.
async fn two_replicas_share_one_root(lab: &Lab, flags: &[&str], root: &str) {
    let second = Controller::start_on(lab.kubeconfig(), flags);
    until("the same root", || second.get("/root.pem") == root).await;
    let token = lab.token("culvert-node", "istio-ca", "proxy1");
    assert!(is_signed_under(&ask(&second, &token, &id("cart")).await.unwrap(), root));
}

/// An annotation replaces the root: first both are told, then the new one signs, and what the old one signed stays good.
async fn rotation(lab: &Lab, controller: &Controller, first: &str) {
    let token = lab.token("culvert-node", "istio-ca", "proxy1");
    let old = ask(controller, &token, &id("cart")).await.unwrap();
    lab.ask_for_another_root();
    until("two roots", || {
        controller.get("/root.pem").matches("BEGIN").count() == 2
    })
    .await;
    assert!(controller.get("/root.pem").contains(first.trim()));
    let between = ask(controller, &token, &id("cart")).await.unwrap();
    assert!(
        is_signed_under(&between, first),
        "nothing is signed under a root that was just told"
    );
    let begin = Instant::now();
    let new = loop {
        let new = ask(controller, &token, &id("cart")).await.unwrap();
        if !is_signed_under(&new, first) {
            break new;
        }
        assert!(begin.elapsed() < PATIENCE, "the new root never signs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let both = controller.get("/root.pem");
    assert!(is_signed_under(&new, &both) && is_signed_under(&old, &both));
    let annotations = lab.run(&[
        "get",
        "secret",
        "culvert-ca",
        "-n",
        "culvert-system",
        "-o",
        "jsonpath={.metadata.annotations}",
    ]);
    assert!(!annotations.contains("culvert.dev/rotate\""), "{annotations}");
    assert!(annotations.contains("culvert.dev/rotated-at"), "{annotations}");
}

/// M7: a controller that starts in the middle of a rotation goes on under the root before, whose key is kept.
async fn a_start_inside_a_rotation(lab: &Lab) {
    let flags = ["--rotation-overlap", "1h", "--leaf-ttl", "1h"];
    let before = lab.secret("ca.crt");
    let first = Controller::start_on(lab.kubeconfig(), &flags);
    let signs = |status: &serde_json::Value| status["authority"]["certificate"].is_string();
    let old = first.until("/status", signs).await["authority"]["certificate"].clone();
    first
        .until("/status", |status| status["election"]["leads"] == true)
        .await;
    lab.ask_for_another_root();
    until("another root in the Secret", || lab.secret("ca.crt") != before).await;
    until("three roots", || first.get("/root.pem").matches("BEGIN").count() >= 2).await;
    drop(first);
    let second = Controller::start_on(lab.kubeconfig(), &flags);
    let status = second.until("/status", signs).await;
    assert_eq!(
        status["authority"]["certificate"], old,
        "the key of the root before signs on"
    );
    let token = lab.token("culvert-node", "istio-ca", "proxy1");
    ask(&second, &token, &id("cart")).await.unwrap();
}

/// What is put into the Secret and is of no use changes nothing; a lost Secret comes back as it was.
async fn bad_secrets(lab: &Lab, controller: &Controller) {
    let good = (lab.secret("tls.crt"), controller.get("/root.pem"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patch.json");
    fs::write(&file, r#"{"data":{"tls.crt":"Z2FyYmFnZQ=="}}"#).unwrap();
    let patch = format!("--patch-file={}", file.display());
    lab.run(&["patch", "secret", "culvert-ca", "-n", "culvert-system", &patch]);
    let problem = |status: &serde_json::Value| {
        status["authority"]["problem"]
            .as_str()
            .is_some_and(|text| text.contains("PEM"))
    };
    controller.until("/status", problem).await;
    assert_eq!(controller.get("/root.pem"), good.1);
    let token = lab.token("culvert-node", "istio-ca", "proxy1");
    ask(controller, &token, &id("cart")).await.unwrap();

    lab.run(&["delete", "secret", "culvert-ca", "-n", "culvert-system"]);
    until("the Secret again", || {
        lab.0
            .kubectl_client()
            .run(&["get", "secret", "culvert-ca", "-n", "culvert-system"])
            .is_ok()
    })
    .await;
    assert_eq!(
        lab.secret("tls.crt"),
        good.0,
        "a lost Secret is no reason for another root"
    );
    let roots = lab.secret("ca.crt").matches("BEGIN").count();
    assert_eq!(roots, 2, "nor for forgetting the one before");
}

/// Without the API server, a token that was accepted stays accepted, and no other is.
async fn the_api_server_goes_away(lab: &Lab, controller: &Controller) {
    let known = lab.token("culvert-node", "istio-ca", "proxy1");
    let unknown = lab.token("culvert-node", "istio-ca", "proxy1");
    ask(controller, &known, &id("cart")).await.unwrap();
    lab.0.stop(Component::ApiServer).unwrap();
    ask(controller, &known, &id("cart")).await.unwrap();
    let refused = ask(controller, &unknown, &id("cart")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    lab.0.start(Component::ApiServer).unwrap();
    let begin = Instant::now();
    while let Err(status) = ask(controller, &unknown, &id("cart")).await {
        assert!(begin.elapsed() < 2 * PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
