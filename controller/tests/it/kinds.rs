//! Kinds of Istio and of the Gateway API in a real API server: their CRDs come and go while the controller follows.
//!
//! Needs what `cluster` needs, and the CRDs: `cargo xtask crds`.

use std::path::{Path, PathBuf};

use culvert_objects::{Kind, Loaded};
use serde_json::json;

use crate::cluster::{Up, until};

/// The files of the CRDs.
fn crds() -> Vec<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let folders = ["istio", "gateway-api/experimental"].map(|folder| target.join("crds").join(folder));
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("`cargo xtask crds` fetches them"));
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// An object of each kind, of the version that is asked for. What their schemas require is left out: they are not checked.
fn objects() -> Vec<serde_json::Value> {
    let kinds = Kind::ALL.iter().map(|kind| kind.descriptor());
    let ours = kinds.filter(|kind| kind.unserved.is_some());
    ours.map(|kind| {
        let metadata = if kind.namespaced {
            json!({"name": "ours", "namespace": "default"})
        } else {
            json!({"name": "ours"})
        };
        json!({"apiVersion": kind.api_version(), "kind": kind.name, "metadata": metadata})
    })
    .collect()
}

fn said(loaded: &Loaded) -> usize {
    let findings = loaded.findings.keys();
    findings
        .filter(|finding| finding.message.contains("is not served: "))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
async fn every_kind_of_others_is_followed_as_soon_as_a_cluster_has_it_and_forgotten_with_it() {
    let up = Up::new();
    let mut loaded = culvert_controller::source::follow(up.cluster.kubeconfig())
        .await
        .unwrap();
    until(&mut loaded, |loaded| loaded.generation > 0).await;
    assert_eq!(said(&loaded.borrow()), 0);
    for file in crds() {
        // Without what they require, an object of each kind is easily made.
        let text = std::fs::read_to_string(&file).unwrap();
        for part in text.split("\n---\n") {
            let mut crd: serde_json::Value = serde_yaml_ng::from_str(part).unwrap();
            let Some(versions) = crd["spec"]["versions"].as_array_mut() else {
                continue;
            };
            for version in versions {
                let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
                version["schema"] = json!({"openAPIV3Schema": any});
            }
            up.cluster.kubectl_client().apply(&crd.to_string()).unwrap();
        }
    }
    let objects = objects();
    up.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    for object in &objects {
        up.cluster.kubectl_client().apply(&object.to_string()).unwrap();
    }
    let all = until(&mut loaded, |loaded| said(loaded) == objects.len()).await;
    let gateways = (all.objects.gateways.len(), all.objects.istio_gateways.len());
    assert_eq!(gateways, (1, 1), "two kinds of one name");
    up.kubectl(&["delete", "crd", "--all", "--wait=false"]);
    until(&mut loaded, |loaded| said(loaded) == 0).await;
}
