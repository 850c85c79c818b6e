//! Every right that the manifests give is used: what nobody uses has no place there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use culvert_cluster_tests::{Meshed, PodSpec, Space, World, eventually, until};
use culvert_deploy::privileges::{Permission, privileges};
use culvert_objects::Kind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const SYSTEM: [&str; 2] = ["-n", "culvert-system"];

/// Role, API group, resource and verb.
type Use = (String, String, String, String);

#[test]
fn every_verb_that_the_roles_grant_is_used() {
    let world = World::installed();
    let wanted: Vec<Permission> = privileges().unwrap().permissions;
    let wanted = wanted.into_iter().filter(|one| one.component.is_none());
    let wanted: BTreeSet<Use> = wanted
        .map(|one| (one.role, one.group, one.resource, one.verb))
        .collect();
    let space = world.space("rights");
    work(&world, &space);
    until("the audit log to have it all", || {
        let used = used(&world);
        let never: Vec<_> = wanted.difference(&used).collect();
        eprintln!("not used yet: {never:?}");
        never.is_empty()
    });
}

/// What seldom happens by itself.
fn work(world: &World, space: &Space<'_>) {
    let kinds = KindsOfOthers::install(world);
    said_of_an_object_of_theirs(world, space);
    said_in_the_status_of_each(world, space);
    becomes_a_waypoint(space);
    said_in_the_status_of_each_route(world, space);
    said_in_the_status_of_a_listener_set(space);
    said_in_the_status_of_each_attached_policy(world, space);
    drop(kinds);
    // A pod that comes to a node whose agent has not heard of it: the agent asks.
    let uses = |verb: &str| {
        let one = |resource: &str| ("culvert-node".into(), String::new(), resource.into(), verb.into());
        let used = used(world);
        used.contains(&one("pods")) && used.contains(&one("namespaces"))
    };
    let mut count = 0;
    until("an agent that asks for a pod", || {
        if !uses("get") {
            count += 1;
            arrives_unheard(world, &format!("unheard-{count}"));
        }
        uses("get")
    });
    // The same is said of a pod and of a namespace more than once.
    space.start(&[PodSpec::server("server1").on("node1")]);
    for round in 1..=2 {
        space.enrol();
        space.wait_captured(&["server1"]);
        wait_told(space, "MeshEnabled", round);
        space.leave();
        space.wait_outside(&["server1"]);
        wait_told(space, "MeshDisabled", round);
    }
    // The leader makes another root when it is asked to.
    world.kubectl(
        &[
            &SYSTEM[..],
            &["annotate", "secret", "culvert-ca", "culvert.dev/rotate=now"],
        ]
        .concat(),
    );
    // An agent that is told to stop asks what for.
    let meshed = Meshed::start(world, "rights-load");
    world.kubectl(&[&SYSTEM[..], &["rollout", "restart", "daemonset/culvert-node"]].concat());
    world.wait_ready();
    meshed.settle();
    meshed.finish("using every right");
}

/// The kinds of Istio and of the Gateway API, which the controller follows while they are there.
struct KindsOfOthers<'a> {
    world: &'a World,
    folders: [PathBuf; 2],
}

impl<'a> KindsOfOthers<'a> {
    fn install(world: &'a World) -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
        let folders = ["istio", "gateway-api/experimental"].map(|folder| target.join("crds").join(folder));
        for folder in &folders {
            assert!(folder.is_dir(), "{} is not there: cargo xtask crds", folder.display());
        }
        let kinds = Self { world, folders };
        kinds.each(&["apply", "--server-side", "--force-conflicts", "-f"]);
        kinds
    }

    fn each(&self, arguments: &[&str]) {
        for folder in &self.folders {
            self.world.kubectl(&[arguments, &[folder.to_str().unwrap()]].concat());
        }
    }
}

impl Drop for KindsOfOthers<'_> {
    fn drop(&mut self) {
        self.each(&["delete", "--ignore-not-found", "-f"]);
        // Those of policies are the installation's.
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crds");
        self.world.kubectl(&["apply", "--server-side", "-k", own]);
    }
}

