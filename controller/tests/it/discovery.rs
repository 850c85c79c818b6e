//! Discovery over the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use culvert_controller::model::{Model, Settings};
use culvert_objects::Directory;
use culvert_proto::{RANGES_ALIAS, WILDCARDS_ALIAS};
use serde_json::Value;
use tempfile::TempDir;

use crate::cases;
use crate::client::{ADDRESS_TYPE, AUTHORIZATION_TYPE, Client, aliases, first, names, rendered, reply};
use crate::process::Controller;

const NODE: &str = "node-a";

fn namespace() -> String {
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {culvert.dev/mesh: ambient}}\n".to_owned()
}

fn pod(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\nspec: {{nodeName: node-b}}\n\
         status: {{podIP: {address}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
    )
}

fn service(name: &str, address: &str, selects: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {address}, selector: {{app: {selects}}}, ports: [{{port: 80, targetPort: 8080}}]}}\n"
    )
}

#[tokio::test]
async fn wildcard_agrees_with_the_recordings() {
    for case in cases::cases() {
        let (config, state) = (cases::directory(&case), TempDir::new().unwrap());
        let controller = Controller::start_in(config.path(), state.path(), &[]);
        let mut client = Client::connect(&controller, NODE).await;
        let response = client.wildcard(ADDRESS_TYPE).await;
        let differences = cases::differences(&case, &rendered(&response));
        assert!(differences.is_empty(), "{}: {differences:#?}", case.display());
        assert!(aliases(&response).is_empty() && response.removed_resources.is_empty());
        let policies = client.wildcard(AUTHORIZATION_TYPE).await;
        assert_eq!(policies.type_url, AUTHORIZATION_TYPE);
        assert_eq!(names(&policies), of_model(config.path()), "{}", case.display());
    }
}

/// The policies that the model makes of a directory; what they decide is another test's.
fn of_model(folder: &Path) -> BTreeSet<String> {
    let mut model = Model::new(Settings::default());
    model.update(&Directory::open(folder).unwrap().loaded().objects, Instant::now());
    model.authorizations().into_keys().collect()
}

/// What the recordings say about the wildcard, asked for name by name.
#[tokio::test]
async fn on_demand_agrees_with_the_recordings() {
    for case in cases::cases() {
        let (config, state) = (cases::directory(&case), TempDir::new().unwrap());
        let controller = Controller::start_in(config.path(), state.path(), &[]);
        let mut client = Client::connect(&controller, NODE).await;
        let world = cases::expected(&case);
        let mut seen = BTreeMap::new();
        let started = client.on_demand().await;
        let on_node = |v: &Value| v["workload"]["node"] == NODE;
        let local: BTreeSet<String> = world
            .iter()
            .filter(|(_, v)| on_node(v))
            .map(|(n, _)| n.clone())
            .collect();
        assert_eq!(names(&started), local, "{}", case.display());
        seen.extend(rendered(&started));
        for (name, resource) in &world {
            let expected = brought(&world, name);
            for question in questions(name, resource) {
                let response = client.subscribe(&question).await;
                // An address may be shared: then all that have it come.
                assert!(
                    names(&response).is_superset(&expected),
                    "{question}: {:?}",
                    names(&response)
                );
                if question == *name {
                    assert_eq!(names(&response), expected);
                }
                for (name, found) in aliases(&response) {
                    let mut own: BTreeSet<String> = questions(&name, &world[&name]).into_iter().skip(1).collect();
                    // Ours beside Istio's: by which all ranges are asked for.
                    if own.iter().any(|alias| alias.matches('/').count() == 2) {
                        own.insert(RANGES_ALIAS.to_owned());
                    }
                    assert_eq!(found, own, "{name}");
                }
                seen.extend(rendered(&response));
            }
        }
        let differences = cases::differences(&case, &seen);
        assert!(differences.is_empty(), "{}: {differences:#?}", case.display());
        for unknown in [
            "/192.0.2.1",
            "shop/none.shop.svc.cluster.local",
            "Kubernetes//Pod/no/pod",
        ] {
            let response = client.subscribe(unknown).await;
            assert_eq!(
                (response.resources.len(), response.removed_resources),
                (0, vec![unknown.to_owned()])
            );
        }
    }
}

/// A resource, and the workloads of a service.
fn brought(world: &BTreeMap<String, Value>, name: &str) -> BTreeSet<String> {
    // Case 08 ignores what we do there: a reference without uid makes the pod an endpoint.
    let reference = |n: &str| name == "out/manual.out.svc.cluster.local" && n == "Kubernetes//Pod/out/real";
    let part = |n: &str, v: &Value| n == name || reference(n) || v["workload"]["services"].get(name).is_some();
    world
        .iter()
        .filter(|(n, v)| part(n, v))
        .map(|(n, _)| n.clone())
        .collect()
}

