//! Three ways to the same objects: kustomize, Helm, and this crate. Each with the real program, none with a cluster.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use culvert_deploy::{Component, Document, Id, Kind, Monitoring, SETTINGS, Setting, Values, manifests};
use serde::Deserialize as _;
use serde_json::Value;

/// Changes with the configuration, so that Helm's users need not restart pods by hand; kustomize has no such thing.
const CHECKSUM: &str = "checksum/config";

type Objects = BTreeMap<Id, Value>;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program that `cargo xtask cluster programs` builds.
fn program(name: &str) -> Command {
    let path = here("../target/cluster/bin").join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo xtask cluster programs",
        path.display()
    );
    Command::new(path)
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn kustomize(folder: &str) -> Objects {
    parse(&run(program("kube").args(["kubectl", "kustomize"]).arg(here(folder))))
}

/// The namespace is not made by default; here it is, to have the same objects.
fn helm(settings: &[&str]) -> Objects {
    let mut objects = helm_as_it_is(&[settings, &["namespace.create=true"]].concat());
    for object in objects.values_mut() {
        remove_checksum(object);
    }
    objects
}

/// Without the hooks, which neither kustomize nor this crate has.
fn helm_as_it_is(settings: &[&str]) -> Objects {
    let mut objects = helm_with_hooks(settings);
    objects.retain(|_, object| !is_hook(object));
    objects
}

fn is_hook(object: &Value) -> bool {
    !object["metadata"]["annotations"]["helm.sh/hook"].is_null()
}

fn helm_with_hooks(settings: &[&str]) -> Objects {
    let mut command = program("helm");
    command.args([
        "template",
        "culvert",
        "--namespace",
        "culvert-system",
        "--kube-version",
        "1.34.0",
    ]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    parse(&run(command.arg(here("helm/culvert"))))
}

fn remove_checksum(object: &mut Value) {
    let Some(metadata) = object
        .pointer_mut("/spec/template/metadata")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut).unwrap();
    assert!(
        annotations.remove(CHECKSUM).is_some(),
        "pods would not notice a changed configuration"
    );
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

fn crate_makes(values: &Values) -> Objects {
    by_id(manifests(values).unwrap())
}

fn with(components: &[Component]) -> Values {
    let mut values = Values::default();
    values.components = components.iter().copied().collect();
    values
}

fn parse(text: &str) -> Objects {
    let documents = serde_yaml_ng::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap());
    by_id(
        documents
            .filter(|value| !value.is_null())
            .map(|value| Document::new(value).unwrap())
            .collect(),
    )
}

fn by_id(documents: Vec<Document>) -> Objects {
    let count = documents.len();
    let objects: Objects = documents
        .into_iter()
        .map(|d| (d.id().clone(), d.into_value()))
        .collect();
    assert_eq!(objects.len(), count, "an object is named twice");
    objects
}

fn assert_same(left: &Objects, right: &Objects) {
    let ids = |objects: &Objects| objects.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(ids(left), ids(right));
    for (id, object) in left {
        assert!(object == &right[id], "{id}: {}", first_difference(object, &right[id]));
    }
}

fn first_difference(left: &Value, right: &Value) -> String {
    let [left, right] = [left, right].map(|value| serde_yaml_ng::to_string(value).unwrap());
    let pair = left
        .lines()
        .zip(right.lines())
        .enumerate()
        .find(|(_, (left, right))| left != right);
    pair.map_or("one is longer".to_owned(), |(line, (left, right))| {
        format!("line {line}: {left:?} is not {right:?}")
    })
}

/// Helm creates what lies there where it is missing, and never changes or removes it.
#[test]
fn the_chart_brings_the_kinds_that_a_cluster_may_lack() {
    for name in ["culvert.dev.yaml", "networking.istio.io.yaml", "security.istio.io.yaml"] {
        let texts =
            ["crds", "helm/culvert/crds"].map(|folder| std::fs::read_to_string(here(folder).join(name)).unwrap());
        assert_eq!(texts[0], texts[1]);
    }
    assert_eq!(culvert_deploy::crds().unwrap().len(), 5);
}

