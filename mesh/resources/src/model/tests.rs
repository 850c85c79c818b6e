//! The model by itself. What it makes of each kind of object is compared with Istio's recordings in `tests/it/golden.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use culvert_objects::Assembly;
use culvert_proto::config::{Mesh, Range};
use culvert_proto::workload::{TunnelProtocol, Workload, WorkloadStatus, address};
use culvert_proto::{ADDRESS_TYPE, HEALTH, MESH_TYPE};
use culvert_xds::server::Resources as _;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

mod backend_tls;
mod bypass;
mod configuration;
mod connections;
mod entries;
mod external_auth;
mod locality;
mod policies;
mod refused;
mod statuses;
mod tls;
mod traffic_policies;
mod waypoint_canary;
mod waypoint_entries;
mod waypoints;

const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {culvert.dev/mesh: ambient}}\n---\n\
    apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default, namespace: shop}\n";

/// Objects as a cluster's source has them in force.
#[derive(Default)]
struct World {
    assembly: Assembly,
}

impl World {
    fn of(yaml: &str) -> Self {
        let mut world = Self::default();
        world.apply(yaml);
        world
    }

    fn apply(&mut self, yaml: &str) {
        let parsed = culvert_objects::parse(yaml, false);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        for document in parsed.documents {
            self.assembly.apply(document.object);
        }
    }

    fn objects(&mut self) -> Objects {
        self.assembly.settle().0.clone()
    }
}

fn workload(model: &Model, name: &str) -> Workload {
    match model.addresses().remove(name).and_then(|address| address.r#type) {
        Some(address::Type::Workload(workload)) => workload,
        other => panic!("{name}: {other:?} among {:?}", model.addresses().keys()),
    }
}

fn made(yaml: &str) -> Model {
    let mut model = Model::default();
    model.update(&World::of(&(SHOP.to_owned() + yaml)).objects(), Instant::now());
    model
}

fn pod(name: &str, address: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}{more}}}\n\
         spec: {{nodeName: n1}}\nstatus: {{podIP: {address}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
    )
}

const BY_HAND: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: by-hand, namespace: shop}\n\
    spec: {clusterIP: 198.19.0.1, ports: [{name: sql, port: 80}]}\n---\napiVersion: discovery.k8s.io/v1\n\
    kind: EndpointSlice\nmetadata: {name: by-hand-1, namespace: shop, labels: {kubernetes.io/service-name: by-hand}}\n\
    addressType: IPv4\nports: [{name: sql, port: 9000}]\nendpoints: [{addresses: [198.18.0.1]}, {addresses: [198.18.0.77]}]\n";
const BY_HAND_NAME: &str = "shop/by-hand.shop.svc.cluster.local";

/// Traffic to a Service with hand-made endpoints would otherwise reach a pod of the mesh in plaintext.
#[test]
fn an_address_that_a_pod_has_is_that_pod_whoever_names_it() {
    let mut world = World::of(&(SHOP.to_owned() + BY_HAND));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let slice_of = |address: &str| format!("Kubernetes/discovery.k8s.io/EndpointSlice/shop/by-hand-1/{address}");
    assert_eq!(workload(&model, &slice_of("198.18.0.1")).service_account, "");
    world.apply(&pod("db", "198.18.0.1", ""));
    model.update(&world.objects(), Instant::now());
    let db = workload(&model, "Kubernetes//Pod/shop/db");
    assert_eq!(
        (db.tunnel_protocol(), db.service_account.as_str()),
        (TunnelProtocol::Hbone, "default")
    );
    assert_eq!(db.services[BY_HAND_NAME].ports[0].target_port, 9000);
    assert!(
        !model.addresses().contains_key(&slice_of("198.18.0.1")),
        "one address, two workloads"
    );
    let stranger = workload(&model, &slice_of("198.18.0.77"));
    assert_eq!(
        (stranger.tunnel_protocol(), stranger.service_account.as_str()),
        (TunnelProtocol::None, "")
    );
    let names = model.snapshot().expand(ADDRESS_TYPE, "/198.19.0.1");
    assert!(
        names.iter().any(|name| &**name == "Kubernetes//Pod/shop/db"),
        "{names:?}"
    );
    world.assembly.remove(Kind::Pod, &ObjectName::new("shop", "db"));
    model.update(&world.objects(), Instant::now());
    assert!(model.addresses().contains_key(&slice_of("198.18.0.1")));
}