/// All by which a resource can be asked for: its name, then its aliases.
fn questions(name: &str, resource: &Value) -> Vec<String> {
    let network = resource["workload"]["network"].as_str().unwrap_or_default();
    let workload = resource["workload"]["addresses"].as_array().into_iter().flatten();
    let workload = workload.filter_map(|address| Some(format!("{network}/{}", address.as_str()?)));
    let service = resource["service"]["addresses"].as_array().into_iter().flatten();
    let alias = |address: &Value| {
        let text = address["address"].as_str()?;
        Some(match address["length"].as_u64() {
            None => format!("/{text}"),
            Some(length) => format!("/{text}/{length}"),
        })
    };
    // Addresses that istiod allocates are none of ours.
    let service = service.filter_map(alias).filter(|alias| !alias.starts_with("/auto-"));
    std::iter::once(name.to_owned())
        .chain(workload)
        .chain(service)
        .collect()
}

/// The recorded conversations, where they have one: names and aliases of each answer.
#[tokio::test]
async fn recorded_conversations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/on-demand");
    for case in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        let (config, state) = (cases::directory(&case), TempDir::new().unwrap());
        let controller = Controller::start_in(config.path(), state.path(), &[]);
        let mut client = Client::connect(&controller, NODE).await;
        let steps: Vec<Value> = serde_json::from_slice(&fs::read(case.join("on-demand.json")).unwrap()).unwrap();
        for step in steps {
            let response = match step["subscribe"].as_array().unwrap().as_slice() {
                [] => client.on_demand().await,
                [name] => client.subscribe(name.as_str().unwrap()).await,
                more => panic!("{more:?}"),
            };
            if step["responses"] == 0 {
                // Istio stays silent about a name that it takes for subscribed; the xDS text asks for an answer.
                assert!(!response.resources.is_empty());
                continue;
            }
            let expected: BTreeSet<String> = serde_json::from_value(step["resources"].clone()).unwrap();
            assert_eq!(names(&response), expected, "{step}");
            let expected: BTreeMap<String, BTreeSet<String>> = serde_json::from_value(step["aliases"].clone()).unwrap();
            assert_eq!(aliases(&response), expected, "{step}");
            assert_eq!(Value::from(response.removed_resources), step["removed"], "{step}");
        }
    }
}

#[tokio::test]
async fn a_change_pushes_what_changed() {
    let base = namespace() + &pod("a", "198.18.0.1") + &pod("b", "198.18.0.2") + &pod("c", "198.18.0.3");
    let controller = Controller::start(&(base.clone() + &service("a", "198.18.1.1", "a")));
    let mut all = Client::connect(&controller, NODE).await;
    let mut some = Client::connect(&controller, NODE).await;
    assert_eq!(all.wildcard(ADDRESS_TYPE).await.resources.len(), 4);
    assert!(some.on_demand().await.resources.is_empty());
    assert_eq!(some.subscribe("/198.18.1.1").await.resources.len(), 2);
    assert_eq!(some.subscribe("/198.18.0.9").await.removed_resources, ["/198.18.0.9"]);

    // The service selects another pod: both pods change, and the client on demand is told of the new one unasked.
    controller.write(&(base.clone() + &service("a", "198.18.1.1", "b")));
    let pods = ["Kubernetes//Pod/shop/a", "Kubernetes//Pod/shop/b"].map(str::to_owned);
    assert_eq!(names(&all.next().await), BTreeSet::from(pods.clone()));
    assert_eq!(names(&some.next().await), BTreeSet::from(pods));

    // Nothing but a comment: nobody hears of it. Then a pod takes the address that was asked for in vain.
    controller.write(&("# comment\n".to_owned() + &base + &service("a", "198.18.1.1", "b")));
    controller.write(&(base + &service("a", "198.18.1.1", "b") + &pod("d", "198.18.0.9")));
    let expected = BTreeSet::from(["Kubernetes//Pod/shop/d".to_owned()]);
    assert_eq!(names(&all.next().await), expected);
    assert_eq!(names(&some.next().await), expected);

    // The namespace leaves the mesh: its pods stay known, without the tunnel.
    let plain = namespace().replace("ambient", "none") + &pod("a", "198.18.0.1");
    controller.write(&plain);
    let response = all.next().await;
    assert_eq!(response.removed_resources.len(), 4, "{response:?}");
    assert_eq!(
        rendered(&response)["Kubernetes//Pod/shop/a"]["workload"].get("tunnel_protocol"),
        None
    );
    let response = some.next().await;
    let gone: BTreeSet<&str> = response.removed_resources.iter().map(String::as_str).collect();
    let pods = [
        "Kubernetes//Pod/shop/b",
        "Kubernetes//Pod/shop/d",
        "shop/a.shop.svc.cluster.local",
    ];
    // And the addresses that it asked for, which nobody has any more.
    assert_eq!(
        gone,
        BTreeSet::from_iter(pods.into_iter().chain(["/198.18.1.1", "/198.18.0.9"]))
    );
    assert_eq!(response.resources.len(), 1);
}

