//! Which tokens are accepted, with an API server whose answers the test decides.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use tonic::Code;

use super::*;

const HOUR: i64 = 3600;

fn unix() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A token whose claims are these, and whose signature is none.
fn token(claims: &serde_json::Value) -> String {
    let part = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        part("{}".into()),
        part(claims.to_string()),
        part("signature".into())
    )
}

fn good() -> String {
    token(
        &serde_json::json!({"aud": ["istio-ca"], "exp": unix() + HOUR, "nbf": unix() - 1, "iss": "here", "sub": USER}),
    )
}

fn pod() -> BoundPod {
    BoundPod {
        namespace: "culvert-system".into(),
        name: "culvert-node-x".into(),
        uid: "1-2-3".into(),
    }
}

fn accepted(user: &str, node: Option<&str>, pod: Option<BoundPod>) -> Answer {
    Answer::Accepted {
        user: user.into(),
        audiences: vec!["istio-ca".into()],
        node: node.map(str::to_owned),
        pod,
    }
}

const USER: &str = "system:serviceaccount:culvert-system:culvert-node";

#[derive(Clone)]
struct Server(Arc<Inner>);

struct Inner {
    answer: Mutex<Answer>,
    away: AtomicBool,
    asked: AtomicUsize,
}

#[tonic::async_trait]
impl Review for Server {
    async fn review(&self, _token: &str, audience: &str) -> Result<Answer, String> {
        assert_eq!(audience, "istio-ca");
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if self.0.away.load(Ordering::Relaxed) {
            return Err("connection refused".into());
        }
        Ok(self.0.answer.lock().clone())
    }
}

impl Server {
    fn new(answer: Answer) -> Self {
        Self(Arc::new(Inner {
            answer: Mutex::new(answer),
            away: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        }))
    }

    fn authenticator(&self) -> TokenReviewer<Self> {
        let accounts = ["culvert-system/culvert-node".parse().unwrap()];
        let node_of = |wanted: &BoundPod| (*wanted == pod()).then(|| "node-by-pod".to_owned());
        TokenReviewer::new(self.clone(), "istio-ca", &accounts, Box::new(node_of), Clock::system())
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }
}

fn node(name: &str) -> Caller {
    Caller::Node { name: name.into() }
}

fn from(last: u8) -> Source {
    Source(Some(([198, 18, 0, last], 4000).into()))
}

impl TokenReviewer<Server> {
    async fn node_of(&self, token: &str) -> Result<Caller, Unauthenticated> {
        Ok(self.authenticate(token, Source::default()).await?.caller)
    }
}

#[tokio::test]
async fn the_token_of_any_other_account_is_a_workloads_own() {
    let user = "system:serviceaccount:shop:cart";
    let server = Server::new(accepted(user, Some("node1"), Some(pod())));
    let token = token(&serde_json::json!({"aud": ["istio-ca"], "exp": unix() + HOUR, "iss": "here", "sub": user}));
    let found = server.authenticator().authenticate(&token, from(1)).await.unwrap();
    let workload = Caller::Workload {
        namespace: "shop".into(),
        account: "cart".into(),
        pod: Some(pod().name),
        node: Some("node1".into()),
    };
    assert_eq!(found.caller, workload);
    let expires = found.expires.unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!((unix() + HOUR - expires).abs() < 60, "{expires}");
    let own = found.caller.own_identity("cluster.local").unwrap();
    assert_eq!(own.as_str(), "spiffe://cluster.local/ns/shop/sa/cart");
    assert_eq!(node("node1").own_identity("cluster.local"), None);
}

/// M5: texts with the form of a token, each different, cost the API server little, and a node that was accepted before does
/// not wait behind them.
#[tokio::test]
async fn a_flood_of_tokens_is_limited_by_source_and_holds_up_no_node() {
    let server = Server::new(accepted(USER, Some("node1"), None));
    let authenticator = server.authenticator();
    authenticator.authenticate(&good(), from(1)).await.unwrap();
    *server.0.answer.lock() = Answer::Refused("invalid".into());
    let before = server.asked();
    let numbered = |number: usize| {
        token(&serde_json::json!({"aud": "istio-ca", "exp": unix() + HOUR, "iss": "x", "sub": USER, "jti": number}))
    };
    let mut limited = 0;
    for number in 0..200 {
        match authenticator
            .authenticate(&numbered(number), from(9))
            .await
            .unwrap_err()
        {
            Unauthenticated::TooMany(_) => limited += 1,
            error => assert!(matches!(error, Unauthenticated::Refused(_)), "{error}"),
        }
    }
    assert!(limited > 150, "{limited}");
    assert!(
        server.asked() - before < 50,
        "the API server was asked {} times",
        server.asked()
    );

    // All reviews for strangers are taken, and none of them is answered.
    let _taken = authenticator.others.acquire_many(OTHER_REVIEWS as u32).await.unwrap();
    *server.0.answer.lock() = accepted(USER, Some("node1"), None);
    let rotated = numbered(1000);
    let accepted = authenticator.authenticate(&rotated, from(1)).await.unwrap();
    assert_eq!(accepted.caller, node("node1"));
}

