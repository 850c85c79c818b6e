//! What proxies refuse, from their streams to where people see it: findings of a directory, and on a real API server the status of the
//! objects that the resource was made of.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use culvert_envoy::ROUTE_TYPE;
use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use serde_json::{Value, json};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::authority::{Lab, pod};
use crate::client::{AUTHORIZATION_TYPE, Client, connected, first, reply};
use crate::process::{Controller, PATIENCE};

const POLICY: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, rules: [{from: [{source: {namespaces: [SOURCE]}}]}]}
";

const REFUSED: &str = "culvert_controller_xds_refused_resources";

#[tokio::test]
async fn what_a_nodes_proxy_refuses_is_a_finding_of_its_object_until_it_takes_it() {
    let controller = Controller::start(&POLICY.replace("SOURCE", "a"));
    let mut client = Client::connect(&controller, "node1").await;
    client.send(first(AUTHORIZATION_TYPE)).await;
    let response = client.receive().await;
    client.send(reply(&response, Some("shop/only: no such thing"))).await;
    let is_said = |page: &Value| {
        let text = page.to_string();
        text.contains("AuthorizationPolicy shop/only") && text.contains("the proxy of node node1 refuses")
    };
    let page = controller.until("/findings", is_said).await;
    assert!(
        page.to_string()
            .contains("no such thing (what it had of it before stays in force)"),
        "{page:#}"
    );
    assert_eq!(controller.metric(REFUSED), 1.0);
    controller.write(&POLICY.replace("SOURCE", "b"));
    client.next().await;
    controller.until("/findings", |page| !is_said(page)).await;
    assert_eq!(controller.metric(REFUSED), 0.0);
}

const SHOP: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: proxy, namespace: shop}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
";

const WEB: &str = "shop/wp/shop/web.shop.svc.cluster.local:80";
const NOTES: &str = "culvert-controller-refusals";

fn route(name: &str, path: &str) -> String {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web", "port": 80 }],
            "rules": [{ "matches": [{ "path": { "value": path } }], "backendRefs": [{ "name": "web", "port": 80 }] }],
        },
    })
    .to_string()
}

/// A cluster with the kinds that are needed, a waypoint's pod, and the controller's roles; and a kubeconfig of the controller's account, so
/// that it may do what the roles grant and no more.
struct Shop {
    lab: Lab,
    kubeconfig: PathBuf,
    token: String,
    _dir: tempfile::TempDir,
}

impl Shop {
    fn open() -> Self {
        let lab = Lab::up("refusals");
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
        let kinds = target.join("crds/gateway-api/experimental");
        lab.run(&["apply", "--server-side", "-f", kinds.to_str().unwrap()]);
        lab.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
        for namespace in ["shop", "culvert-system"] {
            lab.run(&["create", "namespace", namespace]);
        }
        let roles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/daemonset/controller-rbac.yaml");
        lab.run(&["apply", "-f", roles.to_str().unwrap()]);
        lab.apply(SHOP);
        let proxy = pod("shop", "wp-1", "proxy", "node1");
        let label = "namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: wp}";
        lab.apply(&proxy.replace("namespace: shop", label));
        lab.apply(&route("a", "/a"));
        let token = [
            "create",
            "token",
            "proxy",
            "-n",
            "shop",
            "--audience=istio-ca",
            "--bound-object-kind=Pod",
            "--bound-object-name=wp-1",
        ];
        let token = lab.run(&token).trim().to_owned();
        let mut config: Value = serde_yaml_ng::from_slice(&std::fs::read(lab.kubeconfig()).unwrap()).unwrap();
        for user in config["users"].as_array_mut().unwrap() {
            user["user"]["as"] = "system:serviceaccount:culvert-system:culvert-controller".into();
            user["user"]["as-groups"] = json!(["system:serviceaccounts", "system:authenticated"]);
        }
        let dir = tempfile::TempDir::new().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self {
            lab,
            kubeconfig,
            token,
            _dir: dir,
        }
    }

    fn controller(&self, replica: &str) -> Controller {
        Controller::start_on(&self.kubeconfig, &["--replica", replica])
    }

