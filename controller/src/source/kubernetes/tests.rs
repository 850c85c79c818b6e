//! An API server of a few answers, and what is made of them.

use std::collections::HashMap;
use std::net::SocketAddr;

use culvert_objects::{ObjectName, Presence};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Objects by the last part of the path, two to a page. Kinds that are not there are not found. A watch ends at once, and the
/// next has to list again.
#[derive(Clone, Default)]
struct ApiServer {
    objects: Arc<Mutex<HashMap<&'static str, Vec<Value>>>>,
    /// Groups, versions and plural names that discovery tells; none is an API server that does not know this question.
    offers: Arc<Mutex<Option<Vec<[&'static str; 3]>>>>,
    /// Plural names of what may not be listed.
    forbidden: Arc<Mutex<Vec<&'static str>>>,
    /// Paths that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl ApiServer {
    async fn start(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().answer(stream));
            }
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let uri = format!("http://{address}").parse().unwrap();
        Client::try_from(kube::Config::new(uri)).unwrap()
    }

    fn set(&self, plural: &'static str, objects: Option<Vec<Value>>) {
        let mut all = self.objects.lock();
        match objects {
            Some(objects) => drop(all.insert(plural, objects)),
            None => drop(all.remove(plural)),
        }
    }

    async fn answer(self, mut stream: TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return,
            }
        }
        let line = String::from_utf8(request).unwrap();
        let target = line.split_whitespace().nth(1).unwrap().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        self.asked.lock().push(path.to_owned());
        let plural = path.rsplit('/').next().unwrap();
        if let Some((namespace, name)) = one_config_map(path) {
            let found = self
                .objects
                .lock()
                .get("configmaps")
                .cloned()
                .unwrap_or_default()
                .into_iter();
            let mut found =
                found.filter(|map| map["metadata"]["namespace"] == namespace && map["metadata"]["name"] == name);
            let missing =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"});
            let (status, body) = match found.next() {
                Some(map) => ("200 OK", map),
                None => ("404 Not Found", missing),
            };
            return send(stream, status, &body.to_string()).await;
        }
        let objects = self.objects.lock().get(plural).cloned();
        let offers = self.offers.lock().clone().filter(|_| path == "/apis");
        let (status, body) = match objects {
            _ if offers.is_some() => ("200 OK", discovery(&offers.unwrap()).to_string()),
            _ if self.forbidden.lock().contains(&plural) => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden"});
                ("403 Forbidden", status.to_string())
            }
            None => ("404 Not Found", "404 page not found".to_owned()),
            Some(_) if query.contains("watch=true") => {
                let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"});
                ("200 OK", json!({"type": "ERROR", "object": gone}).to_string() + "\n")
            }
            Some(mut objects) => {
                let named = query
                    .split('&')
                    .find_map(|part| part.strip_prefix("fieldSelector=metadata.name%3D"));
                objects.retain(|object| named.is_none_or(|name| object["metadata"]["name"] == name));
                let token = query.split('&').find_map(|part| part.strip_prefix("continue="));
                let from = token.map_or(0, |token| token.parse().unwrap());
                let rest = from + 2 < objects.len();
                let page: Vec<Value> = objects.into_iter().skip(from).take(2).collect();
                let token = if rest { (from + 2).to_string() } else { String::new() };
                let metadata = json!({"resourceVersion": "1", "continue": token});
                // As the real one does where only metadata is asked for.
                let items = if page.is_empty() { Value::Null } else { page.into() };
                ("200 OK", json!({"metadata": metadata, "items": items}).to_string())
            }
        };
        send(stream, status, &body).await;
    }
}

async fn send(mut stream: TcpStream, status: &str, body: &str) {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// The namespace and the name of the one ConfigMap that is asked for, if one is.
fn one_config_map(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("/api/v1/namespaces/")?.split_once("/configmaps/")
}

fn discovery(offers: &[[&str; 3]]) -> Value {
    let group = |[group, version, plural]: &[&str; 3]| json!({"metadata": {"name": group}, "versions": [{"version": version, "resources": [{"resource": plural}]}]});
    let items: Vec<Value> = offers.iter().map(group).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items})
}

fn small() -> ApiServer {
    let server = ApiServer::default();
    for plural in [
        "configmaps",
        "namespaces",
        "nodes",
        "serviceaccounts",
        "services",
        "endpointslices",
        "pods",
    ] {
        server.set(plural, Some(Vec::new()));
    }
    server.set("namespaces", Some(vec![json!({"metadata": {"name": "shop"}})]));
    let account = json!({"metadata": {"name": "default", "namespace": "shop"}});
    server.set("serviceaccounts", Some(vec![account]));
    server
}

async fn until(loaded: &mut watch::Receiver<Arc<Loaded>>, what: impl FnMut(&Arc<Loaded>) -> bool) -> Arc<Loaded> {
    let found = tokio::time::timeout(PATIENCE, loaded.wait_for(what)).await;
    Arc::clone(&found.expect("it does not come").unwrap())
}

