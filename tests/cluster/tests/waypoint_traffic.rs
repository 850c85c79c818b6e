//! Waypoints with traffic through them, and what `culvert` says of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use culvert_cluster_tests::{GREET, GatewayApi, Load, PodSpec, Space, World, eventually, now_ms, until};
use serde_json::{Value, json};

const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// The Service `web` in front of the pod `server`, behind the waypoint `wp` of a namespace.
fn web(space: &Space<'_>, waypoint: &str) {
    let ports = json!([
        { "name": "http", "port": 80, "targetPort": "http" },
        { "name": "tcp-greet", "port": 90, "targetPort": GREET },
    ]);
    space.apply(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "labels": {
            "culvert.dev/use-waypoint": "wp", "istio.io/use-waypoint-namespace": waypoint,
        } },
        "spec": { "selector": { "app": "server" }, "ports": ports },
    }));
}

fn address(space: &Space<'_>, port: u16) -> String {
    let service = space.get(&["service", "web"]);
    format!("{}:{port}", service["spec"]["clusterIP"].as_str().unwrap())
}

/// The waypoint's pods that serve, and are not on their way out.
fn serving(space: &Space<'_>) -> Vec<String> {
    let pods = space.get(&["pods", "-l", &format!("{GATEWAY}=wp")]);
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let ready = pods.iter().filter(|pod| {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let is_ready = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        is_ready && pod["metadata"]["deletionTimestamp"].is_null()
    });
    ready
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_waypoint_is_scaled_restarted_and_killed_under_load_and_no_request_fails_but_those_in_the_killed_one() {
    let world = World::installed();
    let _api = GatewayApi::install(&world);
    let space = world.space("waypoint-load");
    space.enrol();
    space.waypoint("wp");
    space.start(&[
        PodSpec::server("server").on("node2"),
        PodSpec::idle("client").on("node1"),
    ]);
    space.wait_captured(&["server", "client"]);
    web(&space, space.name());
    let to = address(&space, 80);
    until("the Service to be reached", || {
        space.ask("client", &["--to", &to])[0]["ok"] == true
    });
    let load = Load::start(&space, "load", "node1", &to);

    space.kubectl(&["scale", "deployment/wp", "--replicas=2"]);
    until("two pods to serve", || serving(&space).len() == 2);
    load.wait_more(200);

    let before = serving(&space);
    space.kubectl(&["rollout", "restart", "deployment/wp"]);
    until("two others to serve", || {
        let now = serving(&space);
        now.len() == 2 && now.iter().all(|pod| !before.contains(pod))
    });
    load.wait_more(200);

    space.kubectl(&["scale", "deployment/wp", "--replicas=1"]);
    until("one to serve", || serving(&space).len() == 1);
    load.wait_more(200);
    space.kubectl(&["scale", "deployment/wp", "--replicas=2"]);
    until("two pods to serve", || serving(&space).len() == 2);
    load.wait_more(200);
    let calm = load.now().unwrap();
    calm.assert_no_failure("scaling and restarting a waypoint");

    // One of the two is killed; what it carries breaks, and nothing that begins later.
    let victim = serving(&space).remove(0);
    let uid = space.get(&["pod", &victim])["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let node = world.node(&space.node_of(&victim));
    let process = eventually("the program in its pod", || {
        let processes = node.pids_of("culvert-waypoint").unwrap();
        processes.into_iter().find(|process| {
            let group = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap_or_default();
            group.contains(&uid) || group.contains(&uid.replace('-', "_"))
        })
    });
    process.kill().unwrap();
    let killed_at = now_ms();
    load.wait_more(200);
    until("it to be replaced", || serving(&space).len() == 2);
    load.wait_more(100);
    let report = load.stop();
    report.assert_no_failure_of_later(killed_at, "a killed waypoint");
    assert!(report.failures < 30, "{report:?}");
}

#[test]
fn a_service_goes_through_a_waypoint_of_another_namespace_that_admits_it_and_of_no_other() {
    let world = World::installed();
    let _api = GatewayApi::install(&world);
    let (home, shop) = (world.space("waypoint-home"), world.space("waypoint-shop"));
    for space in [&home, &shop] {
        space.enrol();
    }
    home.waypoint("wp");
    shop.start(&[
        PodSpec::server("server").on("node2"),
        PodSpec::idle("client").on("node1"),
    ]);
    shop.wait_captured(&["server", "client"]);
    web(&shop, home.name());
    let name = format!("{}/web", shop.name());
    let rules = || shop.culvert_json(&["routes", &name]);
    until("the rules not to be in force", || {
        let said = rules().to_string();
        said.contains("takes no Services of namespace")
    });
    let to = address(&shop, 80);
    until("the Service to be refused", || {
        shop.ask("client", &["--to", &to, "--timeout", "3"])[0]["ok"] == false
    });

    let listeners = json!([{ "name": "mesh", "port": 15008, "protocol": "HBONE",
        "allowedRoutes": { "namespaces": { "from": "Selector", "selector": { "matchLabels": { "kubernetes.io/metadata.name": shop.name() } } } } }]);
    let patch = json!({ "spec": { "listeners": listeners } }).to_string();
    home.kubectl(&["patch", "gateway", "wp", "--type=merge", "-p", &patch]);
    until("the Service to be reached through it", || {
        shop.ask("client", &["--to", &to])[0]["ok"] == true
    });
    let said = rules();
    assert_eq!(said["waypoint"], format!("{}/wp", home.name()), "{said}");
}

#[test]
fn rules_are_shown_with_their_objects_and_what_is_wrong_with_what_to_do() {
    let world = World::installed();
    let _api = GatewayApi::install(&world);
    let space = world.space("waypoint-rules");
    space.waypoint("wp");
    web(&space, space.name());
    let route = |name: &str, backend: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": name },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "web", "port": 80 }],
                "rules": [{ "matches": [{ "path": { "value": "/a" } }], "backendRefs": [{ "name": backend, "port": 80 }] }],
            },
        })
    };
    space.apply(route("first", "web"));
    let name = format!("{}/web", space.name());
    let rules = || -> Vec<Value> {
        let said = space.culvert_json(&["routes", &name, "--port", "80"]);
        said["ports"][0]["hosts"][0]["rules"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let object = |route: &str| json!(format!("HTTPRoute {}/{route}", space.name()));
    until("the rule of the route", || {
        rules().first().is_some_and(|rule| rule["object"] == object("first"))
    });
    space.apply(route("second", "nobody"));
    until("the rule of the other route, hidden", || {
        rules()
            .get(1)
            .is_some_and(|rule| rule["object"] == object("second") && rule["hidden_by"].is_string())
    });
    let analyzed = space.culvert_json(&["analyze", "--namespace", space.name()]);
    let problems = analyzed["problems"].as_array().cloned().unwrap_or_default();
    let of = |severity: &str, field: &str| {
        let mut there = problems.iter();
        there.any(|problem| {
            problem["severity"] == severity
                && problem["object"] == object("second")
                && problem["field"].as_str().is_some_and(|said| said.starts_with(field))
                && problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty())
        })
    };
    assert!(of("error", "spec.rules[0].backendRefs"), "{analyzed}");
    assert!(of("warning", "spec.rules[0]"), "{analyzed}");
    assert_eq!(problems[0]["severity"], "error", "the worst comes first: {analyzed}");
}

