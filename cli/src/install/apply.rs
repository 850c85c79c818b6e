//! Server-side apply, in an order in which each object finds what it needs.

use crate::{
    cluster::{Cluster, Failure, names},
    kinds::{DAEMON_SET, DEPLOYMENT, api},
    progress::Progress,
};
use culvert_deploy::Setting;
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Namespace};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Changed,
    Unchanged,
}

/// An object that was applied.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) change: Change,
    /// As of now.
    version: String,
}

impl Applied {
    pub(super) fn json(&self) -> Value {
        let change = match self.change {
            Change::Created => "created",
            Change::Changed => "changed",
            Change::Unchanged => "unchanged",
        };
        json!({ "kind": self.kind, "name": self.name, "change": change })
    }
}

/// Applies all objects. Stops at the first that is refused: the next ones need it.
pub(super) async fn all(
    cluster: &Cluster,
    objects: &[Value],
    force: bool,
    progress: &Progress,
) -> Result<Vec<Applied>, Failure> {
    let step = progress.step("apply");
    let mut applied = Vec::new();
    for object in objects {
        match one(cluster, object, force).await {
            Ok(done) => {
                if done.change != Change::Unchanged {
                    let change = if done.change == Change::Created {
                        "created"
                    } else {
                        "changed"
                    };
                    step.say(format!("{} {} {change}", done.kind, done.name));
                }
                applied.push(done);
            }
            Err(failure) => {
                step.failed(failure.to_string());
                return Err(failure);
            }
        }
    }
    let changed = applied.iter().filter(|one| one.change != Change::Unchanged).count();
    step.done(format!("{} objects, {changed} of them changed", applied.len()));
    Ok(applied)
}