/// No address that a proxy asks for leads it to a range, so it asks for all that there are.
#[tokio::test]
async fn who_asks_for_ranges_hears_of_each_that_comes_with_its_endpoints() {
    let entry = |name: &str, address: &str, endpoint: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec: \
             {{hosts: [{name}.example], addresses: [{address}], resolution: STATIC, ports: [{{number: 80, name: web}}], \
             endpoints: [{{address: {endpoint}}}]}}\n"
        )
    };
    let single = namespace() + &entry("one", "198.51.100.1", "172.22.0.1");
    let controller = Controller::start(&single);
    let mut client = Client::connect(&controller, NODE).await;
    assert!(client.on_demand().await.resources.is_empty());
    assert_eq!(client.subscribe(RANGES_ALIAS).await.removed_resources, [RANGES_ALIAS]);
    controller.write(&(single.clone() + &entry("many", "198.51.100.128/25", "172.22.0.2")));
    let told = [
        "Kubernetes/networking.istio.io/ServiceEntry/shop/many/172.22.0.2",
        "shop/many.example",
    ];
    assert_eq!(names(&client.next().await), BTreeSet::from(told.map(str::to_owned)));
    controller.write(&single);
    let gone: BTreeSet<String> = client.next().await.removed_resources.into_iter().collect();
    assert!(gone.is_superset(&BTreeSet::from(told.map(str::to_owned))), "{gone:?}");
}