#[test]
fn parameters_are_obeyed_repaired_and_refused_by_name() {
    let world = World::installed();
    let _api = GatewayApi::install(&world);
    let space = world.space("waypoint-options");
    let options = |data: Value| {
        space
            .apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "options" }, "data": data }));
    };
    let listeners = json!([{ "name": "mesh", "port": 15008, "protocol": "HBONE" }]);
    space.apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": { "name": "wp" },
        "spec": {
            "gatewayClassName": "culvert-waypoint", "listeners": listeners,
            "infrastructure": { "parametersRef": { "group": "", "kind": "ConfigMap", "name": "options" } },
        },
    }));
    let accepted = || {
        let gateway = space.get(&["gateway", "wp"]);
        let mut conditions = gateway["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter();
        let found = conditions
            .find(|condition| condition["type"] == "Accepted")
            .unwrap_or_default();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    };
    until("a ConfigMap that is not there to be named", || {
        let (status, reason, message) = accepted();
        status == "False" && reason == "InvalidParameters" && message.contains("there is no ConfigMap")
    });
    options(json!({
        "deployment": "{spec: {template: {spec: {terminationGracePeriodSeconds: 7, containers: [{name: waypoint, resources: {requests: {cpu: 11m}}}]}}}}",
        "horizontalPodAutoscaler": "{spec: {minReplicas: 2, maxReplicas: 3}}",
        "podDisruptionBudget": "{spec: {minAvailable: 1}}",
    }));
    until("all of it to be made", || {
        let found = space.get(&[
            "deployment,horizontalpodautoscaler,poddisruptionbudget",
            "-l",
            &format!("{GATEWAY}=wp"),
        ]);
        found["items"].as_array().map_or(0, Vec::len) == 3 && accepted().0 == "True"
    });
    let pod = space.get(&["deployment", "wp"])["spec"]["template"]["spec"].clone();
    assert_eq!(pod["terminationGracePeriodSeconds"], 7);
    assert_eq!(
        pod["containers"][0]["resources"]["requests"],
        json!({ "cpu": "11m", "memory": "64Mi" })
    );
    let budget = space.get(&["poddisruptionbudget", "wp"]);
    assert_eq!(
        (&budget["spec"]["minAvailable"], &budget["spec"]["maxUnavailable"]),
        (&json!(1), &Value::Null)
    );
    until("the autoscaler to have its least number of pods", || {
        space.get(&["deployment", "wp"])["spec"]["replicas"] == 2
    });

    // What may not be said, and what Kubernetes does not know: the reason is named, and what is there stays.
    for (text, named) in [
        (
            "{spec: {template: {spec: {hostNetwork: true}}}}",
            "spec.template.spec.hostNetwork",
        ),
        ("{spec: {template: {spec: {tolerations: [{kee: a}]}}}}", "kee"),
    ] {
        options(json!({ "deployment": text, "horizontalPodAutoscaler": "{spec: {minReplicas: 2, maxReplicas: 3}}" }));
        until(named, || {
            let (status, reason, message) = accepted();
            status == "False" && reason == "InvalidParameters" && message.contains(named)
        });
        let pod = space.get(&["deployment", "wp"])["spec"]["template"]["spec"].clone();
        assert_eq!(pod["terminationGracePeriodSeconds"], 7);
    }

    // What is no longer asked for goes; how many pods there are is nobody's again.
    options(json!({}));
    until(
        "the autoscaler to be gone, and the rest to be as it is without parameters",
        || {
            let scalers = space.get(&["horizontalpodautoscaler"])["items"]
                .as_array()
                .map_or(1, Vec::len);
            let deployment = space.get(&["deployment", "wp"]);
            let budget = space.get(&["poddisruptionbudget", "wp"]);
            scalers == 0
                && deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 300
                && budget["spec"]["minAvailable"].is_null()
                && accepted().0 == "True"
        },
    );
    assert_eq!(space.get(&["deployment", "wp"])["spec"]["replicas"], 2);
}