/// Dashboards, alerts and monitors are no part of the mesh, and the same whichever way they come.
#[test]
fn the_chart_and_the_crate_bring_the_dashboards_and_what_the_prometheus_operator_takes() {
    for file in std::fs::read_dir(here("helm/culvert/dashboards")).unwrap() {
        let name = file.unwrap().file_name();
        let texts = ["dashboards", "helm/culvert/dashboards"]
            .map(|folder| std::fs::read_to_string(here(folder).join(&name)).unwrap());
        assert_eq!(texts[0], texts[1], "{name:?}");
    }
    let settings = ["monitoring.dashboards=true", "monitoring.operator=true"];
    let mut rendered = helm_as_it_is(&settings);
    let base = helm_as_it_is(&[]);
    rendered.retain(|id, _| !base.contains_key(id));
    let mut shipped = kustomize("dashboards");
    for file in ["monitors.yaml", "alerts.yaml"] {
        shipped.extend(parse(&std::fs::read_to_string(here("dashboards").join(file)).unwrap()));
    }
    let dashboards = shipped
        .values()
        .filter(|object| object["metadata"]["labels"]["grafana_dashboard"] == "1");
    assert_eq!(dashboards.count(), 5);
    assert_same(&rendered, &shipped);
    let mut values = Values::default();
    values.monitoring = Monitoring {
        dashboards: true,
        operator: true,
    };
    let base = crate_makes(&Values::default());
    let mut made = crate_makes(&values);
    made.retain(|id, _| !base.contains_key(id));
    assert_same(&made, &shipped);
}

#[test]
fn by_default_all_three_are_the_same() {
    let kustomized = kustomize("daemonset");
    assert!(kustomized.len() > 10);
    assert_same(&kustomized, &crate_makes(&Values::default()));
    assert_same(&kustomized, &helm(&[]));
}

/// `helm uninstall` alone would take the agents' rights away before they have ended capture.
#[test]
fn before_a_release_is_deleted_the_nodes_are_told_and_nothing_of_that_stays() {
    let objects = helm_with_hooks(&["image.registry=registry.example", "image.tag=1.2.3"]);
    let hooks: Vec<&Value> = objects.values().filter(|object| is_hook(object)).collect();
    let kinds: BTreeSet<&str> = hooks.iter().filter_map(|hook| hook["kind"].as_str()).collect();
    assert_eq!(kinds, ["Job", "Role", "RoleBinding", "ServiceAccount"].into());
    for hook in &hooks {
        let annotations = &hook["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "pre-delete");
        let policy = annotations["helm.sh/hook-delete-policy"].as_str().unwrap();
        assert!(
            policy.contains("hook-succeeded") && policy.contains("hook-failed"),
            "{policy}"
        );
    }
    let job = hooks.iter().find(|hook| hook["kind"] == "Job").unwrap();
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example/agent:1.2.3");
    assert_eq!(container["args"][0], "announce-removal");
    assert_eq!(container["securityContext"]["runAsNonRoot"], true);
}

#[test]
fn helm_makes_no_namespace_unless_told() {
    let rendered = helm_as_it_is(&[]);
    let base = kustomize("daemonset");
    let missing: Vec<String> = base
        .keys()
        .filter(|id| !rendered.contains_key(id))
        .map(Id::to_string)
        .collect();
    assert_eq!(missing, ["Namespace culvert-system"]);
}

/// The overlays, with the components that they are made of, and the chart's values that say the same.
#[test]
fn each_overlay_is_what_its_components_make() {
    let overlays: [(&str, &[Component], &[&str]); 4] = [
        (
            "dev",
            &[Component::LocalImages, Component::SingleReplica],
            &["image.pullPolicy=Never", "controller.replicas=1"],
        ),
        ("given-ca", &[Component::GivenCa], &["controller.givenCa=true"]),
        ("hold-nodes", &[Component::HoldNodes], &["holdNodes=true"]),
        (
            "single-replica",
            &[Component::SingleReplica],
            &["controller.replicas=1"],
        ),
    ];
    let folders = std::fs::read_dir(here("overlays")).unwrap();
    let folders: BTreeSet<String> = folders.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, overlays.iter().map(|(name, ..)| (*name).to_owned()).collect());
    for (name, components, settings) in overlays {
        let kustomized = kustomize(&format!("overlays/{name}"));
        assert_same(&kustomized, &crate_makes(&with(components)));
        assert_same(&kustomized, &helm(settings));
    }
}

#[test]
fn each_component_does_the_same_in_all_three() {
    let folders = std::fs::read_dir(here("components")).unwrap();
    let folders: BTreeSet<String> = folders.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(
        folders,
        Component::ALL.map(|component| component.name().to_owned()).into()
    );
    let scratch = Scratch::new();
    for component in Component::ALL {
        let kustomized = kustomize(scratch.overlay(component.name()).to_str().unwrap());
        assert_same(&kustomized, &crate_makes(&with(&[component])));
        let setting = match component {
            Component::GivenCa => "controller.givenCa=true",
            Component::HoldNodes => "holdNodes=true",
            Component::LocalImages => "image.pullPolicy=Never",
            Component::NetworkPolicy => "controller.networkPolicy=true",
            Component::Selinux => "selinux=true",
            _ => "controller.replicas=1",
        };
        assert_same(&kustomized, &helm(&[setting]));
    }
}

