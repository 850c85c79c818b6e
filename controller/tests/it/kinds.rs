//! Kinds of Istio, of the Gateway API and of Culvert's own in a real API server: their CRDs come and go while the controller follows.
//!
//! Needs what `cluster` needs, and the CRDs: `cargo xtask crds`.

use std::path::{Path, PathBuf};

use culvert_objects::{Kind, Loaded, known};
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
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds/culvert.dev.yaml");
    entries.map(|entry| entry.unwrap().path()).chain([own]).collect()
}

/// The kinds that a cluster has by CRDs.
fn kinds() -> Vec<Kind> {
    let all = Kind::ALL.iter().copied();
    all.filter(|kind| known::find(kind.descriptor().group, kind.descriptor().name).is_some())
        .collect()
}

/// An object of a kind, of the version that is asked for. What its schema alone requires is left out: it is not checked.
fn object(kind: Kind) -> serde_json::Value {
    let descriptor = kind.descriptor();
    let metadata = if descriptor.namespaced {
        json!({"name": "ours", "namespace": "default"})
    } else {
        json!({"name": "ours"})
    };
    let spec = match kind {
        Kind::ServiceEntry => json!({"hosts": ["ours.example"], "ports": [{"number": 80, "name": "http"}]}),
        Kind::WorkloadEntry => json!({"address": "198.18.0.9"}),
        Kind::Gateway => json!({"gatewayClassName": "culvert-waypoint", "listeners": []}),
        _ => json!({}),
    };
    json!({"apiVersion": descriptor.api_version(), "kind": descriptor.name, "metadata": metadata, "spec": spec})
}

/// How many objects of these kinds are in force.
fn held(loaded: &Loaded) -> usize {
    kinds().into_iter().map(|kind| loaded.objects.count(kind)).sum()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "brings up a cluster: `cargo xtask test --cluster` runs it"]
async fn every_kind_of_others_is_followed_as_soon_as_a_cluster_has_it_and_forgotten_with_it() {
    let up = Up::new();
    let mut loaded = culvert_controller::source::follow(up.cluster.kubeconfig())
        .await
        .unwrap();
    until(&mut loaded, |loaded| loaded.generation > 0).await;
    assert_eq!(held(&loaded.borrow()), 0);
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
    up.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    for kind in kinds() {
        up.cluster.kubectl_client().apply(&object(kind).to_string()).unwrap();
    }
    let all = until(&mut loaded, |loaded| held(loaded) == kinds().len()).await;
    for kind in kinds() {
        assert_eq!(all.objects.count(kind), 1, "{}", kind.descriptor().title);
    }
    up.kubectl(&["delete", "crd", "--all", "--wait=false"]);
    until(&mut loaded, |loaded| held(loaded) == 0).await;
}