/// One such object kept every list and watch of its kind from ever ending.
#[tokio::test]
async fn an_object_that_cannot_be_read_is_a_finding_and_stops_nobody() {
    let server = small();
    let pod =
        |name: &str, time: &str| json!({"metadata": {"name": name, "namespace": "shop", "creationTimestamp": time}});
    let good = "2026-01-01T00:00:00Z";
    let pods = vec![
        pod("a", good),
        pod("b", "9999-12-31T23:59:59Z"),
        pod("c", good),
        pod("d", good),
        pod("e", good),
    ];
    server.set("pods", Some(pods.clone()));
    let mut loaded = follow(&server.start().await, &Health::default());
    let all = until(&mut loaded, |loaded| {
        loaded.generation > 0 && loaded.objects.pods.len() == 4
    })
    .await;
    let findings: Vec<String> = all.findings.keys().map(|finding| finding.to_string()).collect();
    assert!(
        findings.len() == 1 && findings[0].starts_with("Pod shop/b: metadata.creationTimestamp: "),
        "{findings:?}"
    );
    server.set(
        "pods",
        Some(pods.into_iter().filter(|pod| pod["metadata"]["name"] != "b").collect()),
    );
    until(&mut loaded, |loaded| loaded.findings.is_empty()).await;
}

/// CRDs are installed and removed while the controller runs.
#[tokio::test]
async fn a_kind_that_a_cluster_need_not_have_comes_and_goes() {
    let server = small();
    let health = Health::default();
    let mut loaded = follow_looking(&server.start().await, &health, Duration::from_millis(20));
    until(&mut loaded, |loaded| loaded.generation > 0).await;
    assert!(health.missing().is_empty(), "{:?}", health.missing());
    let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["198.19.0.0/16"]}});
    server.set("servicecidrs", Some(vec![range]));
    let name = ObjectName::cluster("kubernetes");
    until(&mut loaded, |loaded| loaded.objects.service_cidrs.contains_key(&name)).await;
    server.set("servicecidrs", None);
    until(&mut loaded, |loaded| loaded.objects.service_cidrs.is_empty()).await;
    assert!(health.missing().is_empty());
}

/// The controller may read none but these.
#[tokio::test]
async fn config_maps_are_followed_by_name_and_one_that_cannot_be_read_leaves_the_last_good_one_in_force() {
    let server = small();
    let map = |name: &str, mesh: &str| json!({"metadata": {"name": name, "namespace": "shop", "uid": "u"}, "data": {"mesh": mesh}});
    let provider = |name: &str| format!("extensionProviders: [{{name: {name}, prometheus: {{}}}}]");
    server.set(
        "configmaps",
        Some(vec![
            map("culvert-mesh", &provider("a")),
            map("istio", &provider("b")),
            map("other", ""),
        ]),
    );
    let mut loaded = follow_looking(&server.start().await, &Health::default(), Duration::from_millis(20));
    let all = until(&mut loaded, |loaded| loaded.generation > 0).await;
    let names: Vec<String> = all.objects.config_maps.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["shop/culvert-mesh", "shop/istio"]);

    server.set("configmaps", Some(vec![map("culvert-mesh", "a: [")]));
    let all = until(&mut loaded, |loaded| {
        !loaded.findings.is_empty() && loaded.objects.config_maps.len() == 1
    })
    .await;
    let kept = all.objects.config_maps.values().next().unwrap();
    assert_eq!(kept.mesh.as_ref().unwrap().providers[0].name, "a");
}

/// The controller may list none of them.
#[tokio::test]
async fn a_config_map_that_a_policy_names_is_read_by_itself_before_anything_is_published_and_again() {
    let server = small();
    let map = |name: &str, pem: &str| json!({"metadata": {"name": name, "namespace": "shop", "uid": "u"}, "data": {"ca.crt": pem}});
    server.set("configmaps", Some(vec![map("ca", "one"), map("other", "x")]));
    let references =
        json!([{"group": "", "kind": "ConfigMap", "name": "ca"}, {"group": "", "kind": "ConfigMap", "name": "gone"}]);
    let policy = json!({
        "metadata": {"name": "a", "namespace": "shop", "uid": "u"},
        "spec": {"targetRefs": [], "validation": {"hostname": "a", "caCertificateRefs": references}},
    });
    server.set("backendtlspolicies", Some(vec![policy]));
    let mut loaded = follow_looking(&server.start().await, &Health::default(), Duration::from_millis(20));
    let all = until(&mut loaded, |loaded| loaded.generation > 0).await;
    let pems = |loaded: &Loaded| -> Vec<String> {
        let maps = loaded.objects.config_maps.iter();
        maps.map(|(name, map)| format!("{name} {}", map.authorities.as_deref().unwrap_or_default()))
            .collect()
    };
    assert_eq!(pems(&all), ["shop/ca one"]);
    server.set("configmaps", Some(vec![map("ca", "two")]));
    until(&mut loaded, |loaded| pems(loaded) == ["shop/ca two"]).await;
    server.set("configmaps", Some(Vec::new()));
    until(&mut loaded, |loaded| pems(loaded).is_empty()).await;
    server.set("configmaps", Some(vec![map("ca", "three")]));
    until(&mut loaded, |loaded| pems(loaded) == ["shop/ca three"]).await;
    server.set("backendtlspolicies", Some(Vec::new()));
    until(&mut loaded, |loaded| pems(loaded).is_empty()).await;
}