/// Waits until the controller has said of an object that nothing serves it, and until all kinds are followed.
fn said_of_an_object_of_theirs(world: &World, space: &Space<'_>) {
    let metadata = json!({"name": "web", "namespace": space.name()});
    let spec = json!({"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]});
    let (version, kind) = ("networking.istio.io/v1", "VirtualService");
    until("kinds that were just installed", || {
        let kinds = world.kubectl(&["get", "crd", "virtualservices.networking.istio.io", "-o", "json"]);
        kinds.contains("\"Established\"")
    });
    world.apply(&json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}));
    until("an event that says that a VirtualService is not served", || {
        let events = world.get(&["events.events.k8s.io", "-n", space.name()]);
        let all = events["items"].as_array().cloned().unwrap_or_default();
        all.iter()
            .any(|event| event["regarding"]["kind"] == kind && event["regarding"]["apiVersion"] == version)
    });
    let wanted = Kind::followed()
        .map(Kind::descriptor)
        .filter(|kind| kind.unserved.is_some());
    let wanted: Vec<_> = wanted.map(|kind| (kind.group, kind.plural)).collect();
    until("all kinds of others to be watched", || {
        let used = used(world);
        wanted.iter().all(|(group, plural)| {
            let one = (
                "culvert-controller".into(),
                (*group).into(),
                (*plural).into(),
                "watch".into(),
            );
            used.contains(&one)
        })
    });
}

/// Makes a Gateway, and waits until the controller has made a waypoint of it and said so.
fn becomes_a_waypoint(space: &Space<'_>) {
    let listeners = json!([{ "name": "mesh", "port": 15008, "protocol": "HBONE" }]);
    let options = |data: Value| {
        space.apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "options" }, "data": data }))
    };
    options(json!({ "horizontalPodAutoscaler": "spec: {maxReplicas: 1}" }));
    let parameters = json!({ "parametersRef": { "group": "", "kind": "ConfigMap", "name": "options" } });
    space.apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": { "name": "rights" },
        "spec": { "gatewayClassName": "culvert-waypoint", "listeners": listeners, "infrastructure": parameters },
    }));
    until("the classes to be made and accepted", || {
        let classes = space.world().get(&["gatewayclasses"]);
        let ours = classes["items"].as_array().into_iter().flatten();
        let ours = ours.filter(|class| class["spec"]["controllerName"] == "culvert.dev/controller");
        let conditions = ours
            .filter_map(|class| class["status"]["conditions"].as_array())
            .flatten();
        let accepted = conditions.filter(|condition| condition["type"] == "Accepted" && condition["status"] == "True");
        accepted.count() == 2
    });
    until("the Gateway to be programmed", || {
        let gateway = space.get(&["gateways.gateway.networking.k8s.io", "rights"]);
        let conditions = gateway["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition["type"] == "Programmed" && condition["status"] == "True")
    });
    let autoscalers = || {
        let all = space.get(&["horizontalpodautoscalers"]);
        all["items"].as_array().map_or(0, Vec::len)
    };
    until("its autoscaler to be made", || autoscalers() == 1);
    options(json!({}));
    until("its autoscaler to be deleted", || autoscalers() == 0);
}

/// Makes a route of each kind, and waits until the controller has said in its status what it comes to at a Service.
fn said_in_the_status_of_each_route(world: &World, space: &Space<'_>) {
    let routes = ["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute"];
    let kinds: Vec<_> = Kind::followed()
        .map(Kind::descriptor)
        .filter(|kind| routes.contains(&kind.name))
        .collect();
    for kind in &kinds {
        let backends = json!([{ "backendRefs": [{ "name": "web", "port": 80 }] }]);
        let parents = json!([{ "group": "", "kind": "Service", "name": "web" }]);
        let mut spec = json!({ "parentRefs": parents, "rules": backends });
        match kind.name {
            "TLSRoute" => spec["hostnames"] = json!(["web.example"]),
            // Not served, which is said where it is for a waypoint.
            "UDPRoute" => spec["parentRefs"] = json!([{ "name": "rights" }]),
            _ => {}
        }
        let metadata = json!({ "name": "each", "namespace": space.name() });
        let (version, name) = (kind.api_version(), kind.name);
        world.apply(&json!({ "apiVersion": version, "kind": name, "metadata": metadata, "spec": spec }));
    }
    for kind in kinds {
        until(
            &format!("the status of a {} to say what it comes to", kind.title),
            || {
                let of_kind = format!("{}.{}", kind.plural, kind.group);
                let object = world.get(&[&of_kind, "each", "-n", space.name()]);
                let parents = object["status"]["parents"].as_array().cloned().unwrap_or_default();
                parents
                    .iter()
                    .any(|parent| parent["controllerName"] == "culvert.dev/controller")
            },
        );
    }
}

