//! What dashboards call a workload: its owner's name, and the canonical service that it belongs to.

use culvert_objects::{Labels, Pod};

/// The name of what keeps the pod running, as a Deployment; the pod's own where nothing does.
pub fn workload_name(pod: &Pod) -> String {
    if let Some(name) = given(&pod.labels) {
        return name.to_owned();
    }
    // A pod that was created by hand may name an owner too; only generated names tell that it is one of several.
    let Some(owner) = pod.owner.as_ref().filter(|_| pod.is_generated) else {
        return pod.name.name.to_string();
    };
    match (&*owner.kind, &*owner.name) {
        ("ReplicaSet", name) => {
            let hashes = ["pod-template-hash", "rollouts-pod-template-hash"];
            let hash = hashes
                .iter()
                .filter_map(|key| pod.labels.get(key))
                .find_map(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
            hash.unwrap_or(name).to_owned()
        }
        // The jobs of a CronJob end in the minute of their schedule.
        ("Job", name) => match name.rsplit_once('-') {
            Some((cron, number))
                if !cron.is_empty()
                    && (8..=10).contains(&number.len())
                    && number.bytes().all(|b| b.is_ascii_digit()) =>
            {
                cron.to_owned()
            }
            _ => name.to_owned(),
        },
        (_, name) => name.to_owned(),
    }
}

/// The name that labels give, whatever keeps the workload running.
pub fn given(labels: &Labels) -> Option<&str> {
    labels.get("service.istio.io/workload-name")
}

/// The service that the workload is a part of, for telemetry.
pub fn canonical_name(labels: &Labels, workload_name: &str) -> String {
    let keys = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
    keys.iter()
        .find_map(|key| labels.get(key))
        .unwrap_or(workload_name)
        .to_owned()
}

/// Its revision.
pub fn canonical_revision(labels: &Labels) -> String {
    let keys = [
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ];
    keys.iter()
        .find_map(|key| labels.get(key))
        .unwrap_or("latest")
        .to_owned()
}
