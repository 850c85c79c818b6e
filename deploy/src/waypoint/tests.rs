use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Overlays, Proxy, Waypoint};

fn waypoint() -> Waypoint {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    Waypoint {
        namespace: "shop".to_owned(),
        name: "wp".to_owned(),
        class: "culvert-waypoint".to_owned(),
        uid: "1234".to_owned(),
        manager: "culvert-controller".to_owned(),
        labels: map(&[
            ("team", "books"),
            ("istio.io/dataplane-mode", "ambient"),
            ("gateway.networking.k8s.io/gateway-name", "another"),
        ]),
        annotations: map(&[("note", "asked for"), ("prometheus.io/port", "1")]),
        proxy: Proxy::Culvert,
        image: "registry.example/waypoint:1".to_owned(),
        pull_policy: "Never".to_owned(),
        environment: map(&[("CULVERT_TRUST_DOMAIN", "example.org")]),
        overlays: Overlays::default(),
    }
}

fn rendered() -> BTreeMap<String, Value> {
    let documents = waypoint().documents().unwrap();
    documents
        .into_iter()
        .map(|document| (document.id().kind.clone(), document.into_value()))
        .collect()
}

/// What the type does not know is lost on the way through it.
fn through<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(value.clone()).unwrap()).unwrap()
}

#[test]
fn no_field_is_misspelt() {
    let all = rendered();
    assert_eq!(all.len(), 4);
    assert_eq!(through::<ServiceAccount>(&all["ServiceAccount"]), all["ServiceAccount"]);
    assert_eq!(through::<Deployment>(&all["Deployment"]), all["Deployment"]);
    assert_eq!(through::<Service>(&all["Service"]), all["Service"]);
    assert_eq!(
        through::<PodDisruptionBudget>(&all["PodDisruptionBudget"]),
        all["PodDisruptionBudget"]
    );
}

#[test]
fn everything_has_the_gateways_name_and_goes_with_it() {
    for (kind, value) in rendered() {
        let metadata = &value["metadata"];
        assert_eq!(
            (&metadata["name"], &metadata["namespace"]),
            (&json!("wp"), &json!("shop")),
            "{kind}"
        );
        assert_eq!(
            metadata["labels"]["gateway.networking.k8s.io/gateway-name"], "wp",
            "{kind}"
        );
        assert_eq!(
            metadata["labels"]["culvert.dev/managed-by"], "culvert-controller",
            "{kind}"
        );
        let owner = &metadata["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["uid"]),
            (&json!("Gateway"), &json!("1234")),
            "{kind}"
        );
        assert_eq!(metadata["labels"]["team"], "books", "{kind}: what is asked for");
        assert_eq!(metadata["annotations"]["note"], "asked for", "{kind}");
    }
}

#[test]
fn what_is_asked_for_does_not_replace_what_the_waypoint_lives_by() {
    let all = rendered();
    let template = &all["Deployment"]["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    assert_eq!(labels["istio.io/dataplane-mode"], "none");
    assert_eq!(labels["culvert.dev/mesh"], "none");
    assert_eq!(labels["networking.istio.io/tunnel"], "http");
    assert_eq!(labels["gateway.networking.k8s.io/gateway-name"], "wp");
    assert_eq!(template["metadata"]["annotations"]["prometheus.io/port"], "15020");
    let selector = json!({ "gateway.networking.k8s.io/gateway-name": "wp" });
    assert_eq!(all["Deployment"]["spec"]["selector"]["matchLabels"], selector);
    assert_eq!(all["Service"]["spec"]["selector"], selector);
    assert_eq!(all["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"], selector);
    let spread = template["spec"]["topologySpreadConstraints"].as_array().unwrap();
    assert!(spread.iter().all(|one| one["labelSelector"]["matchLabels"] == selector));
}

#[test]
fn the_program_is_told_which_gateway_it_serves_and_what_the_mesh_is() {
    let all = rendered();
    let spec = &all["Deployment"]["spec"]["template"]["spec"];
    assert_eq!(spec["serviceAccountName"], "wp");
    let container = &spec["containers"][0];
    assert_eq!(
        (&container["image"], &container["imagePullPolicy"]),
        (&json!("registry.example/waypoint:1"), &json!("Never"))
    );
    let environment = container["env"].as_array().unwrap();
    let value = |name: &str| {
        environment
            .iter()
            .find(|one| one["name"] == name)
            .map(|one| one["value"].clone())
    };
    assert_eq!(value("CULVERT_GATEWAY"), Some(json!("wp")));
    assert_eq!(value("CULVERT_TRUST_DOMAIN"), Some(json!("example.org")));
    assert_eq!(
        value("CULVERT_CONTROLLER"),
        Some(json!("https://culvert-controller.culvert-system.svc:15012"))
    );
}

#[test]
fn a_waypoint_has_no_privilege() {
    let all = rendered();
    let spec = &all["Deployment"]["spec"]["template"]["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &spec["containers"][0]["securityContext"];
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"], json!({ "drop": ["ALL"] }));
}

#[test]
fn envoy_asks_the_same_controller_with_the_token_of_its_pod() {
    let waypoint = Waypoint {
        proxy: Proxy::Envoy,
        environment: [("CULVERT_CONTROLLER".to_owned(), "https://elsewhere:1".to_owned())].into(),
        ..waypoint()
    };
    let documents = waypoint.documents().unwrap();
    let deployment = documents
        .into_iter()
        .find(|document| document.id().kind == "Deployment");
    let deployment = deployment.unwrap().into_value();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"][0], "--config-yaml");
    let bootstrap: Value = serde_json::from_str(container["args"][1].as_str().unwrap()).unwrap();
    let service = &bootstrap["dynamic_resources"]["ads_config"]["grpc_services"][0]["google_grpc"];
    assert_eq!(service["target_uri"], "elsewhere:1");
    let token = &service["call_credentials"][0]["from_plugin"]["typed_config"]["secret_data"]["filename"];
    let mounted = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    assert_eq!(token, &json!(format!("{mounted}/token")));
}

#[test]
fn parameters_are_laid_over_and_may_ask_for_an_autoscaler() {
    let data = [
        ("deployment", "{spec: {template: {spec: {nodeSelector: {disk: fast}}}}}"),
        ("horizontalPodAutoscaler", "{spec: {minReplicas: 2, maxReplicas: 5}}"),
    ];
    let data = data.map(|(key, text)| (key.to_owned(), text.to_owned()));
    let overlays = Overlays::read(&BTreeMap::from(data)).unwrap();
    let asked = Waypoint { overlays, ..waypoint() };
    let documents = asked.documents().unwrap();
    let of = |kind: &str| {
        documents
            .iter()
            .find(|document| document.id().kind == kind)
            .unwrap()
            .value()
    };
    let pod = &of("Deployment")["spec"]["template"]["spec"];
    assert_eq!(
        pod["nodeSelector"],
        json!({ "kubernetes.io/os": "linux", "disk": "fast" })
    );
    assert_eq!(pod["containers"][0]["image"], "registry.example/waypoint:1");
    let autoscaler = of("HorizontalPodAutoscaler");
    assert_eq!(through::<HorizontalPodAutoscaler>(autoscaler), *autoscaler);
    assert_eq!(autoscaler["spec"]["scaleTargetRef"]["name"], "wp");
    assert_eq!(autoscaler["spec"]["maxReplicas"], 5);
    assert_eq!(autoscaler["metadata"]["ownerReferences"][0]["uid"], "1234");
}