/// Makes a ListenerSet of the waypoint, which is not served, and waits until the controller has said so.
fn said_in_the_status_of_a_listener_set(space: &Space<'_>) {
    space.apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "ListenerSet",
        "metadata": { "name": "more" },
        "spec": {
            "parentRef": { "name": "rights" },
            "listeners": [{ "name": "http", "port": 80, "protocol": "HTTP" }],
        },
    }));
    until("the status of a ListenerSet to say that it is not served", || {
        let object = space.world().get(&["listenersets", "more", "-n", space.name()]);
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_said = |one: &Value| one["type"] == "Accepted" && one["reason"] == "NotAllowed";
        conditions.iter().any(is_said)
    });
}

/// Makes a policy of each kind that is attached to Services, and waits until the controller has said in its status what it comes to.
fn said_in_the_status_of_each_attached_policy(world: &World, space: &Space<'_>) {
    let policies = [
        (
            "BackendTLSPolicy",
            json!({ "validation": { "wellKnownCACertificates": "System", "hostname": "web.example" } }),
        ),
        ("TrafficPolicy", json!({ "healthCheck": { "tcp": {} } })),
        // Not served, which is said where it is for a waypoint.
        (
            "XBackendTrafficPolicy",
            json!({ "retryConstraint": { "budget": { "percent": 20 } } }),
        ),
        ("XTelemetryPolicy", json!({ "tracing": { "mode": "Disabled" } })),
    ];
    for (title, mut spec) in policies {
        let mut kinds = Kind::followed().map(Kind::descriptor);
        let kind = kinds.find(|kind| kind.name == title).expect(title);
        spec["targetRefs"] = match kind.unserved {
            Some(_) => json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "rights" }]),
            None => json!([{ "group": "", "kind": "Service", "name": "web" }]),
        };
        let metadata = json!({ "name": "each", "namespace": space.name() });
        world.apply(&json!({ "apiVersion": kind.api_version(), "kind": title, "metadata": metadata, "spec": spec }));
        until(&format!("the status of a {title} to say what it comes to"), || {
            let of_kind = format!("{}.{}", kind.plural, kind.group);
            let object = world.get(&[&of_kind, "each", "-n", space.name()]);
            let ancestors = object["status"]["ancestors"].as_array().cloned().unwrap_or_default();
            let mut ours = ancestors.iter();
            ours.any(|ancestor| ancestor["controllerName"] == "culvert.dev/controller")
        });
    }
}

/// Makes an object of each of Istio's kinds, and waits until the controller has said in its status whether it is in force.
fn said_in_the_status_of_each(world: &World, space: &Space<'_>) {
    let endpoint = json!({ "address": "198.19.200.1" });
    let specs = [
        (
            "AuthorizationPolicy",
            json!({ "selector": { "matchLabels": { "app": "nobody" } } }),
        ),
        (
            "PeerAuthentication",
            json!({ "selector": { "matchLabels": { "app": "nobody" } } }),
        ),
        (
            "RequestAuthentication",
            json!({ "selector": { "matchLabels": { "app": "nobody" } } }),
        ),
        ("DestinationRule", json!({ "host": "web" })),
        ("EnvoyFilter", json!({ "configPatches": [] })),
        (
            "Gateway",
            json!({ "servers": [{ "port": { "number": 80, "name": "http", "protocol": "HTTP" }, "hosts": ["a"] }] }),
        ),
        ("ProxyConfig", json!({ "concurrency": 1 })),
        (
            "ServiceEntry",
            json!({ "hosts": ["a.example"], "ports": [{ "number": 80, "name": "http" }] }),
        ),
        ("Sidecar", json!({ "egress": [{ "hosts": ["*/*"] }] })),
        (
            "VirtualService",
            json!({ "hosts": ["web"], "http": [{ "route": [{ "destination": { "host": "web" } }] }] }),
        ),
        ("WorkloadEntry", endpoint.clone()),
        ("WorkloadGroup", json!({ "template": { "serviceAccount": "default" } })),
        ("Telemetry", json!({ "tracing": [{ "randomSamplingPercentage": 1 }] })),
        (
            "TrafficExtension",
            json!({ "phase": "STATS", "wasm": { "url": "oci://registry.example/a" } }),
        ),
        (
            "WasmPlugin",
            json!({ "url": "oci://registry.example/a", "phase": "STATS" }),
        ),
    ];
    let istios: Vec<_> = Kind::followed()
        .map(Kind::descriptor)
        .filter(|kind| kind.group.ends_with(".istio.io"))
        .collect();
    assert_eq!(istios.len(), specs.len(), "a kind of Istio's has no object here");
    for kind in &istios {
        let (_, spec) = specs.iter().find(|(name, _)| *name == kind.name).expect(kind.title);
        let metadata = json!({ "name": "each", "namespace": space.name() });
        let (version, name) = (kind.api_version(), kind.name);
        world.apply(&json!({ "apiVersion": version, "kind": name, "metadata": metadata, "spec": spec }));
    }
    for kind in istios {
        until(
            &format!("the status of a {} to say whether it is in force", kind.title),
            || {
                let of_kind = format!("{}.{}", kind.plural, kind.group);
                let object = world.get(&[&of_kind, "each", "-n", space.name()]);
                let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|condition| {
                    condition["type"] == "culvert.dev/InForce"
                        && (kind.unserved.is_none() || condition["status"] == "False" && condition["message"] != "")
                })
            },
        );
    }
}

