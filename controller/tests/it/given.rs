//! A signing certificate that somebody gives, as cert-manager puts it into a Secret, on a real API server.

use std::time::{Duration, Instant, SystemTime};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use culvert_identity::{CertificateRequest, Credentials, TrustBundle};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

use crate::authority::{Lab, WORLD, ask_over, id, pod};
use crate::client::channel_to;
use crate::process::{Controller, PATIENCE};

/// A root that no controller ever sees the key of.
struct Root {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Root {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let pem = params("root").self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
        Self { pem, issuer }
    }

    /// Puts an intermediate in place, as cert-manager does for a `Certificate` with `isCA: true`; what it put there.
    fn give(&self, lab: &Lab) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = params("intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let text = |text: &str| BASE64_STANDARD.encode(text);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "culvert-ca", "namespace": "culvert-system"},
            "data": {"tls.crt": text(&certificate), "tls.key": text(&key.serialize_pem()), "ca.crt": text(&self.pem)},
        });
        lab.apply(&secret.to_string());
        certificate
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
async fn an_intermediate_that_is_given_signs_and_its_successor_at_once() {
    let lab = Lab::up("given");
    lab.apply(WORLD);
    lab.apply(&pod("culvert-system", "proxy1", "culvert-node", "node1"));
    lab.apply(&pod("shop", "cart", "cart", "node1"));
    let controller = Controller::start_on(lab.kubeconfig(), &["--given-ca"]);
    let says = |what: &'static str| {
        move |status: &serde_json::Value| {
            status["authority"]["problem"]
                .as_str()
                .is_some_and(|problem| problem.contains(what))
        }
    };
    controller.until("/status", says("none is to be made")).await;

    let root = Root::new();
    let first = root.give(&lab);
    controller
        .until("/status", |status| status["authority"]["roots"] == 1)
        .await;
    assert_eq!(
        controller.get("/root.pem").trim(),
        root.pem.trim(),
        "nodes trust the root alone"
    );
    let (old, chain) = sign(&lab, &controller, &root).await;
    assert!(chain.contains(first.trim()), "the intermediate follows its leaves");

    // Under a root that everybody knows nothing has to be told first.
    let second = root.give(&lab);
    let begin = Instant::now();
    while !sign(&lab, &controller, &root).await.1.contains(second.trim()) {
        assert!(begin.elapsed() < PATIENCE, "the new one never signs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (new, _) = sign(&lab, &controller, &root).await;
    let bundle = TrustBundle::from_pem(root.pem.as_bytes()).unwrap();
    for credentials in [&old, &new] {
        let now = SystemTime::now();
        assert!(bundle.verify(credentials.chain(), "cluster.local", now).is_ok());
    }

    // It is not ours to replace.
    lab.ask_for_another_root();
    controller.until("/status", says("was not made here")).await;
    assert_eq!(lab.secret("tls.crt"), second);
    lab.run(&["delete", "secret", "culvert-ca", "-n", "culvert-system"]);
    controller
        .until("/status", says("is gone; what it held stays in use"))
        .await;
    assert!(sign(&lab, &controller, &root).await.1.contains(second.trim()));
}

/// A certificate for the cart, from a controller whose own port is under the root; and the whole chain, PEM.
async fn sign(lab: &Lab, controller: &Controller, root: &Root) -> (Credentials, String) {
    let token = lab.token_for("culvert-node", "istio-ca", "proxy1", "1h");
    let channel = channel_to(controller.xds, root.pem.as_bytes()).await;
    let request = CertificateRequest::new(&id("cart")).unwrap();
    let chain = ask_over(channel, &token, &id("cart"), request.csr_pem()).await.unwrap();
    let bundle = TrustBundle::from_pem(root.pem.as_bytes()).unwrap();
    (request.complete(&chain, &bundle).unwrap(), chain.concat())
}
