use serde_json::json;

use super::*;

fn read(key: &str, text: &str) -> Result<Overlays, OverlayError> {
    Overlays::read(&BTreeMap::from([(key.to_owned(), text.to_owned())]))
}

fn reason(key: &str, text: &str) -> String {
    read(key, text).unwrap_err().to_string()
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "wp", "labels": { "gateway": "wp" } },
        "spec": {
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1 } },
            "template": { "spec": {
                "nodeSelector": { "kubernetes.io/os": "linux" },
                "topologySpreadConstraints": [{ "topologyKey": "zone", "maxSkew": 1 }, { "topologyKey": "host", "maxSkew": 1 }],
                "containers": [{ "name": "waypoint", "image": "i", "env": [{ "name": "CULVERT_NAMESPACE", "value": "a" }],
                    "resources": { "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "memory": "1Gi" } } }],
            } },
        },
    })
}

#[test]
fn what_is_said_is_merged_as_kubernetes_merges() {
    let text = "spec:
  replicas: 3
  strategy: {$patch: replace, type: Recreate}
  template:
    spec:
      nodeSelector: {disk: fast}
      tolerations: [{key: a, operator: Exists}]
      topologySpreadConstraints: [{topologyKey: zone, maxSkew: 2}, {topologyKey: host, $patch: delete}]
      containers:
        - name: waypoint
          env: [{name: RUST_BACKTRACE, value: '1'}]
          resources: {requests: {cpu: 1}, limits: null}
";
    let mut object = deployment();
    read("deployment", text)
        .unwrap()
        .lay_over("Deployment", &mut object)
        .unwrap();
    let spec = &object["spec"];
    assert_eq!(
        (&spec["replicas"], &spec["strategy"]),
        (&json!(3), &json!({ "type": "Recreate" }))
    );
    let pod = &spec["template"]["spec"];
    assert_eq!(
        pod["nodeSelector"],
        json!({ "kubernetes.io/os": "linux", "disk": "fast" })
    );
    assert_eq!(pod["tolerations"], json!([{ "key": "a", "operator": "Exists" }]));
    assert_eq!(
        pod["topologySpreadConstraints"],
        json!([{ "topologyKey": "zone", "maxSkew": 2 }])
    );
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "i");
    assert_eq!(
        container["resources"],
        json!({ "requests": { "cpu": 1, "memory": "64Mi" } })
    );
    assert_eq!(container["env"].as_array().unwrap().len(), 2);
}

#[test]
fn what_would_run_other_programs_or_reach_what_is_anothers_is_refused_by_name() {
    for (text, named) in [
        (
            "{spec: {template: {spec: {hostNetwork: true}}}}",
            "spec.template.spec.hostNetwork",
        ),
        (
            "{spec: {template: {spec: {serviceAccountName: admin}}}}",
            "spec.template.spec.serviceAccountName",
        ),
        (
            "{spec: {template: {spec: {volumes: [{name: x, hostPath: {path: /}}]}}}}",
            "spec.template.spec.volumes",
        ),
        (
            "{spec: {template: {spec: {containers: [{name: istio-proxy}]}}}}",
            "its container is called waypoint",
        ),
        (
            "{spec: {template: {spec: {initContainers: [{name: waypoint}]}}}}",
            "initContainers",
        ),
        (
            "{spec: {template: {spec: {containers: [{name: waypoint, image: x}]}}}}",
            "containers[waypoint].image",
        ),
        (
            "{spec: {template: {spec: {containers: [{name: waypoint, securityContext: {}}]}}}}",
            "securityContext",
        ),
        ("{spec: {selector: {}}}", "spec.selector"),
        ("{spec: {replica: 1}}", "spec.replica:"),
        ("{spec: 5}", "spec: has fields of its own"),
        ("[]", "is no object"),
        ("{", "deployment: "),
    ] {
        let said = reason("deployment", text);
        assert!(said.contains(named), "{text}: {said}");
    }
    assert!(reason("service", "{spec: {selector: {app: theirs}}}").contains("spec.selector"));
    assert!(reason("ingress", "{}").contains("is not known"));
}

#[test]
fn what_the_waypoint_is_known_by_and_told_stays() {
    for (text, named) in [
        ("{metadata: {name: other}}", "metadata.name"),
        ("{metadata: {labels: {gateway: other}}}", "metadata.labels[gateway]"),
        (
            "{spec: {template: {spec: {containers: [{name: waypoint, env: [{name: CULVERT_NAMESPACE, value: b}]}]}}}}",
            "env[CULVERT_NAMESPACE]",
        ),
        (
            "{spec: {template: {spec: {tolerations: {$patch: merge}}}}}",
            "$patch: merge is not known",
        ),
    ] {
        let before = deployment();
        let refused = read("deployment", text)
            .unwrap()
            .lay_over("Deployment", &mut before.clone());
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(named), "{text}: {said}");
    }
    let same = read(
        "deployment",
        "{kind: Deployment, metadata: {name: wp, labels: {gateway: wp, team: a}}}",
    )
    .unwrap();
    same.lay_over("Deployment", &mut deployment()).unwrap();
}

#[test]
fn an_autoscaler_has_a_bound_and_alone_says_how_many_pods_there_are() {
    assert!(reason(AUTOSCALER_KEY, "{spec: {minReplicas: 2}}").contains("spec.maxReplicas"));
    assert!(reason(AUTOSCALER_KEY, "{spec: {maxReplicas: 2, scaleTargetRef: {}}}").contains("scaleTargetRef"));
    let both = [
        (AUTOSCALER_KEY, "{spec: {maxReplicas: 4}}"),
        ("deployment", "{spec: {replicas: 2}}"),
    ];
    let both = both.map(|(key, text)| (key.to_owned(), text.to_owned()));
    let refused = Overlays::read(&BTreeMap::from(both)).unwrap_err();
    assert_eq!(refused.key, "deployment");
    assert!(
        read(AUTOSCALER_KEY, "{spec: {maxReplicas: 4}}")
            .unwrap()
            .has_autoscaler()
    );
    assert!(!Overlays::default().has_autoscaler());
}

#[test]
fn a_budget_has_one_bound() {
    let mut budget = json!({ "spec": { "maxUnavailable": 1, "selector": {} } });
    let overlay = read("podDisruptionBudget", "{spec: {minAvailable: 2}}").unwrap();
    overlay.lay_over("PodDisruptionBudget", &mut budget).unwrap();
    assert_eq!(budget, json!({ "spec": { "minAvailable": 2, "selector": {} } }));
}
