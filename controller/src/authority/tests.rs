//! The authority's rules, with real keys and files.

use std::{path::Path, sync::Arc, time::Duration};

use culvert_identity::{CertificateRequest, SpiffeId, TrustBundle};
use culvert_proto::auth::{IstioCertificateRequest, istio_certificate_service_server::IstioCertificateService as _};
use culvert_telemetry::prometheus::registry::Registry;
use tonic::{Code, Request};

use super::*;
use crate::clock::Clock;

const DAY: Duration = Duration::from_secs(24 * 3600);

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

/// Node `a` may have the cart.
struct CartOnA;

#[tonic::async_trait]
impl IssuancePolicy for CartOnA {
    fn own_identity(&self, caller: &Caller) -> Option<SpiffeId> {
        caller.own_identity("cluster.local")
    }

    async fn check(&self, caller: &Caller, identity: &SpiffeId) -> Result<(), Refusal> {
        let is_own = self.own_identity(caller).as_ref() == Some(identity);
        if is_own || (caller.node(), identity.as_str()) == (Some("a"), CART) {
            Ok(())
        } else {
            Err(Refusal::NotOnNode {
                node: caller.to_string(),
                identity: identity.clone(),
            })
        }
    }
}

struct Setup {
    _folder: tempfile::TempDir,
    tokens: Arc<Tokens>,
    authority: Arc<Authority>,
    service: CertificateService<CartOnA>,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new(DAY, Duration::ZERO, Clock::system()));
    authority.take(Arc::new(open(&folder.path().join("ca")).unwrap()));
    let tokens = Arc::new(Tokens::below(folder.path()));
    let metrics = SigningMetrics::register(&mut Registry::default());
    let service = CertificateService::new(Arc::clone(&authority), Arc::clone(&tokens) as _, CartOnA, metrics);
    Setup {
        _folder: folder,
        tokens,
        authority,
        service,
    }
}

fn open(folder: &Path) -> Result<Signer, AuthorityError> {
    RootFolder::new(folder, "cluster.local").open()
}

fn token(tokens: &Tokens, node: &str) -> String {
    std::fs::read_to_string(tokens.issue(node).unwrap())
        .unwrap()
        .trim()
        .to_owned()
}

