//! The manifests by themselves: what they grant, and that their parts fit together.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use culvert_deploy::{Component, Document, Values, manifests};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::{ConfigMap, Container, Namespace, PodTemplateSpec, ResourceQuota, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn base() -> Vec<Document> {
    manifests(&Values::default()).unwrap()
}

/// The base with everything that can be added to it, except what takes something away.
pub(crate) fn everything() -> Vec<Document> {
    let mut values = Values::default();
    values.components = Component::ALL
        .into_iter()
        .filter(|component| *component != Component::SingleReplica)
        .collect();
    manifests(&values).unwrap()
}

fn all<T: DeserializeOwned>(documents: &[Document], kind: &str) -> Vec<T> {
    let of_kind = documents.iter().filter(|document| document.id().kind == kind);
    of_kind
        .map(|document| serde_json::from_value(document.value().clone()).unwrap())
        .collect()
}

pub(crate) fn only<T: DeserializeOwned>(documents: &[Document], kind: &str) -> T {
    let mut all = all(documents, kind);
    assert_eq!(all.len(), 1, "{kind}");
    all.remove(0)
}

/// By the workload's name.
fn templates(documents: &[Document]) -> BTreeMap<String, PodTemplateSpec> {
    let daemon_sets = all::<DaemonSet>(documents, "DaemonSet")
        .into_iter()
        .map(|set| (set.metadata.name.unwrap(), set.spec.unwrap().template));
    let deployments = all::<Deployment>(documents, "Deployment")
        .into_iter()
        .map(|deployment| (deployment.metadata.name.unwrap(), deployment.spec.unwrap().template));
    daemon_sets.chain(deployments).collect()
}

pub(crate) fn containers(documents: &[Document]) -> Vec<Container> {
    let specs = templates(documents)
        .into_values()
        .map(|template| template.spec.unwrap());
    specs
        .flat_map(|spec| {
            spec.init_containers
                .unwrap_or_default()
                .into_iter()
                .chain(spec.containers)
        })
        .collect()
}

/// What the type does not know is lost on the way through it.
fn through<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(value.clone()).unwrap()).unwrap()
}

#[test]
fn no_field_is_misspelt() {
    for document in everything() {
        let value = document.value();
        let understood = match document.id().kind.as_str() {
            "ClusterRole" => through::<ClusterRole>(value),
            "ClusterRoleBinding" => through::<ClusterRoleBinding>(value),
            "ConfigMap" => through::<ConfigMap>(value),
            "DaemonSet" => through::<DaemonSet>(value),
            "Deployment" => through::<Deployment>(value),
            "Namespace" => through::<Namespace>(value),
            "NetworkPolicy" => through::<NetworkPolicy>(value),
            "PodDisruptionBudget" => through::<PodDisruptionBudget>(value),
            "ResourceQuota" => through::<ResourceQuota>(value),
            "Role" => through::<Role>(value),
            "RoleBinding" => through::<RoleBinding>(value),
            "Service" => through::<Service>(value),
            "ServiceAccount" => through::<ServiceAccount>(value),
            other => panic!("a kind that nobody checks: {other}"),
        };
        assert_eq!(&understood, value, "{}", document.id());
    }
}

#[test]
fn every_object_is_named_once_and_labelled_and_lives_in_our_namespace() {
    let cluster_wide = ["ClusterRole", "ClusterRoleBinding", "Namespace"];
    let mut seen = BTreeSet::new();
    for document in everything() {
        let id = document.id().clone();
        let labels = &document.value()["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/part-of"], "culvert", "{id}");
        let name = labels["app.kubernetes.io/name"].as_str().unwrap();
        assert!(
            ["culvert", "culvert-node", "culvert-controller"].contains(&name),
            "{id}: {name}"
        );
        let namespace = (!cluster_wide.contains(&id.kind.as_str())).then_some(culvert_deploy::NAMESPACE);
        assert_eq!(id.namespace.as_deref(), namespace, "{id}");
        assert!(seen.insert(id.clone()), "{id} twice");
    }
}