/// There are many kinds of others. A cluster without them is asked one question now and then, not one for each.
#[tokio::test]
async fn kinds_that_are_not_there_cost_no_request_each_and_one_that_comes_is_followed_in_the_version_that_there_is() {
    let server = small();
    *server.offers.lock() = Some(Vec::new());
    let mut loaded = follow_looking(&server.start().await, &Health::default(), Duration::from_millis(20));
    until(&mut loaded, |loaded| loaded.generation > 0).await;
    let asked = |path: &str| server.asked.lock().iter().filter(|asked| *asked == path).count();
    while asked("/apis") < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let optional = Kind::followed()
        .map(Kind::descriptor)
        .filter(|kind| kind.presence == Presence::Optional);
    for kind in optional {
        // What may keep somebody out is asked for once, whatever is offered.
        let times = asked(&format!("/apis/{}/{}", kind.api_version(), kind.plural));
        assert_eq!(times, usize::from(kind.is_relied_on()), "{}", kind.title);
    }

    let route = json!({"metadata": {"name": "db", "namespace": "shop", "uid": "u"}});
    server.set("udproutes", Some(vec![route]));
    *server.offers.lock() = Some(vec![["gateway.networking.k8s.io", "v1alpha2", "udproutes"]]);
    let all = until(&mut loaded, |loaded| !loaded.objects.udp_routes.is_empty()).await;
    assert!(asked("/apis/gateway.networking.k8s.io/v1alpha2/udproutes") > 0);
    let findings: Vec<String> = all.findings.keys().map(|finding| finding.to_string()).collect();
    assert!(
        findings.len() == 1 && findings[0].starts_with("UDPRoute shop/db: kind: UDPRoute is not served: "),
        "{findings:?}"
    );
    server.set("udproutes", None);
    *server.offers.lock() = Some(Vec::new());
    until(&mut loaded, |loaded| {
        loaded.objects.udp_routes.is_empty() && loaded.findings.is_empty()
    })
    .await;
}

/// Without them everything would be let in.
#[tokio::test]
async fn policies_that_may_not_be_listed_or_are_not_offered_are_not_taken_for_gone() {
    const PATH: &str = "/apis/security.istio.io/v1/authorizationpolicies";
    let server = small();
    let policy = json!({"metadata": {"name": "only", "namespace": "shop", "uid": "u"}, "spec": {}});
    server.set("authorizationpolicies", Some(vec![policy]));
    server.forbidden.lock().push("authorizationpolicies");
    let health = Health::default();
    let mut loaded = follow_looking(&server.start().await, &health, Duration::from_millis(20));
    let asked = || server.asked.lock().iter().filter(|asked| *asked == PATH).count();
    let ask_more = async |times: usize| {
        let until = asked() + times;
        while asked() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    ask_more(3).await;
    assert_eq!(
        loaded.borrow().generation,
        0,
        "nothing is served before it is known who may do what"
    );
    assert_eq!(health.missing(), ["AuthorizationPolicy"]);

    server.forbidden.lock().clear();
    until(&mut loaded, |loaded| !loaded.objects.authorization_policies.is_empty()).await;
    server.forbidden.lock().push("authorizationpolicies");
    ask_more(3).await;
    assert_eq!(loaded.borrow().objects.authorization_policies.len(), 1);

    server.forbidden.lock().clear();
    *server.offers.lock() = Some(Vec::new());
    ask_more(5).await;
    assert_eq!(
        loaded.borrow().objects.authorization_policies.len(),
        1,
        "an API server that starts offers less"
    );
    server.set("authorizationpolicies", None);
    until(&mut loaded, |loaded| loaded.objects.authorization_policies.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_comes_alone_is_told_at_once_and_a_burst_in_few_snapshots() {
    let (feed, mut loaded) = crate::source::feed::feed();
    feed.complete().await;
    until(&mut loaded, |loaded| loaded.generation > 0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let namespace = |number: usize| json!({"metadata": {"name": format!("n{number}")}});
    let begin = Instant::now();
    feed.apply(Kind::Namespace, namespace(0)).await;
    let alone = until(&mut loaded, |loaded| loaded.objects.namespaces.len() == 1).await;
    assert_eq!(begin.elapsed(), Duration::ZERO, "no timer is waited for");
    for number in 1..100 {
        feed.apply(Kind::Namespace, namespace(number)).await;
    }
    let burst = until(&mut loaded, |loaded| loaded.objects.namespaces.len() == 100).await;
    assert_eq!(burst.generation, alone.generation + 1);
}