fn request(csr: &str, identity: &str, token: Option<&str>) -> Request<IstioCertificateRequest> {
    let kind = Some(prost_types::value::Kind::StringValue(identity.to_owned()));
    let fields = [("ImpersonatedIdentity".to_owned(), prost_types::Value { kind })];
    let metadata = Some(prost_types::Struct { fields: fields.into() });
    let mut request = Request::new(IstioCertificateRequest {
        csr: csr.into(),
        validity_duration: 3600,
        metadata,
    });
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_node_gets_a_working_certificate_for_what_runs_on_it() {
    let setup = setup();
    let pending = CertificateRequest::new(&SpiffeId::parse(CART).unwrap()).unwrap();
    let wanted = request(pending.csr_pem(), CART, Some(&token(&setup.tokens, "a")));
    let chain = setup
        .service
        .create_certificate(wanted)
        .await
        .unwrap()
        .into_inner()
        .cert_chain;
    let bundle = TrustBundle::from_pem(setup.authority.bundle().borrow().as_bytes()).unwrap();
    let credentials = pending.complete(&chain, &bundle).unwrap();
    let lifetime = credentials
        .not_after()
        .duration_since(std::time::SystemTime::now())
        .unwrap();
    assert!(
        lifetime <= Duration::from_secs(3600),
        "an hour was asked for, {lifetime:?} were granted"
    );
}

/// A token of the shop's cart.
struct CartItself;

#[tonic::async_trait]
impl Authenticator for CartItself {
    async fn authenticate(&self, _: &str, _: Source) -> Result<Authenticated, Unauthenticated> {
        Ok(Authenticated {
            caller: Caller::Workload {
                namespace: "shop".into(),
                account: "cart".into(),
                pod: None,
                node: None,
            },
            expires: None,
        })
    }
}

#[tokio::test]
async fn a_workload_gets_its_own_identity_without_naming_it_and_no_other() {
    let setup = setup();
    let metrics = SigningMetrics::register(&mut Registry::default());
    let service = CertificateService::new(Arc::clone(&setup.authority), Arc::new(CartItself), CartOnA, metrics);
    let pending = CertificateRequest::new(&SpiffeId::parse(CART).unwrap()).unwrap();
    let mut own = request(pending.csr_pem(), "", Some("any"));
    own.get_mut().metadata = None;
    let chain = service.create_certificate(own).await.unwrap().into_inner().cert_chain;
    let other = "spiffe://cluster.local/ns/shop/sa/other";
    let asked = request(pending.csr_pem(), other, Some("any"));
    let bundle = TrustBundle::from_pem(setup.authority.bundle().borrow().as_bytes()).unwrap();
    pending.complete(&chain, &bundle).unwrap();
    let refused = service.create_certificate(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test]
async fn everyone_else_is_refused_with_a_reason() {
    let setup = setup();
    let (a, b) = (token(&setup.tokens, "a"), token(&setup.tokens, "b"));
    let csr = CertificateRequest::new(&SpiffeId::parse(CART).unwrap())
        .unwrap()
        .csr_pem()
        .to_owned();
    let other = "spiffe://cluster.local/ns/shop/sa/other";
    let forged = format!("a.{}", b.rsplit_once('.').unwrap().1);
    for (what, csr, identity, token, code) in [
        ("no token", csr.as_str(), CART, None, Code::Unauthenticated),
        ("an unknown node", &csr, CART, Some("c.0123"), Code::Unauthenticated),
        (
            "a path as node",
            &csr,
            CART,
            Some("../tokens/a.00"),
            Code::Unauthenticated,
        ),
        (
            "another node's secret",
            &csr,
            CART,
            Some(forged.as_str()),
            Code::Unauthenticated,
        ),
        (
            "a node without the pod",
            &csr,
            CART,
            Some(b.as_str()),
            Code::PermissionDenied,
        ),
        (
            "an identity that is not there",
            &csr,
            other,
            Some(a.as_str()),
            Code::PermissionDenied,
        ),
        (
            "no identity at all",
            &csr,
            "cart",
            Some(a.as_str()),
            Code::InvalidArgument,
        ),
        (
            "garbage for a request",
            "garbage",
            CART,
            Some(a.as_str()),
            Code::InvalidArgument,
        ),
    ] {
        let status = setup
            .service
            .create_certificate(request(csr, identity, token))
            .await
            .unwrap_err();
        assert_eq!(status.code(), code, "{what}: {}", status.message());
        assert!(!status.message().is_empty(), "{what} must be told why");
    }
}

#[test]
fn a_request_with_another_kind_of_key_is_refused() {
    let setup = setup();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .pem()
        .unwrap();
    let error = setup
        .authority
        .sign(&csr, &SpiffeId::parse(CART).unwrap(), Duration::from_secs(3600))
        .unwrap_err();
    assert!(matches!(error, sign::SignError::Key), "{error}");
}

#[test]
fn the_root_is_kept_and_its_key_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    assert_eq!(open(folder.path()).unwrap().own(), first.own());
    let mode = std::fs::metadata(folder.path().join("root.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_or_halved_root_is_named_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let open = |folder: &Path| open(folder).map(|_| ());
    open(folder.path()).unwrap();
    let (pem, key) = (folder.path().join("root.pem"), folder.path().join("root.key"));
    let good = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(
        matches!(open(folder.path()), Err(AuthorityError::Unusable { .. })),
        "a foreign key must be refused"
    );
    std::fs::write(&key, good).unwrap();
    std::fs::write(&pem, "not a certificate").unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("root.pem"), "{error}");
    std::fs::remove_file(&pem).unwrap();
    assert!(matches!(open(folder.path()), Err(AuthorityError::Half { .. })));
}

#[test]
fn nothing_is_signed_while_the_clock_is_outside_the_roots_validity() {
    let folder = tempfile::tempdir().unwrap();
    let root = open(folder.path()).unwrap();
    let now = time::OffsetDateTime::now_utc();
    root.check_clock(now).unwrap();
    for wrong in [now - time::Duration::days(1), now + time::Duration::days(4000)] {
        let error = root.check_clock(wrong).unwrap_err();
        assert!(error.to_string().contains("clock"), "{error}");
    }
}

#[test]
fn making_a_token_leaves_those_of_nodes_with_similar_names_alone() {
    let setup = setup();
    let (new, old) = (token(&setup.tokens, "rack.new"), token(&setup.tokens, "rack"));
    let other = token(&setup.tokens, "rack.b");
    for (node, token) in [("rack.new", new), ("rack", old), ("rack.b", other)] {
        assert_eq!(setup.tokens.find(&token).as_deref(), Some(node));
    }
}

#[test]
fn a_removed_token_file_revokes_the_token() {
    let setup = setup();
    let token = token(&setup.tokens, "a");
    assert_eq!(setup.tokens.find(&token).as_deref(), Some("a"));
    std::fs::remove_file(setup.tokens.issue("a").unwrap()).unwrap();
    assert_eq!(setup.tokens.find(&token), None);
    assert!(setup.tokens.issue("../escape").is_err());
    assert!(setup.tokens.issue("").is_err());
}

#[tokio::test]
async fn a_workloads_token_is_its_pods_and_its_accounts_and_of_use_for_its_own_identity_alone() {
    let setup = setup();
    let owner = TokenOwner {
        namespace: "shop".to_owned(),
        pod: "wp-1".to_owned(),
        account: "wp".to_owned(),
    };
    let file = setup.tokens.issue_workload(&owner).unwrap();
    assert_eq!(setup.tokens.issue_workload(&owner).unwrap(), file, "the same again");
    let token = std::fs::read_to_string(&file).unwrap();
    let who = async |token: &str| {
        let found = setup.tokens.authenticate(token, Source::default()).await;
        found.map(|found| found.caller)
    };
    let caller = who(&token).await.unwrap();
    let expected = Caller::Workload {
        namespace: "shop".to_owned(),
        account: "wp".to_owned(),
        pod: Some("wp-1".to_owned()),
        node: None,
    };
    assert_eq!(caller, expected);
    assert_eq!(caller.pod_name().as_deref(), Some("shop/wp-1"));

    // It is signed what it is, and nothing else; nodes' tokens are as they were.
    let own = "spiffe://cluster.local/ns/shop/sa/wp";
    let identity = SpiffeId::parse(own).unwrap();
    let csr = CertificateRequest::new(&identity).unwrap();
    assert!(
        setup
            .service
            .create_certificate(request(csr.csr_pem(), own, Some(&token)))
            .await
            .is_ok()
    );
    let other = setup
        .service
        .create_certificate(request(csr.csr_pem(), CART, Some(&token)))
        .await;
    assert_eq!(other.unwrap_err().code(), Code::PermissionDenied);
    let node = std::fs::read_to_string(setup.tokens.issue("a").unwrap()).unwrap();
    assert_eq!(who(&node).await, Ok(Caller::Node { name: "a".to_owned() }));

    // What somebody makes of it is nobody's; nor is the token of a file that is gone.
    for forged in [
        token.replace("/wp.", "/root."),
        token.replace("wp-1", "wp-2"),
        token.replace("shop", "../tokens"),
        token[..token.len() - 1].to_owned(),
        "workload/shop/wp-1.00".to_owned(),
        format!("{token}0"),
    ] {
        assert_eq!(who(&forged).await, Err(Unauthenticated::Unknown), "{forged}");
    }
    std::fs::remove_file(file).unwrap();
    assert_eq!(who(&token).await, Err(Unauthenticated::Unknown));
    for wrong in [
        ("", "a", "a"),
        ("shop", "../a", "a"),
        ("shop", "a", "A"),
        ("sh_op", "a", "a"),
    ] {
        let (namespace, pod, account) = wrong;
        let owner = TokenOwner {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            account: account.to_owned(),
        };
        assert!(setup.tokens.issue_workload(&owner).is_err(), "{wrong:?}");
    }
}