/// A value as the chart's `--set` takes it.
fn chart_value(setting: &Setting, value: &str) -> String {
    let is_list = matches!(
        setting.kind,
        Kind::Ranges | Kind::Ports | Kind::Resolvers | Kind::SomeOf(_)
    );
    match is_list {
        true => format!("{}={{{value}}}", setting.helm),
        false => format!("{}={}", setting.helm, value.replace(',', "\\,")),
    }
}

/// Every setting, each with the first value that it shows, the second, and so on.
#[test]
fn helm_and_the_crate_understand_the_same_values() {
    for turn in 0..3 {
        let mut values = Values::default();
        values.registry = "registry.example/mesh".to_owned();
        values.architectures = vec!["arm64".to_owned()];
        values.host_paths.runtime = "/run/k3s/containerd".to_owned();
        values.host_paths.cni_bin = "/var/lib/cni/bin".to_owned();
        values.host_paths.cni_conf = "/var/lib/cni/net.d".to_owned();
        let mut given: Vec<String> = [
            "image.registry=registry.example/mesh",
            "image.architectures={arm64}",
            "hostPaths.runtime=/run/k3s/containerd",
            "hostPaths.cniBin=/var/lib/cni/bin",
            "hostPaths.cniConf=/var/lib/cni/net.d",
        ]
        .map(str::to_owned)
        .into();
        for setting in SETTINGS {
            let examples = setting.kind.examples().allowed;
            let value = &examples[turn % examples.len()];
            given.push(chart_value(setting, value));
            // What is switched off in the chart is not there.
            if (setting.key, value.as_str()) != ("no-cni", "false") {
                values.config.set(setting.key, value).unwrap();
            }
        }
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        assert_same(&helm(&given), &crate_makes(&values));
    }
}

/// The ConfigMap to the letter: what is not set is not there.
#[test]
fn by_default_the_chart_sets_what_it_always_did() {
    let objects = helm(&[]);
    let config = objects.iter().find(|(id, _)| id.kind == "ConfigMap").unwrap().1;
    let data = serde_json::json!({ "cluster-id": "Kubernetes", "log": "info", "trust-domain": "cluster.local" });
    assert_eq!(config["data"], data);
}

/// What `helm upgrade --reuse-values` gives the chart: the values of an earlier one, which lacks the newer.
#[test]
fn the_chart_takes_the_values_of_an_earlier_one() {
    let nothing =
        ["localLegs", "noCni", "heldMemory", "loops", "metrics", "mapSizes"].map(|name| format!("config.{name}=null"));
    let given: Vec<&str> = nothing.iter().map(String::as_str).collect();
    assert_same(&helm(&given), &helm(&[]));
}

/// With an error that names the value, before anything is sent to a cluster.
#[test]
fn helm_refuses_what_the_crate_refuses_and_what_it_does_not_know() {
    for setting in SETTINGS {
        for value in setting.kind.examples().refused {
            let said = helm_refuses(&chart_value(setting, &value));
            let name = setting.helm.rsplit('.').next().unwrap();
            assert!(said.contains(name), "{}: {said}", setting.helm);
        }
    }
    for misspelt in ["config.localLeg=tcp", "conf.log=debug", "controller.replica=1"] {
        assert!(helm_refuses(misspelt).contains("not allowed"), "{misspelt}");
    }
}

fn helm_refuses(setting: &str) -> String {
    let mut command = program("helm");
    command.args([
        "template",
        "culvert",
        "--namespace",
        "culvert-system",
        "--kube-version",
        "1.34.0",
    ]);
    command.args(["--set", setting]);
    let output = command.arg(here("helm/culvert")).output().unwrap();
    assert!(!output.status.success(), "{setting} is taken");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    let said = run(program("helm").args(["lint", "--strict"]).arg(here("helm/culvert")));
    assert!(said.contains("0 chart(s) failed"), "{said}");
}

/// A folder for overlays of single components, beside ours because kustomize wants relative paths.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let folder = here("../target/cluster").join(format!("overlays-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn overlay(&self, component: &str) -> PathBuf {
        let folder = self.0.join(component);
        std::fs::create_dir_all(&folder).unwrap();
        let deploy = "../../../../deploy";
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{deploy}/daemonset]\ncomponents: \
             [{deploy}/components/{component}]\n"
        );
        std::fs::write(folder.join("kustomization.yaml"), text).unwrap();
        folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