/// Creates the kinds of objects that the cluster lacks, and brings Culvert's own up to date: an API server drops the fields that an older one
/// does not name. Others that are there may be Istio's, with objects in them, and stay.
pub(super) async fn kinds(
    cluster: &Cluster,
    definitions: &[Value],
    progress: &Progress,
) -> Result<Vec<Applied>, Failure> {
    let mut all = Vec::new();
    for definition in definitions {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        let is_own = definition["spec"]["group"] == OWN_GROUP;
        let api = api(cluster, ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
        let there = api.get_metadata_opt(name).await;
        let there = there.map_err(|error| Failure::of(format!("reading the kind {name}"), error))?;
        if there.is_some() && !is_own {
            continue;
        }
        // Of our own nobody else knows better.
        let applied = one(cluster, definition, is_own).await?;
        match applied.change {
            Change::Created => progress.note(format!(
                "kind {name} created; it stays when Culvert goes, with its objects"
            )),
            Change::Changed => progress.note(format!("kind {name} changed")),
            Change::Unchanged => {}
        }
        all.push(applied);
    }
    Ok(all)
}

/// Of the kinds that Culvert alone has.
const OWN_GROUP: &str = "culvert.dev";

async fn one(cluster: &Cluster, object: &Value, force: bool) -> Result<Applied, Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let api_version = text(&object["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let api = api(cluster, (group, version, &kind));
    let before = api
        .get_metadata_opt(&name)
        .await
        .map_err(|error| Failure::of(format!("reading {kind} {name}"), error))?;
    let parameters = PatchParams {
        force,
        ..PatchParams::apply(names::MANAGER)
    };
    let mut after = api
        .patch(&name, &parameters, &Patch::Apply(object))
        .await
        .map_err(|error| refused(&kind, &name, error))?;
    if let Some(without) = unwanted_settings(object, &after.data) {
        after = api
            .patch(&name, &PatchParams::default(), &Patch::Merge(&without))
            .await
            .map_err(|error| Failure::of(format!("taking settings out of {kind} {name}"), error))?;
    }
    let version = after.resource_version().unwrap_or_default();
    let change = match before.map(|object| object.resource_version().unwrap_or_default()) {
        None => Change::Created,
        Some(before) if before == version => Change::Unchanged,
        Some(_) => Change::Changed,
    };
    Ok(Applied {
        kind,
        name,
        change,
        version,
    })
}

/// A patch that takes out what the ConfigMap still has of settings that are to be as if nobody had set them: applying takes out only
/// what this command has put there, and leaves what came there by kubectl.
fn unwanted_settings(wanted: &Value, there: &Value) -> Option<Value> {
    let there = there["data"].as_object().filter(|_| wanted["kind"] == "ConfigMap")?;
    let unwanted = there
        .keys()
        .filter(|key| Setting::of(key).is_some() && wanted["data"][key.as_str()].is_null());
    let nothing: Map<String, Value> = unwanted.map(|key| (key.clone(), Value::Null)).collect();
    (!nothing.is_empty()).then(|| json!({ "data": nothing }))
}

/// Two refusals have a remedy of their own: another's fields, and fields that cannot change.
fn refused(kind: &str, name: &str, error: kube::Error) -> Failure {
    let doing = format!("applying {kind} {name}");
    let remedy = match &error {
        kube::Error::Api(status) if status.code == 409 => "somebody else has set these fields; --force takes them over",
        kube::Error::Api(status) if status.code == 422 => {
            "a field of the object that is there cannot be changed: delete the object, then install again"
        }
        _ => return Failure::of(doing, error),
    };
    match Failure::of(doing, error) {
        Failure::Refused {
            doing,
            message,
            code,
            reason,
        } => Failure::Refused {
            doing,
            message: format!("{message}\n  remedy: {remedy}\n "),
            code,
            reason,
        },
        other => other,
    }
}

/// What applying alone does not do: ends an uninstallation that was broken off, and restarts the programs after a change of
/// their configuration, which they read when they start.
pub(super) async fn after(cluster: &Cluster, applied: &[Applied]) -> Result<(), Failure> {
    let namespaces: Api<Namespace> = cluster.all();
    let stays = json!({ "metadata": { "annotations": { names::UNINSTALLING: null } } });
    namespaces
        .patch(names::NAMESPACE, &PatchParams::default(), &Patch::Merge(&stays))
        .await
        .map_err(|error| Failure::of("taking back the namespace's annotation", error))?;
    // Where Helm's hook left it. It is no field of the manifests, so applying does not take it away.
    let sets: Api<DaemonSet> = cluster.ours();
    match sets
        .patch(names::NODE, &PatchParams::default(), &Patch::Merge(&stays))
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        patched => drop(patched.map_err(|error| Failure::of("taking back the DaemonSet's annotation", error))?),
    }
    let Some(configuration) = applied
        .iter()
        .find(|one| one.kind == "ConfigMap" && one.name == names::CONFIG && one.change == Change::Changed)
    else {
        return Ok(());
    };
    let restart = json!({ "spec": { "template": { "metadata": { "annotations": {
        "culvert.dev/configuration": configuration.version,
    } } } } });
    for (kind, name) in [(DEPLOYMENT, names::CONTROLLER), (DAEMON_SET, names::NODE)] {
        api(cluster, kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(&restart))
            .await
            .map_err(|error| Failure::of(format!("restarting {name} for its new configuration"), error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::unwanted_settings;
    use serde_json::json;

    #[test]
    fn settings_that_others_have_set_are_taken_out_where_nobody_wants_them_and_what_is_no_setting_stays() {
        let wanted = json!({ "kind": "ConfigMap", "data": { "log": "info" } });
        let there = json!({ "data": { "log": "info", "leaf-ttl": "1h", "loops": "2", "of-somebody": "else" } });
        let without = unwanted_settings(&wanted, &there).unwrap();
        assert_eq!(without, json!({ "data": { "leaf-ttl": null, "loops": null } }));
        assert_eq!(
            unwanted_settings(&wanted, &json!({ "data": { "log": "info", "of-somebody": "else" } })),
            None
        );
        assert_eq!(unwanted_settings(&json!({ "kind": "Service" }), &there), None);
    }
}
