//! What a Gateway's parameters (`spec.infrastructure.parametersRef`) change in what is made for it: for each kind an object of which some
//! fields are laid over ours, as Kubernetes merges patches (a "strategic merge").
//!
//! The controller makes pods that whoever writes a ConfigMap may have no right to make. So what may be said is a list: where pods run, how
//! many there are and what they get, and nothing by which other programs run in them or they come to what is not theirs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::OverlayError;

/// What is laid over the objects of a waypoint, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlays(BTreeMap<&'static str, (&'static str, Value)>);

/// Keys of a ConfigMap, the kinds that they are for, and the fields that may be said, with all below them.
const KEYS: &[(&str, &str, &[&str])] = &[
    ("deployment", "Deployment", DEPLOYMENT),
    ("service", "Service", SERVICE),
    ("serviceAccount", "ServiceAccount", &["imagePullSecrets"]),
    (
        AUTOSCALER_KEY,
        AUTOSCALER,
        &["spec.minReplicas", "spec.maxReplicas", "spec.metrics", "spec.behavior"],
    ),
    (
        "podDisruptionBudget",
        "PodDisruptionBudget",
        &[
            "spec.minAvailable",
            "spec.maxUnavailable",
            "spec.unhealthyPodEvictionPolicy",
        ],
    ),
];
const AUTOSCALER_KEY: &str = "horizontalPodAutoscaler";
/// The kind that is made where parameters ask for it alone.
pub(super) const AUTOSCALER: &str = "HorizontalPodAutoscaler";
const METADATA: &[&str] = &["metadata.labels", "metadata.annotations"];
const DEPLOYMENT: &[&str] = &[
    "spec.replicas",
    "spec.strategy",
    "spec.minReadySeconds",
    "spec.progressDeadlineSeconds",
    "spec.revisionHistoryLimit",
    "spec.template.metadata.labels",
    "spec.template.metadata.annotations",
    "spec.template.spec.affinity",
    "spec.template.spec.dnsConfig",
    "spec.template.spec.dnsPolicy",
    "spec.template.spec.imagePullSecrets",
    "spec.template.spec.nodeSelector",
    "spec.template.spec.priorityClassName",
    "spec.template.spec.runtimeClassName",
    "spec.template.spec.schedulerName",
    "spec.template.spec.terminationGracePeriodSeconds",
    "spec.template.spec.tolerations",
    "spec.template.spec.topologySpreadConstraints",
    "spec.template.spec.containers[waypoint].env",
    "spec.template.spec.containers[waypoint].imagePullPolicy",
    "spec.template.spec.containers[waypoint].name",
    "spec.template.spec.containers[waypoint].resources",
];
const SERVICE: &[&str] = &[
    "spec.externalTrafficPolicy",
    "spec.internalTrafficPolicy",
    "spec.ipFamilies",
    "spec.ipFamilyPolicy",
    "spec.loadBalancerClass",
    "spec.loadBalancerSourceRanges",
    "spec.trafficDistribution",
    "spec.type",
];

impl Overlays {
    /// Reads the data of a ConfigMap.
    ///
    /// # Errors
    /// A key that is not known, a value that is no YAML, a field that may not be said.
    pub fn read(data: &BTreeMap<String, String>) -> Result<Self, OverlayError> {
        let mut found = BTreeMap::new();
        for (key, text) in data {
            let error = |reason: String| OverlayError {
                key: key.clone(),
                reason,
            };
            let Some((key, kind, allowed)) = KEYS.iter().find(|(known, ..)| known == key) else {
                let known: Vec<&str> = KEYS.iter().map(|(known, ..)| *known).collect();
                return Err(error(format!("is not known; known are {}", known.join(", "))));
            };
            let value: Value = serde_yaml_ng::from_str(text).map_err(|fault| error(fault.to_string()))?;
            if !value.is_object() {
                return Err(error("is no object of Kubernetes".to_owned()));
            }
            check(&value, "", &[METADATA, allowed].concat()).map_err(error)?;
            found.insert(*kind, (*key, value));
        }
        let overlays = Self(found);
        overlays.check_scale()?;
        Ok(overlays)
    }

    /// Whether an autoscaler is asked for.
    pub(super) fn has_autoscaler(&self) -> bool {
        self.0.contains_key(AUTOSCALER)
    }

    /// Nobody else may say how many pods there are where an autoscaler does, and that needs a bound.
    fn check_scale(&self) -> Result<(), OverlayError> {
        let Some((key, autoscaler)) = self.0.get(AUTOSCALER) else {
            return Ok(());
        };
        let error = |key: &str, reason: &str| {
            Err(OverlayError {
                key: key.to_owned(),
                reason: reason.to_owned(),
            })
        };
        if !autoscaler["spec"]["maxReplicas"].is_u64() {
            return error(key, "spec.maxReplicas: how many pods there may be must be said");
        }
        match self.0.get("Deployment") {
            Some((key, deployment)) if !deployment["spec"]["replicas"].is_null() => {
                error(key, "spec.replicas: the autoscaler says how many pods there are")
            }
            _ => Ok(()),
        }
    }

    /// Lays over an object of a kind what is to be laid over it. What the waypoint is known and found by stays.
    ///
    /// # Errors
    /// A field that would replace what the waypoint lives by, or that cannot be merged.
    pub(super) fn lay_over(&self, kind: &str, object: &mut Value) -> Result<(), OverlayError> {
        let Some((key, patch)) = self.0.get(kind) else {
            return Ok(());
        };
        let error = |reason| OverlayError {
            key: (*key).to_owned(),
            reason,
        };
        keeps(object, patch).map_err(error)?;
        let spec = &patch["spec"];
        // One of the two alone may be there.
        if !spec["minAvailable"].is_null()
            && spec["maxUnavailable"].is_null()
            && let Some(spec) = object["spec"].as_object_mut()
        {
            spec.remove("maxUnavailable");
        }
        merge(object, patch, "").map_err(error)
    }
}