#[tokio::test]
async fn a_client_that_comes_back_gets_the_difference() {
    let (config, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = config.path().join("all.yaml");
    let text = namespace() + &pod("a", "198.18.0.1") + &pod("b", "198.18.0.2") + &service("a", "198.18.1.1", "a");
    fs::write(&file, &text).unwrap();
    let controller = Controller::start_in(config.path(), state.path(), &[]);
    let mut client = Client::connect(&controller, NODE).await;
    let held = client.wildcard(ADDRESS_TYPE).await;
    let root = controller.root();
    drop(controller);

    // Another process, with the same key and the same versions.
    let changed = text.replace("name: b", "name: c");
    fs::write(&file, changed).unwrap();
    let controller = Controller::start_in(config.path(), state.path(), &[]);
    assert_eq!(controller.root(), root);
    let versions = held
        .resources
        .iter()
        .map(|r| (r.name.clone(), r.version.clone()))
        .collect();
    let mut client = Client::connect(&controller, NODE).await;
    let request = culvert_proto::discovery::DeltaDiscoveryRequest {
        initial_resource_versions: versions,
        ..first(ADDRESS_TYPE)
    };
    client.send(request.clone()).await;
    let response = client.next().await;
    assert_eq!(names(&response), BTreeSet::from(["Kubernetes//Pod/shop/c".to_owned()]));
    assert_eq!(response.removed_resources, ["Kubernetes//Pod/shop/b"]);

    // On demand too, and what it came with stays subscribed.
    let mut client = Client::connect(&controller, NODE).await;
    let star = vec!["*".to_owned()];
    client
        .send(culvert_proto::discovery::DeltaDiscoveryRequest {
            resource_names_subscribe: star.clone(),
            resource_names_unsubscribe: star,
            ..request
        })
        .await;
    let response = client.next().await;
    assert_eq!(
        (response.resources.len(), response.removed_resources),
        (0, vec!["Kubernetes//Pod/shop/b".to_owned()])
    );
    fs::write(&file, text.replace("198.18.0.1,", "198.18.0.7,")).unwrap();
    assert_eq!(
        names(&client.next().await),
        BTreeSet::from(["Kubernetes//Pod/shop/a".to_owned()])
    );
}

#[tokio::test]
async fn refusals_are_counted_and_slow_clients_hold_up_nobody() {
    let controller = Controller::start(&(namespace() + &pod("a", "198.18.0.1")));
    let mut slow = Client::connect(&controller, "slow-node").await;
    slow.send(first(ADDRESS_TYPE)).await;
    let unanswered = slow.receive().await;
    let mut quick = Client::connect(&controller, NODE).await;
    quick.wildcard(ADDRESS_TYPE).await;
    for n in 2..6 {
        controller.write(&(namespace() + &pod("a", &format!("198.18.0.{n}"))));
        assert_eq!(quick.next().await.resources.len(), 1);
    }
    let page = controller
        .until("/status", |s| s["nodes"].as_array().is_some_and(|n| n.len() == 2))
        .await;
    let slow_one = page["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|n| n["node"] == "slow-node")
        .unwrap();
    assert_eq!(slow_one["types"]["istio.workload.Address"]["acknowledged"], "");

    // It refuses, and gets what changed meanwhile, once.
    slow.send(reply(&unanswered, Some("no such thing"))).await;
    let caught_up = slow.next().await;
    assert_eq!(
        rendered(&caught_up)["Kubernetes//Pod/shop/a"]["workload"]["addresses"][0],
        "198.18.0.5"
    );
    assert_eq!(
        controller.metric("culvert_controller_xds_refusals_total{type=\"istio.workload.Address\"}"),
        1.0
    );
    let page: Value = serde_json::from_str(&controller.get("/status")).unwrap();
    assert!(page.to_string().contains("no such thing"));
}

#[tokio::test]
async fn without_a_token_there_is_nothing() {
    let controller = Controller::start(&namespace());
    let token = controller.token(NODE);
    let other = token.replace(NODE, "node-b");
    for wrong in ["", "x", "../../ca/root.key", &token[..token.len() - 1], &other] {
        let refused = Client::connect_with(&controller, wrong).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{wrong}");
    }
    assert_eq!(controller.metric("culvert_controller_xds_unauthenticated_total"), 5.0);
    // Types that nobody serves are not answered, and do no harm.
    let mut client = Client::connect_with(&controller, &token).await.unwrap();
    client
        .send(first("type.googleapis.com/envoy.config.cluster.v3.Cluster"))
        .await;
    assert_eq!(client.wildcard(ADDRESS_TYPE).await.type_url, ADDRESS_TYPE);
}

/// What a pod resolves: a host name, in whatever namespaces it is, with endpoints; and all wildcards.
#[tokio::test]
async fn who_asks_for_a_host_name_hears_of_all_that_have_it_now_and_later() {
    let entry = |namespace: &str, host: &str, address: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: entry, namespace: {namespace}}}\nspec: \
             {{hosts: ['{host}'], addresses: [{address}], resolution: STATIC, ports: [{{number: 80, name: web}}], \
             endpoints: [{{address: 172.22.0.1}}]}}\n"
        )
    };
    let others = ["bank", "wild"].map(|name| namespace().replace("name: shop", &format!("name: {name}")) + "---\n");
    let begin = others.concat() + &namespace() + &service("web", "198.18.1.1", "web") + &pod("web", "198.18.0.1");
    let controller = Controller::start(&begin);
    let mut client = Client::connect(&controller, NODE).await;
    assert!(client.on_demand().await.resources.is_empty());
    let web = ["Kubernetes//Pod/shop/web", "shop/web.shop.svc.cluster.local"];
    let told = names(&client.subscribe("*/web.shop.svc.cluster.local").await);
    assert_eq!(told, BTreeSet::from(web.map(str::to_owned)));
    for unknown in ["*/api.example.com", WILDCARDS_ALIAS, "*/"] {
        assert_eq!(client.subscribe(unknown).await.removed_resources, [unknown]);
    }
    // One after the other, in two namespaces, and a wildcard.
    let mut all = begin.clone();
    for (namespace, host, address) in [
        ("shop", "api.example.com", "198.51.100.1"),
        ("bank", "api.example.com", "198.51.100.2"),
        ("wild", "*.example.com", "198.51.100.3"),
    ] {
        all += &entry(namespace, host, address);
        controller.write(&all);
        let told = names(&client.next().await);
        assert!(told.contains(&format!("{namespace}/{host}")), "{host}: {told:?}");
    }
    let mut other = Client::connect(&controller, NODE).await;
    other.on_demand().await;
    let hosts = ["bank/api.example.com", "shop/api.example.com"].map(str::to_owned);
    let told = names(&other.subscribe("*/api.example.com").await);
    assert!(told.is_superset(&BTreeSet::from(hosts)), "{told:?}");
}