    /// The waypoint's stream, and the first answer to it, which is not answered.
    async fn stream(&self, controller: &Controller) -> (Client, DeltaDiscoveryResponse) {
        self.until("the roots", || !controller.get("/root.pem").is_empty())
            .await;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(controller.get("/root.pem")))
            .domain_name("culvert-controller.culvert-system.svc");
        let endpoint = Endpoint::from_shared(format!("https://{}", controller.xds)).unwrap();
        let channel = connected(&endpoint.tls_config(tls).unwrap()).await;
        let mut client = Client::over(channel, &self.token).await.unwrap();
        client
            .send(DeltaDiscoveryRequest {
                resource_names_subscribe: vec![WEB.to_owned()],
                ..first(ROUTE_TYPE)
            })
            .await;
        let response = client.receive().await;
        assert_eq!(response.resources[0].name, WEB);
        (client, response)
    }

    fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.lab.run(&["get", kind, name, "-n", "shop", "-o", "json"])).unwrap()
    }

    /// The replicas that have written something down.
    fn notes(&self) -> Vec<String> {
        let there = [
            "get",
            "configmap",
            NOTES,
            "-n",
            "culvert-system",
            "--ignore-not-found",
            "-o",
            "json",
        ];
        let object: Value = serde_json::from_str(&self.lab.run(&there)).unwrap_or_default();
        let data = object["data"].as_object();
        data.into_iter().flat_map(|data| data.keys().cloned()).collect()
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let begin = Instant::now();
        while !condition() {
            let seen = || format!("{:#}\n{:?}", self.get("httproute", "a")["status"], self.notes());
            assert!(begin.elapsed() < 2 * PATIENCE, "{what} does not come about: {}", seen());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Until the route and the Gateway say that they are refused, or say nothing of it.
    async fn until_refused(&self, is_refused: bool) {
        self.until(&format!("refused: {is_refused}"), || {
            let (route, gateway) = (self.get("httproute", "a"), self.get("gateway", "wp"));
            let of_route = in_force(&route["status"]["parents"][0]);
            let of_gateway = in_force(&gateway["status"]);
            [of_route, of_gateway]
                .into_iter()
                .all(|said| said.is_some() == is_refused)
        })
        .await;
    }
}

/// The message of the condition, which is there only where something is refused.
fn in_force(status: &Value) -> Option<String> {
    let mut conditions = status["conditions"].as_array()?.iter();
    let found = conditions.find(|one| one["type"] == "culvert.dev/InForce")?;
    assert_eq!(
        (&found["status"], &found["reason"]),
        (&json!("False"), &json!("RefusedByProxy"))
    );
    Some(found["message"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
async fn what_a_waypoint_refuses_is_in_the_status_of_its_objects_until_it_takes_it_whichever_replica_it_is_connected_to()
 {
    let shop = Shop::open();
    let mut leader = shop.controller("first");
    shop.until("a leader", || leader.metric("culvert_controller_leader") == 1.0)
        .await;
    let mut other = shop.controller("second");

    // By the replica that does not write.
    let (mut client, response) = shop.stream(&other).await;
    client.send(reply(&response, Some("no such thing"))).await;
    shop.until_refused(true).await;
    let route_a = shop.get("httproute", "a");
    let message = in_force(&route_a["status"]["parents"][0]).unwrap();
    assert_eq!(
        message,
        format!(
            "the waypoint shop/wp refuses RouteConfiguration {WEB}: no such thing (what it had of it before stays in force)"
        )
    );
    assert_eq!(shop.notes().len(), 1, "each replica writes what is its own");
    assert_eq!(leader.metric(REFUSED), 1.0);

    shop.lab.apply(&route("a", "/other"));
    client.next().await;
    shop.until_refused(false).await;
    shop.until("the key to go", || shop.notes().is_empty()).await;

    // Streams end and replicas go, one after the other: the condition stays as it is.
    shop.lab.apply(&route("a", "/again"));
    let response = client.receive().await;
    client.send(reply(&response, Some("no such thing"))).await;
    shop.until_refused(true).await;
    let before = shop.get("httproute", "a")["metadata"]["resourceVersion"].clone();
    drop(client);
    other.terminate();
    other.ended().await;
    let (client, response) = shop.stream(&leader).await;
    client.send(reply(&response, Some("no such thing"))).await;
    shop.until("the key of the other replica", || shop.notes().len() == 2)
        .await;
    leader.terminate();
    leader.ended().await;
    drop(client);
    let third = shop.controller("third");
    shop.lab.apply(&route("b", "/b"));
    shop.until("a new leader to write", || {
        shop.get("httproute", "b")["status"]["parents"].is_array()
    })
    .await;
    assert_eq!(third.metric("culvert_controller_leader"), 1.0);
    assert_eq!(shop.get("httproute", "a")["metadata"]["resourceVersion"], before);
}