#[test]
fn a_pod_that_is_about_to_go_and_serves_is_neither_healthy_nor_gone() {
    let model =
        made(&(pod("a", "198.18.0.1", "") + &pod("b", "198.18.0.2", ", deletionTimestamp: '2026-01-01T00:00:00Z'")));
    let state = |name: &str| {
        let found = workload(&model, &format!("Kubernetes//Pod/shop/{name}"));
        let told = found
            .extensions
            .iter()
            .map(|extension| extension.name.clone())
            .collect::<Vec<_>>();
        (found.status(), told)
    };
    assert_eq!(state("a"), (WorkloadStatus::Healthy, vec![]));
    assert_eq!(state("b"), (WorkloadStatus::Unhealthy, vec![HEALTH.to_owned()]));
}

const NODE: &str = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {kubernetes.io/os: OS}}\n";
const AGENT: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: culvert-system}\n---\napiVersion: v1\nkind: Pod\n\
    metadata: {name: culvert-node-x, namespace: culvert-system, labels: {app.kubernetes.io/name: culvert-node}}\n\
    spec: {nodeName: n1, hostNetwork: true}\n";

fn is_in_mesh(model: &Model) -> bool {
    workload(model, "Kubernetes//Pod/shop/a").tunnel_protocol() == TunnelProtocol::Hbone
}

/// Clients would be refused at a tunnel that nobody serves.
#[test]
fn a_node_without_an_agent_has_no_pods_in_the_mesh() {
    let mut world = World::of(&(SHOP.to_owned() + &NODE.replace("OS", "linux") + &pod("a", "198.18.0.1", "")));
    let mut model = Model::of_cluster(Settings::default());
    let start = Instant::now();
    model.update(&world.objects(), start);
    assert!(is_in_mesh(&model), "the agent may only not be known yet");
    let due = model.next().unwrap();
    let changes = model.update(&world.objects(), due);
    assert!(!is_in_mesh(&model) && changes.resources.len() == 1, "{changes:?}");
    let findings: Vec<String> = model.findings().keys().map(|finding| finding.to_string()).collect();
    assert!(findings.len() == 1 && findings[0].starts_with("Pod shop/a: spec.nodeName: no agent serves the node n1"));
    world.apply(AGENT);
    model.update(&world.objects(), due);
    assert!(is_in_mesh(&model) && model.findings().is_empty());
    world
        .assembly
        .remove(Kind::Pod, &ObjectName::new("culvert-system", "culvert-node-x"));
    model.update(&world.objects(), due + Duration::from_secs(3600));
    assert!(is_in_mesh(&model), "a node whose agent restarts stays in the mesh");
    world.apply(&NODE.replace("OS", "windows"));
    model.update(&world.objects(), due);
    assert!(!is_in_mesh(&model));
}

#[test]
fn the_ranges_of_the_mesh_are_those_of_nodes_and_services() {
    let mut world = World::of(
        "apiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {podCIDRs: [198.18.0.0/24, 'fd00:c01e::/64']}\n---\n\
         apiVersion: v1\nkind: Node\nmetadata: {name: b}\nspec: {podCIDR: 198.18.1.0/24}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: kubernetes}\nspec: {cidrs: [198.19.0.0/20]}\n",
    );
    let mut model = Model::default();
    let told = |model: &Model| -> Vec<String> {
        let entry = model.snapshot().get(MESH_TYPE, "mesh");
        let mesh = entry
            .map(|entry| Mesh::decode(&*entry.body).unwrap())
            .unwrap_or_default();
        let text = |range: &Range| {
            format!(
                "{}/{}",
                crate::snapshot::to_address(&range.address).unwrap(),
                range.length
            )
        };
        mesh.ranges.iter().map(text).collect()
    };
    model.update(&world.objects(), Instant::now());
    assert_eq!(told(&model), ["198.18.0.0/23", "198.19.0.0/20", "fd00:c01e::/64"]);
    world.assembly.remove(Kind::Node, &ObjectName::cluster("b"));
    let changes = model.update(&world.objects(), Instant::now());
    assert_eq!(told(&model)[0], "198.18.0.0/24");
    assert_eq!((changes.resources.len(), changes.resources[0].type_url), (1, MESH_TYPE));
}