/// Claims that no API server could accept are not asked about.
#[tokio::test]
async fn what_cannot_be_accepted_never_reaches_the_api_server() {
    let server = Server::new(accepted(USER, Some("node1"), None));
    let authenticator = server.authenticator();
    let claims = serde_json::json!({"aud": "istio-ca", "exp": unix() + HOUR, "iss": "here", "sub": USER});
    let without = |key: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        token(&claims)
    };
    for (what, token) in [
        ("expired", without("exp", (unix() - 1).into())),
        ("without an end", without("exp", serde_json::Value::Null)),
        ("another audience", without("aud", "vault".into())),
        ("no issuer", without("iss", "".into())),
        ("no service account", without("sub", "admin".into())),
    ] {
        let error = authenticator.authenticate(&token, from(1)).await.unwrap_err();
        assert!(matches!(error, Unauthenticated::Refused(_)), "{what}: {error}");
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn the_node_is_the_one_that_the_api_server_names_and_else_the_pods() {
    let by_name = Server::new(accepted(USER, Some("node1"), Some(pod())));
    assert_eq!(by_name.authenticator().node_of(&good()).await.unwrap(), node("node1"));
    let by_pod = Server::new(accepted(USER, None, Some(pod())));
    assert_eq!(
        by_pod.authenticator().node_of(&good()).await.unwrap(),
        node("node-by-pod")
    );
}

#[tokio::test]
async fn each_other_token_is_refused_with_its_own_reason() {
    let foreign = Answer::Refused("[invalid bearer token, invalid issuer]".into());
    let earlier = BoundPod {
        uid: "another".into(),
        ..pod()
    };
    let cases = [
        (good(), foreign.clone(), "invalid issuer"),
        (good(), accepted("admin", Some("node1"), None), "admin"),
        (good(), accepted(USER, None, None), "bound to no pod"),
        (good(), accepted(USER, None, Some(earlier)), "uid another"),
        (
            good(),
            Answer::Accepted {
                user: USER.into(),
                audiences: vec![],
                node: Some("node1".into()),
                pod: None,
            },
            "meant for us",
        ),
        (
            token(&serde_json::json!({"aud": "istio-ca", "exp": unix() - 1})),
            foreign.clone(),
            "it expired at",
        ),
        (
            token(
                &serde_json::json!({"aud": "istio-ca", "exp": unix() + 2 * HOUR, "nbf": unix() + HOUR, "iss": "here", "sub": USER}),
            ),
            foreign.clone(),
            "not yet valid",
        ),
        (
            token(&serde_json::json!({"aud": ["vault"], "exp": unix() + HOUR})),
            foreign.clone(),
            "audience \"vault\", not for `istio-ca`",
        ),
    ];
    for (token, answer, reason) in cases {
        let error = Server::new(answer).authenticator().node_of(&token).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error} does not say {reason}");
        assert!(
            !error.to_string().contains(&token),
            "the token itself is nobody's to see"
        );
        assert_eq!(tonic::Status::from(error).code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn what_is_no_token_never_reaches_the_api_server() {
    let server = Server::new(accepted(USER, Some("node1"), None));
    let authenticator = server.authenticator();
    let long = format!("a.{}.c", "e30".repeat(10_000));
    for garbage in [
        "",
        "a",
        "a.b",
        "a.b.c.d",
        "a.!!.c",
        "a.W10.c",
        "node1.0123",
        long.as_str(),
    ] {
        let error = authenticator.node_of(garbage).await.unwrap_err();
        assert!(matches!(error, Unauthenticated::Refused(_)), "{garbage}: {error}");
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn many_requests_with_one_token_are_one_review() {
    let server = Server::new(accepted(USER, Some("node1"), None));
    let authenticator = server.authenticator();
    let token = good();
    let asking = (0..100).map(|_| authenticator.node_of(&token));
    for caller in futures_util::future::join_all(asking).await {
        assert_eq!(caller.unwrap(), node("node1"));
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn while_the_api_server_is_away_only_tokens_accepted_before_are_accepted() {
    let server = Server::new(accepted(USER, Some("node1"), None));
    let authenticator = server.authenticator();
    let token = good();
    assert_eq!(authenticator.node_of(&token).await.unwrap(), node("node1"));
    server.0.away.store(true, Ordering::Relaxed);
    stale(&authenticator, &token).await;
    assert_eq!(authenticator.node_of(&token).await.unwrap(), node("node1"));
    assert_eq!(server.asked(), 2, "it was asked again and could not answer");
    assert_eq!(authenticator.node_of(&token).await.unwrap(), node("node1"));
    assert_eq!(server.asked(), 2, "and is left alone for a while");

    let new = self::token(
        &serde_json::json!({"aud": "istio-ca", "exp": unix() + HOUR, "jti": "new", "iss": "here", "sub": USER}),
    );
    let error = authenticator.node_of(&new).await.unwrap_err();
    assert_eq!(tonic::Status::from(error).code(), Code::Unavailable);

    // It is back, and says that the pod is gone.
    server.0.away.store(false, Ordering::Relaxed);
    *server.0.answer.lock() = Answer::Refused("pod is gone".into());
    stale(&authenticator, &token).await;
    assert!(
        authenticator
            .node_of(&token)
            .await
            .unwrap_err()
            .to_string()
            .contains("pod is gone")
    );
}

/// Makes what is remembered of a token old enough to be asked about again.
async fn stale(authenticator: &TokenReviewer<Server>, token: &str) {
    let slot = authenticator.cache.slot(token, SystemTime::now());
    let mut verdict = slot.lock().await;
    let earlier = verdict.take().unwrap();
    let begin = SystemTime::now() - Duration::from_secs(120);
    *verdict = Some(Verdict::new(
        earlier.outcome,
        Some(SystemTime::now() + Duration::from_secs(600)),
        begin,
    ));
}
