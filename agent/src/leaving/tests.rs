use std::{collections::BTreeMap, net::SocketAddr};

use kube::Config;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::source::{PodName, PodSpec};

struct Once(Option<Arc<Snapshot>>);

impl PodSource for Once {
    async fn next(&mut self) -> Option<Arc<Snapshot>> {
        match self.0.take() {
            Some(snapshot) => Some(snapshot),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn pods_leave_when_told_to_and_come_back() {
    let spec = PodSpec {
        uid: "u".into(),
        name: PodName {
            namespace: "n".into(),
            name: "p".into(),
        },
        service_account: "default".into(),
        addresses: vec![[198, 18, 0, 1].into()],
        netns: "/run/netns/p".into(),
        hold: culvert_objects::Hold::None,
        hold_problem: None,
        fallback: culvert_objects::Fallback::None,
        fallback_problem: None,
        same_node: culvert_objects::SameNode::Proxy,
        same_node_problem: None,
        dns: None,
        dns_problem: None,
    };
    let snapshot = Snapshot {
        wanted: vec![spec],
        ..Snapshot::default()
    };
    let (leave, told) = watch::channel(false);
    let mut source = Leaving::new(Once(Some(Arc::new(snapshot))), told);
    assert_eq!(source.next().await.unwrap().wanted.len(), 1);
    leave.send_replace(true);
    let left = source.next().await.unwrap();
    assert!(left.wanted.is_empty() && left.complete);
    assert_eq!(left.outside.len(), 1, "the pod is still shown");
    leave.send_replace(false);
    assert_eq!(source.next().await.unwrap().wanted.len(), 1);
}

#[tokio::test]
async fn an_agent_that_knows_no_pod_yet_still_throws_out_what_its_predecessor_enrolled() {
    let (leave, told) = watch::channel(false);
    let mut source = Leaving::new(Once(None), told);
    leave.send_replace(true);
    assert!(source.next().await.unwrap().complete);
}

/// An API server that knows an answer to some paths; a watch gets a list's events and stays open.
struct ApiServer {
    address: SocketAddr,
}

type Answers = BTreeMap<&'static str, (u16, Value)>;

const SET: &str = "/apis/apps/v1/namespaces/culvert-system/daemonsets/culvert-node";
const SETS: &str = "/apis/apps/v1/namespaces/culvert-system/daemonsets";
const NAMESPACE: &str = "/api/v1/namespaces/culvert-system";
const NAMESPACES: &str = "/api/v1/namespaces";

impl ApiServer {
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(answers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&answers)));
            }
        });
        Self { address }
    }

    fn client(&self) -> Client {
        Client::try_from(Config::new(format!("http://{}", self.address).parse().unwrap())).unwrap()
    }
}

async fn converse(mut stream: TcpStream, answers: Arc<Answers>) {
    let mut lines = BufReader::new(&mut stream).lines();
    let first = lines.next_line().await.unwrap().unwrap_or_default();
    while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "No", "code": 404 });
    let (code, mut body) = answers.get(path).cloned().unwrap_or((404, status));
    if code >= 400 {
        body["code"] = code.into();
    }
    let events = body.as_object_mut().and_then(|body| body.remove("events"));
    let is_watch = query.contains("watch=true");
    let body = if is_watch { String::new() } else { body.to_string() };
    let length = if is_watch {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let head =
        format!("HTTP/1.1 {code} X\r\nContent-Type: application/json\r\n{length}Connection: close\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).await.unwrap();
    if is_watch {
        for event in events.iter().flat_map(|events| events.as_array().unwrap()) {
            stream.write_all(format!("{event}\n").as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await;
    }
}

fn object(kind: &str, name: &str, metadata: Value) -> Value {
    let mut object = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": metadata });
    object["metadata"]["name"] = name.into();
    object["metadata"]["resourceVersion"] = "7".into();
    object
}

fn failure(code: u16) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "Other" };
    let status =
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason });
    (code, status)
}

/// Report of a user of another mesh, and what `helm uninstall` does: the rights are gone before the agent can ask.
#[tokio::test]
async fn a_removal_is_told_from_an_answer_that_is_missing() {
    let set = |metadata| (200, object("PartialObjectMetadata", "culvert-node", metadata));
    let namespace = |metadata| (200, object("PartialObjectMetadata", "culvert-system", metadata));
    let going = json!({ "deletionTimestamp": "2026-11-29T12:00:00Z" });
    for (heard, of_set, of_namespace, expected) in [
        (OwnSet::Gone, failure(403), failure(403), Removal::Removed),
        (OwnSet::Present, set(json!({})), namespace(json!({})), Removal::Stays),
        (
            OwnSet::Present,
            set(going.clone()),
            namespace(json!({})),
            Removal::Removed,
        ),
        (OwnSet::Unknown, failure(404), namespace(json!({})), Removal::Removed),
        (OwnSet::Present, failure(500), failure(500), Removal::Stays),
        // One right that is missing is a mistake in the roles.
        (OwnSet::Present, failure(403), namespace(json!({})), Removal::Stays),
        (OwnSet::Present, failure(403), namespace(going), Removal::Removed),
        (OwnSet::Present, failure(403), failure(500), Removal::Stays),
        (OwnSet::Present, failure(401), failure(404), Removal::Removed),
        (OwnSet::Present, failure(401), failure(401), Removal::RightsGone),
        (OwnSet::Present, failure(403), failure(403), Removal::RightsGone),
    ] {
        let said = format!("{heard:?} {} {}", of_set.0, of_namespace.0);
        let server = ApiServer::start([(SET, of_set), (NAMESPACE, of_namespace)].into()).await;
        let removal = ask(server.client(), "culvert-system", "culvert-node", heard).await;
        assert_eq!(removal, expected, "{said}");
    }
}

#[tokio::test]
async fn a_daemonset_that_is_deleted_is_noticed_while_it_is_watched() {
    let set = |metadata| object("PartialObjectMetadata", "culvert-node", metadata);
    let list = |items: Value, events: Value| {
        let metadata = json!({ "resourceVersion": "7" });
        (
            200,
            json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items, "events": events }),
        )
    };
    let namespaces = list(
        json!([object("PartialObjectMetadata", "culvert-system", json!({}))]),
        json!([]),
    );
    let annotated = json!({ "annotations": { ANNOTATION: "true" } });
    let deleted = json!([{ "type": "DELETED", "object": set(json!({})) }]);
    for (sets, own_then, leaves) in [
        (list(json!([set(json!({}))]), json!([])), OwnSet::Present, false),
        (list(json!([set(json!({}))]), deleted), OwnSet::Gone, false),
        (list(json!([]), json!([])), OwnSet::Gone, false),
        (list(json!([set(annotated)]), json!([])), OwnSet::Present, true),
    ] {
        let server = ApiServer::start([(SETS, sets), (NAMESPACES, namespaces.clone())].into()).await;
        let (leave, own) = (watch::Sender::new(false), watch::Sender::new(OwnSet::Unknown));
        let (mut heard_leave, mut heard_own) = (leave.subscribe(), own.subscribe());
        let until = async {
            heard_own.wait_for(|own| *own == own_then).await.unwrap();
            heard_leave.wait_for(|leave| *leave == leaves).await.unwrap();
        };
        tokio::select! {
            () = follow(server.client(), "culvert-system", "culvert-node", &leave, &own) => panic!("it ended"),
            () = until => {}
        }
    }
}