#[test]
fn the_namespaces_that_reach_nothing_unknown_are_those_that_say_so_or_what_nobody_understands() {
    let namespace = |name: &str, value: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, annotations: {{culvert.dev/outbound-traffic-policy: '{value}'}}}}\n"
        )
    };
    let mut world = World::of(&(SHOP.to_owned() + &namespace("b", "registry-only") + &namespace("a", "REGISTRY_ONLY")));
    let mut model = Model::default();
    let told = |model: &Model| {
        let entry = model.snapshot().get(MESH_TYPE, "mesh");
        entry.map(|entry| Mesh::decode(&*entry.body).unwrap().registry_only_namespaces)
    };
    model.update(&world.objects(), Instant::now());
    assert_eq!(told(&model).unwrap(), ["a", "b"]);
    world.apply(&(namespace("a", "allow-any") + &namespace("c", "allow-any")));
    model.update(&world.objects(), Instant::now());
    assert_eq!(told(&model).unwrap(), ["b"]);
    assert_eq!(model.update(&world.objects(), Instant::now()).derived, 0);
    world.apply(&namespace("d", "allow-any"));
    assert_eq!(
        model.update(&world.objects(), Instant::now()).derived,
        0,
        "it says nothing"
    );
    world.assembly.remove(Kind::Namespace, &ObjectName::cluster("b"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(told(&model), None);
}

/// A world of few names, so that objects of all kinds meet. Returns the object, and its kind and name.
fn some_object(seed: u32) -> (Kind, ObjectName, Object) {
    let (what, number, address, more) = (seed % 12, seed / 12 % 3, seed / 36 % 4, seed / 144 % 4);
    let namespace = ["shop", "play"][(number % 2) as usize];
    let yaml = match what {
        0 => format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{culvert.dev/mesh: {}}}}}\n",
            ["ambient", "none"][(more % 2) as usize]
        ),
        1 => format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: n{number}, labels: {{topology.kubernetes.io/zone: z{more}}}}}\n\
             spec: {{podCIDRs: [198.18.{address}.0/24]}}\n"
        ),
        2 | 3 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: {namespace}}}\nspec: {{clusterIP: \
             198.19.0.{address}, selector: {}, ports: [{{name: http, port: 80, targetPort: {}}}]}}\n",
            ["{}", "{app: a0}", "{app: a1, v: v1}", "{v: v1}"][more as usize],
            ["8080", "web"][(address % 2) as usize]
        ),
        4 | 5 => format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{number}, namespace: {namespace}, \
             labels: {{kubernetes.io/service-name: s{more}}}}}\naddressType: IPv4\nports: [{{name: http, port: 90}}]\n\
             endpoints: [{{addresses: [198.18.0.{address}]}}, {{addresses: [198.18.0.9], targetRef: {{kind: Pod, name: p{number}}}}}]\n"
        ),
        6 => format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: x{number}, namespace: {namespace}}}\nspec: \
             {{hosts: [h{more}.example, s{number}.shop.svc.cluster.local], addresses: [198.1{}.0.{address}, 198.51.100.0/2{address}], \
             resolution: {}, ports: [{{number: 80, name: web}}], {}}}\n",
            8 + more % 2,
            ["STATIC", "DNS", "NONE", "STATIC"][more as usize],
            [
                "endpoints: [{address: 198.18.0.1}]",
                "workloadSelector: {labels: {app: a0}}"
            ][(address % 2) as usize],
        ),
        7 => format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w{number}, namespace: {namespace}}}\n\
             spec: {{address: 198.1{}.0.{address}, labels: {{app: a{}}}}}\n",
            8 + more % 2,
            more / 2,
        ),
        _ => format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: {namespace}, labels: {{app: a{}, v: v{}}}}}\n\
             spec: {{nodeName: n{}, containers: [{{name: c, ports: [{{name: web, containerPort: 7{more}}}]}}]}}\n\
             status: {{podIP: 198.18.0.{address}}}\n",
            more % 2,
            address % 2,
            (more + address) % 3
        ),
    };
    let object = culvert_objects::parse(&yaml, false).documents.pop().unwrap().object;
    (object.kind(), object.name(), object)
}

