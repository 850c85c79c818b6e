//! Certificates over the wire: who gets which.

use culvert_identity::{CertificateRequest, SpiffeId, TrustBundle};
use culvert_proto::auth::IstioCertificateRequest;
use culvert_proto::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use prost_types::{Struct, Value, value::Kind};
use tonic::{Code, Status};

use crate::client::{channel, with_token};
use crate::process::Controller;

const WORLD: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {culvert.dev/mesh: ambient}}
---
apiVersion: v1
kind: Namespace
metadata: {name: odd, labels: {culvert.dev/mesh: perhaps}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop}
spec: {nodeName: node-a, serviceAccountName: cart}
status: {podIP: 198.18.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: shop}
spec: {nodeName: node-b}
status: {podIP: 198.18.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: lost, namespace: shop}
spec: {nodeName: node-a, serviceAccountName: nobody}
status: {podIP: 198.18.0.3}
---
apiVersion: v1
kind: Pod
metadata: {name: out, namespace: default}
spec: {nodeName: node-a}
status: {podIP: 198.18.0.4}
---
apiVersion: v1
kind: Pod
metadata: {name: odd, namespace: odd}
spec: {nodeName: node-a}
status: {podIP: 198.18.0.5}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: job, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: shop}
spec: {nodeName: node-a, serviceAccountName: job}
status: {podIP: 198.18.0.6, phase: Succeeded}
";

async fn ask(controller: &Controller, token: &str, identity: &str, csr: &str) -> Result<Vec<String>, Status> {
    let wanted = Value {
        kind: Some(Kind::StringValue(identity.to_owned())),
    };
    let message = IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: 3600,
        metadata: Some(Struct {
            fields: [("ImpersonatedIdentity".to_owned(), wanted)].into(),
        }),
    };
    let mut client = IstioCertificateServiceClient::new(channel(controller).await);
    Ok(client
        .create_certificate(with_token(message, token))
        .await?
        .into_inner()
        .cert_chain)
}

fn id(namespace: &str, account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", namespace, account).unwrap()
}

#[tokio::test]
async fn a_node_gets_the_identities_of_its_pods_alone() {
    let controller = Controller::start(WORLD);
    let (a, b) = (controller.token("node-a"), controller.token("node-b"));
    let wrong = a.replace("node-a", "node-b");
    let other_domain = SpiffeId::new("other.example", "shop", "cart").unwrap();
    let matrix = [
        (&a, id("shop", "cart"), Ok(())),
        (
            &b,
            id("shop", "cart"),
            Err((Code::PermissionDenied, "no running pod of node node-b")),
        ),
        (&b, id("shop", "default"), Ok(())),
        (
            &a,
            id("shop", "default"),
            Err((Code::PermissionDenied, "no running pod of node node-a")),
        ),
        (
            &a,
            id("shop", "nobody"),
            Err((Code::PermissionDenied, "does not exist")),
        ),
        (&a, id("default", "default"), Ok(())), // not enrolled as far as the controller knows
        (&a, id("odd", "default"), Ok(())),
        (&a, id("shop", "job"), Err((Code::PermissionDenied, "no running pod"))),
        (&a, other_domain, Err((Code::PermissionDenied, "trust domain"))),
        (&wrong, id("shop", "cart"), Err((Code::Unauthenticated, "token"))),
    ];
    let bundle = TrustBundle::from_pem(&controller.root()).unwrap();
    for (token, identity, expected) in matrix {
        let request = CertificateRequest::new(&identity).unwrap();
        let answer = ask(&controller, token, identity.as_str(), request.csr_pem()).await;
        match (answer, expected) {
            (Ok(chain), Ok(())) => {
                let credentials = request.complete(&chain, &bundle).unwrap();
                assert_eq!(*credentials.identity(), identity);
                let life = credentials
                    .not_after()
                    .duration_since(std::time::SystemTime::now())
                    .unwrap();
                assert!((3500..=3600).contains(&life.as_secs()), "{life:?}");
                assert!(credentials.not_before() < std::time::SystemTime::now() - std::time::Duration::from_secs(300));
            }
            (Err(status), Err((code, text))) => {
                assert_eq!(status.code(), code, "{identity}: {status}");
                assert!(status.message().contains(text), "{identity}: {status}");
            }
            (answer, _) => panic!("{identity}: {answer:?}"),
        }
    }
    assert_eq!(
        controller.metric("culvert_controller_certificates_total{outcome=\"signed\"}"),
        4.0
    );
    assert_eq!(
        controller.metric("culvert_controller_certificates_total{outcome=\"denied\"}"),
        5.0
    );
}

#[tokio::test]
async fn the_request_is_not_believed() {
    let controller = Controller::start(WORLD);
    let token = controller.token("node-a");
    let cart = id("shop", "cart");
    // It names somebody else: the certificate is for the one who was authorised.
    let other = CertificateRequest::new(&id("shop", "default")).unwrap();
    let chain = ask(&controller, &token, cart.as_str(), other.csr_pem()).await.unwrap();
    let bundle = TrustBundle::from_pem(&controller.root()).unwrap();
    assert!(matches!(
        other.complete(&chain, &bundle),
        Err(culvert_identity::IdentityError::WrongIdentity { .. })
    ));

    let mut tampered = CertificateRequest::new(&cart).unwrap().csr_pem().to_owned();
    let at = tampered.len() / 2;
    let letter = if tampered.as_bytes()[at] == b'A' { "B" } else { "A" };
    tampered.replace_range(at..=at, letter);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other_key = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .pem()
        .unwrap();
    for wrong in ["", "garbage", &"x".repeat(100_000), &tampered, &other_key] {
        let refused = ask(&controller, &token, cart.as_str(), wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    for wrong in ["", "cart", "spiffe://cluster.local/ns/shop/sa/cart/more"] {
        let refused = ask(
            &controller,
            &token,
            wrong,
            CertificateRequest::new(&cart).unwrap().csr_pem(),
        )
        .await
        .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}
