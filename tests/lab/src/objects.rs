//! The lab's Kubernetes objects, as files for the controller and the agents to read: one object, one file.

use crate::{Node, Pod, Service};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The folder with the files.
#[derive(Debug)]
pub(crate) struct Objects {
    dir: PathBuf,
}

impl Objects {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the object in place of the one of the same kind, namespace and name.
    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        let text = serde_yaml_ng::to_string(object).context("write YAML")?;
        let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        self.write(
            &file_name(word("/kind"), word("/metadata/namespace"), word("/metadata/name")),
            &text,
        )
    }

    /// Removes the object's file.
    pub(crate) fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let path = self.dir.join(file_name(kind, namespace, name));
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }

    /// Writes a file whole: a reader sees the old content or the new, nothing between.
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<()> {
        let (path, draft) = (self.dir.join(file), self.dir.join(format!(".{file}.draft")));
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// `kind[-namespace]-name.yaml`, in lower case.
fn file_name(kind: &str, namespace: &str, name: &str) -> String {
    let parts: Vec<&str> = [kind, namespace, name]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    format!("{}.yaml", parts.join("-").to_lowercase())
}

pub(crate) fn namespace(name: &str, labels: &BTreeMap<String, String>) -> Value {
    let mut labels = labels.clone();
    labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

pub(crate) fn service_account(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": namespace } })
}

pub(crate) fn node(node: &Node) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node.name(), "labels": { "kubernetes.io/hostname": node.name() } },
        "spec": { "podCIDRs": [format!("198.18.{}.0/24", node.number()), format!("fd00:c01e:{}::/64", node.number())] },
        "status": { "addresses": [
            { "type": "InternalIP", "address": node.ip4().to_string() },
            { "type": "InternalIP", "address": node.ip6().to_string() },
            { "type": "Hostname", "address": node.name() },
        ] },
    })
}

pub(crate) fn pod(pod: &Pod, node: &Node) -> Value {
    let spec = &pod.0.spec;
    let mut annotations = spec.annotations.clone();
    annotations
        .entry("culvert.dev/netns".to_owned())
        .or_insert_with(|| pod.netns().name().to_owned());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": spec.name, "namespace": spec.namespace, "labels": spec.labels, "annotations": annotations,
        },
        "spec": {
            "nodeName": node.name(), "serviceAccountName": spec.service_account, "containers": spec.containers,
        },
        "status": {
            "phase": "Running",
            "hostIP": node.ip4().to_string(),
            "podIP": pod.ip4().to_string(),
            "podIPs": pod.addresses().map(|ip| json!({ "ip": ip.to_string() })),
            "conditions": [{ "type": "Ready", "status": "True" }, { "type": "ContainersReady", "status": "True" }],
        },
    })
}

pub(crate) fn service(service: &Service) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": service.name(), "namespace": service.namespace(), "labels": service.spec.labels },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": service.ip4().to_string(),
            "clusterIPs": service.addresses().map(|ip| ip.to_string()),
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack",
            "selector": service.spec.selector,
            "ports": service.spec.ports,
        },
    })
}