/// Whether every field may be said.
fn check(patch: &Value, path: &str, allowed: &[&str]) -> Result<(), String> {
    if allowed.contains(&path) {
        return Ok(());
    }
    let below = |path: &str| {
        allowed
            .iter()
            .any(|one| one.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])))
    };
    match patch {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let at = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            match at.as_str() {
                // Nobody has to say them, and they are compared later.
                "apiVersion" | "kind" | "metadata.name" | "metadata.namespace" => Ok(()),
                at if allowed.contains(&at) => Ok(()),
                at if below(at) => check(value, at, allowed),
                at => Err(format!(
                    "{at}: parameters cannot say this (docs/waypoints.md#parameters)"
                )),
            }
        }),
        Value::Array(items) => items.iter().try_for_each(|item| {
            let name = item["name"].as_str().unwrap_or_default();
            let at = format!("{path}[{name}]");
            if below(&at) {
                check(item, &at, allowed)
            } else {
                Err(format!(
                    "{at}: a waypoint has no such part; its container is called waypoint"
                ))
            }
        }),
        Value::Null => Ok(()),
        _ => Err(format!("{path}: has fields of its own")),
    }
}

/// Whether what is in both the object and the patch, and what the waypoint lives by, is the same in both: names, labels, and what the
/// program is told.
fn keeps(object: &Value, patch: &Value) -> Result<(), String> {
    let same = |pointer: &str| match (object.pointer(pointer), patch.pointer(pointer)) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(format!(
            "{}: is {ours} for every waypoint",
            pointer.trim_start_matches('/').replace('/', ".")
        )),
        _ => Ok(()),
    };
    for pointer in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
        same(pointer)?;
    }
    for pointer in ["/metadata/labels", "/spec/template/metadata/labels"] {
        let (Some(Value::Object(ours)), Some(Value::Object(theirs))) =
            (object.pointer(pointer), patch.pointer(pointer))
        else {
            continue;
        };
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let taken = theirs
            .iter()
            .find(|(key, value)| ours.get(*key).is_some_and(|ours| ours != *value));
        if let Some((key, _)) = taken {
            return Err(format!("{field}[{key}]: the waypoint is known by this label"));
        }
    }
    let of = |value: &Value| -> Vec<String> {
        let containers = value
            .pointer("/spec/template/spec/containers")
            .and_then(Value::as_array);
        let variables = containers
            .into_iter()
            .flatten()
            .filter_map(|container| container["env"].as_array());
        let names = variables.flatten().filter_map(|variable| variable["name"].as_str());
        names.map(str::to_owned).collect()
    };
    let ours = of(object);
    match of(patch).into_iter().find(|name| ours.contains(name)) {
        Some(name) => Err(format!(
            "spec.template.spec.containers[waypoint].env[{name}]: the controller tells the waypoint this"
        )),
        None => Ok(()),
    }
}

/// Lists whose items are merged by a field of theirs; other lists are replaced.
const LISTS: &[(&str, &str)] = &[
    ("containers", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("topologySpreadConstraints", "topologyKey"),
];
const DIRECTIVE: &str = "$patch";

/// Merges as Kubernetes does: maps field by field, null takes a field away, `$patch: replace` and `$patch: delete` do what they say.
fn merge(target: &mut Value, patch: &Value, path: &str) -> Result<(), String> {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match fields.get(DIRECTIVE).and_then(Value::as_str) {
        Some("replace") => {
            *target = Value::Object(without_directive(fields));
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Null;
            return Ok(());
        }
        Some(other) => return Err(format!("{path}: {DIRECTIVE}: {other} is not known")),
        None => {}
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else {
        return Ok(());
    };
    for (name, value) in fields {
        let at = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        if name.starts_with('$') {
            return Err(format!("{at}: is not served"));
        }
        if value.is_null() {
            target.remove(name);
            continue;
        }
        let key = LISTS.iter().find(|(list, _)| list == name).map(|(_, key)| *key);
        let there = target.entry(name.clone()).or_insert(Value::Null);
        match (key, value) {
            (Some(key), Value::Array(items)) => merge_list(there, items, key, &at)?,
            _ => merge(there, value, &at)?,
        }
        if there.is_null() {
            target.remove(name);
        }
    }
    Ok(())
}

fn merge_list(target: &mut Value, items: &[Value], key: &str, path: &str) -> Result<(), String> {
    let mut all = target.as_array().cloned().unwrap_or_default();
    for item in items {
        let Some(named) = item.get(key) else {
            return Err(format!("{path}: an item has no {key}"));
        };
        let at = format!("{path}[{}]", named.as_str().unwrap_or_default());
        match all.iter_mut().find(|there| there.get(key) == Some(named)) {
            Some(there) => merge(there, item, &at)?,
            None => {
                let mut new = Value::Null;
                merge(&mut new, item, &at)?;
                all.push(new);
            }
        }
    }
    all.retain(|item| !item.is_null());
    *target = Value::Array(all);
    Ok(())
}

fn without_directive(fields: &Map<String, Value>) -> Map<String, Value> {
    let others = fields.iter().filter(|(name, _)| *name != DIRECTIVE);
    others.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests;