#[test]
fn images_and_version_labels_are_of_this_version() {
    let version = culvert_deploy::VERSION;
    let images: BTreeSet<String> = containers(&base()).into_iter().filter_map(|c| c.image).collect();
    let expected = ["agent", "controller", "ztunnel"].map(|name| format!("culvert.dev/{name}:{version}"));
    assert_eq!(images, BTreeSet::from(expected));
    for (name, template) in templates(&base()) {
        let labels = template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels["app.kubernetes.io/version"], version, "{name}");
    }
    let chart = include_str!("../helm/culvert/Chart.yaml");
    assert!(chart.contains(&format!("\nversion: {version}\n")), "{chart}");
    assert!(chart.contains(&format!("\nappVersion: \"{version}\"\n")), "{chart}");
}

#[test]
fn selectors_select_what_they_are_for() {
    let documents = everything();
    let templates = templates(&documents);
    let labels = |name: &str| templates[name].metadata.clone().unwrap().labels.unwrap();
    let selects = |selector: BTreeMap<String, String>, name: &str| {
        assert!(!selector.is_empty());
        let labels = labels(name);
        assert!(
            selector.iter().all(|(key, value)| labels.get(key) == Some(value)),
            "{name}"
        );
        for other in templates.keys().filter(|other| *other != name) {
            let other = templates[other].metadata.clone().unwrap().labels.unwrap();
            assert!(!selector.iter().all(|(key, value)| other.get(key) == Some(value)));
        }
    };
    let daemon_set: DaemonSet = only(&documents, "DaemonSet");
    selects(daemon_set.spec.unwrap().selector.match_labels.unwrap(), "culvert-node");
    let deployment: Deployment = only(&documents, "Deployment");
    selects(
        deployment.spec.unwrap().selector.match_labels.unwrap(),
        "culvert-controller",
    );
    for constraint in templates["culvert-controller"]
        .spec
        .clone()
        .unwrap()
        .topology_spread_constraints
        .unwrap()
    {
        selects(
            constraint.label_selector.unwrap().match_labels.unwrap(),
            "culvert-controller",
        );
    }
    let budget: PodDisruptionBudget = only(&documents, "PodDisruptionBudget");
    selects(
        budget.spec.unwrap().selector.unwrap().match_labels.unwrap(),
        "culvert-controller",
    );
    let service: Service = only(&documents, "Service");
    selects(service.spec.clone().unwrap().selector.unwrap(), "culvert-controller");
    let policy: NetworkPolicy = only(&documents, "NetworkPolicy");
    let policy = policy.spec.unwrap();
    selects(policy.pod_selector.unwrap().match_labels.unwrap(), "culvert-controller");
    let peer = policy.ingress.unwrap()[0].from.clone().unwrap().remove(0);
    selects(peer.pod_selector.unwrap().match_labels.unwrap(), "culvert-node");
    assert!(
        only::<Service>(&documents, "Service")
            .spec
            .unwrap()
            .ports
            .unwrap()
            .len()
            == 2
    );
}

#[test]
fn ports_that_are_named_exist() {
    let documents = everything();
    for container in containers(&documents) {
        let ports: BTreeSet<String> = container
            .ports
            .iter()
            .flatten()
            .filter_map(|port| port.name.clone())
            .collect();
        let probes = [
            &container.startup_probe,
            &container.readiness_probe,
            &container.liveness_probe,
        ];
        for get in probes.into_iter().flatten().filter_map(|probe| probe.http_get.as_ref()) {
            let port = serde_json::to_value(&get.port).unwrap();
            assert!(ports.contains(port.as_str().unwrap()), "{}: {port}", container.name);
        }
        assert!(
            container.readiness_probe.is_some(),
            "{} says nothing of its readiness",
            container.name
        );
    }
    let controller = containers(&documents)
        .into_iter()
        .find(|c| c.name == "controller")
        .unwrap();
    let service: Service = only(&documents, "Service");
    for port in service.spec.unwrap().ports.unwrap() {
        let target = serde_json::to_value(port.target_port.unwrap()).unwrap();
        let named = controller
            .ports
            .iter()
            .flatten()
            .find(|own| own.name.as_deref() == target.as_str());
        assert_eq!(named.unwrap().container_port, port.port);
    }
}