/// What a client sees that asked for `key`.
fn seen(snapshot: &Snapshot, key: &str) -> BTreeMap<String, u64> {
    let names = snapshot.expand(ADDRESS_TYPE, key).into_iter();
    let digest = |name: Arc<str>| {
        let digest = snapshot.version(ADDRESS_TYPE, &name).unwrap();
        (name.to_string(), digest)
    };
    names.map(digest).collect()
}

fn keys(snapshot: &Snapshot) -> BTreeSet<Arc<str>> {
    let names = snapshot.addresses().into_keys();
    names.flat_map(|name| snapshot.keys(ADDRESS_TYPE, &name)).collect()
}

proptest! {
    /// In whatever order objects came and went: as if all that are left had come at once. And whoever sees something else
    /// than before, by whatever name it asked, is among those whom the changes name.
    #[test]
    fn derived_by_steps_is_derived_at_once(
        steps in proptest::collection::vec((0_u32..576, proptest::bool::weighted(0.75), any::<bool>()), 1..60),
    ) {
        let mut world = World::default();
        let mut model = Model::default();
        for (seed, there, settle) in steps {
            let (kind, name, object) = some_object(seed);
            if there {
                world.assembly.apply(object);
            } else {
                world.assembly.remove(kind, &name);
            }
            if !settle {
                continue;
            }
            let before = model.snapshot().clone();
            let changes = model.update(&world.objects(), Instant::now());
            let now = model.snapshot();
            for key in keys(&before).union(&keys(now)) {
                let told = changes.resources.iter().any(|change| change.keys.contains(key));
                prop_assert!(told || seen(&before, key) == seen(now, key), "nobody was told of {}: {:?}", key, changes);
            }
            for change in changes.resources.iter().filter(|change| change.type_url == ADDRESS_TYPE) {
                let (was, is) = (before.version(ADDRESS_TYPE, &change.name), now.version(ADDRESS_TYPE, &change.name));
                prop_assert_ne!(was, is);
            }
        }
        let objects = world.objects();
        model.update(&objects, Instant::now());
        let mut at_once = Model::default();
        at_once.update(&objects, Instant::now());
        prop_assert_eq!(model.addresses(), at_once.addresses());
        let mesh = |model: &Model| model.snapshot().version(MESH_TYPE, "mesh");
        prop_assert_eq!(mesh(&model), mesh(&at_once));
        let said = |model: &Model| model.findings().keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(said(&model), said(&at_once));
        prop_assert_eq!(keys(model.snapshot()), keys(at_once.snapshot()));
    }
}

/// A policy of a namespace is the proxies' to apply to its pods: none of them is derived again for it.
#[test]
fn a_policy_costs_the_pods_that_its_selector_may_mean_and_no_other() {
    let policy = |kind: &str, namespace: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: {namespace}}}\nspec: {spec}\n"
        )
    };
    let root = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n";
    let pods: String = (1..=20)
        .map(|n| pod(&format!("web-{n}"), &format!("198.18.0.{n}"), ""))
        .collect();
    let mut world = World::of(&format!("{SHOP}{root}{pods}"));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let mut derived = |world: &mut World, yaml: &str| {
        world.apply(yaml);
        model.update(&world.objects(), Instant::now()).derived
    };
    // It itself, and what is wrong with it at waypoints.
    for namespace in ["shop", "istio-system"] {
        assert_eq!(
            derived(
                &mut world,
                &policy("AuthorizationPolicy", namespace, "{action: DENY, rules: [{}]}")
            ),
            2
        );
    }
    let one = "{selector: {matchLabels: {app: web-7}}}";
    assert_eq!(derived(&mut world, &policy("AuthorizationPolicy", "shop", one)), 3);
    // The policy by which all ports are strict comes with the first of its kind.
    assert_eq!(derived(&mut world, &policy("PeerAuthentication", "shop", one)), 3);
    assert_eq!(
        derived(
            &mut world,
            &policy("PeerAuthentication", "shop", "{mtls: {mode: STRICT}}")
        ),
        22
    );
}