/// Waits until the controller has said of the namespace that this happened, as often as this. Of what changes back within
/// moments it says nothing.
fn wait_told(space: &Space<'_>, reason: &str, times: u64) {
    until(&format!("{reason} to be told {times} times"), || {
        let events = space.world().get(&["events.events.k8s.io", "-n", "default"]);
        let all = events["items"].as_array().cloned().unwrap_or_default();
        let ours = all
            .iter()
            .filter(|event| event["regarding"]["name"] == space.name() && event["reason"] == reason);
        ours.map(|event| event["series"]["count"].as_u64().unwrap_or(1))
            .sum::<u64>()
            >= times
    });
}

/// Starts a pod in a namespace of its own while the agent is halted; it goes on when the CNI plug-in asks it.
fn arrives_unheard(world: &World, name: &str) {
    let space = world.space(name);
    space.enrol();
    let node = world.node("node1");
    let signal = |signal: Signal| {
        for agent in node.pids_of("culvert-agent").unwrap() {
            kill_process(Pid::from_raw(agent.pid()).unwrap(), signal).unwrap();
        }
    };
    signal(Signal::STOP);
    space.create_pods(&[PodSpec::server(name).on("node1")]);
    eventually("the CNI plug-in", || {
        node.pids_of("culvert-cni").unwrap().first().copied()
    });
    signal(Signal::CONT);
    space.wait_ready(&[name]);
}

/// What Culvert's service accounts have done, with success, since Culvert was installed. One that was removed before may have
/// asked for something when its rights were gone already.
fn used(world: &World) -> BTreeSet<Use> {
    let namespace = world.get(&["namespace", "culvert-system"]);
    let installed = namespace["metadata"]["creationTimestamp"].as_str().unwrap().to_owned();
    let log = fs::read_to_string(world.cluster().audit_log()).unwrap();
    let mut used = BTreeSet::new();
    for line in log.lines() {
        // The last line may be under way.
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let text = |pointer: &str| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        // Both have the form 2026-11-21T18:18:51, and more after it.
        if text("/requestReceivedTimestamp").get(..19) < installed.get(..19) {
            continue;
        }
        let Some(role) = text("/user/username")
            .strip_prefix("system:serviceaccount:culvert-system:")
            .map(str::to_owned)
        else {
            continue;
        };
        let status = event
            .pointer("/responseStatus/code")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        // A namespace that is being deleted takes nothing new from anybody, which is answered with 403, too.
        let decision = text("/annotations/authorization.k8s.io~1decision");
        assert_ne!(decision, "forbid", "{role} asked for what it may not: {line}");
        if status == 403 {
            continue;
        }
        let one = |verb: &str| {
            let (group, mut resource) = (text("/objectRef/apiGroup"), text("/objectRef/resource"));
            let subresource = text("/objectRef/subresource");
            if !subresource.is_empty() {
                resource += &format!("/{subresource}");
            }
            (role.clone(), group, resource, verb.to_owned())
        };
        let verb = text("/verb");
        // Server-side apply of what is not there yet takes the right to create it, too.
        if verb == "patch" && status == 201 {
            used.insert(one("create"));
        }
        used.insert(one(&verb));
    }
    used
}