/// Every volume is mounted, every mount has a volume.
#[test]
fn nothing_is_mounted_in_vain() {
    for (name, template) in templates(&everything()) {
        let spec = template.spec.unwrap();
        let volumes: BTreeSet<String> = spec.volumes.unwrap_or_default().into_iter().map(|v| v.name).collect();
        let mounts = spec
            .containers
            .into_iter()
            .flat_map(|c| c.volume_mounts.unwrap_or_default());
        assert_eq!(
            mounts.map(|mount| mount.name).collect::<BTreeSet<_>>(),
            volumes,
            "{name}"
        );
    }
}

#[test]
fn values_reach_the_objects_and_those_that_cannot_be_meant_are_refused() {
    let mut values = Values::default();
    values.registry = "registry.example:5000/mesh".to_owned();
    values.tag = "v9".to_owned();
    values.host_paths.runtime = "/run/k3s/containerd".to_owned();
    let documents = manifests(&values).unwrap();
    for container in containers(&documents) {
        assert_eq!(
            container.image,
            Some(format!("registry.example:5000/mesh/{}:v9", container.name))
        );
    }
    let volumes = templates(&documents)["culvert-node"]
        .spec
        .clone()
        .unwrap()
        .volumes
        .unwrap();
    let runtime = volumes.into_iter().find(|volume| volume.name == "runtime").unwrap();
    assert_eq!(runtime.host_path.unwrap().path, "/run/k3s/containerd");

    let refused = |change: fn(&mut Values)| {
        let mut values = Values::default();
        change(&mut values);
        manifests(&values).unwrap_err().to_string()
    };
    assert!(refused(|values| values.tag = "a b".to_owned()).contains("`a b`"));
    assert!(refused(|values| values.registry.clear()).contains("registry"));
    assert!(refused(|values| values.host_paths.cni_bin = "opt/cni".to_owned()).contains("cni-bin"));
    assert!(refused(|values| values.host_paths.cni_conf = "/etc/../root".to_owned()).contains("cni-conf"));
}

/// A variable that is misspelt would change nothing and say nothing.
#[test]
fn programs_read_the_variables_that_they_are_given() {
    for container in containers(&everything()) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(&container.name)
            .join("src");
        let source = text_below(&folder);
        for variable in container.env.unwrap_or_default() {
            let flag = format!("env = \"{}\"", variable.name);
            assert!(
                source.contains(&flag),
                "{} does not read {}",
                container.name,
                variable.name
            );
        }
    }
}

fn text_below(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => text += &text_below(&path),
            false => text += &std::fs::read_to_string(&path).unwrap(),
        }
    }
    text
}

/// GKE admits critical pods only in a namespace with a quota that speaks of their class.
#[test]
fn every_critical_priority_class_has_a_quota_that_admits_it() {
    let quota: ResourceQuota = only(&base(), "ResourceQuota");
    let selector = quota.spec.unwrap().scope_selector.unwrap().match_expressions.unwrap();
    let admitted: BTreeSet<String> = selector
        .into_iter()
        .filter(|one| one.scope_name == "PriorityClass" && one.operator == "In")
        .flat_map(|one| one.values.unwrap())
        .collect();
    let wanted = templates(&base())
        .into_values()
        .map(|one| one.spec.unwrap().priority_class_name.unwrap());
    assert_eq!(admitted, wanted.collect());
}

/// A node of another architecture would only see `exec format error`.
#[test]
fn pods_go_to_nodes_that_the_images_are_for() {
    let mut values = Values::default();
    values.architectures = vec!["s390x".to_owned()];
    for (values, expected) in [(Values::default(), vec!["amd64", "arm64"]), (values, vec!["s390x"])] {
        for (name, template) in templates(&manifests(&values).unwrap()) {
            let affinity = template.spec.unwrap().affinity.unwrap().node_affinity.unwrap();
            let required = affinity.required_during_scheduling_ignored_during_execution.unwrap();
            let rule = &required.node_selector_terms[0].match_expressions.as_ref().unwrap()[0];
            assert_eq!(
                (rule.key.as_str(), rule.operator.as_str()),
                ("kubernetes.io/arch", "In"),
                "{name}"
            );
            assert_eq!(rule.values.as_ref().unwrap(), &expected, "{name}");
        }
    }
    values_without_architectures_are_refused();
}

fn values_without_architectures_are_refused() {
    let mut values = Values::default();
    values.architectures.clear();
    assert!(manifests(&values).is_err());
}
