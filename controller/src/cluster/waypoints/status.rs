//! The status of a Gateway and of a class, as the Gateway API has it.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::gateway::{Asked, Listener};
use super::refusal::{Refusal, refusal};
use crate::cluster::conditions::shortened;
use crate::model::{IN_FORCE, OfGateway, REFUSED_BY_PROXY};

/// How far a waypoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Why it could not be made, if so.
    pub(super) failed: Option<Refusal>,
    /// Pods that serve.
    pub(super) available: i64,
    /// How many routes are attached.
    pub(super) attached: usize,
    /// What its pods refuse of what they are told, if they do.
    pub(super) refused: Option<OfGateway>,
}

/// What a condition says.
#[derive(Clone, Copy)]
struct Said<'a> {
    name: &'static str,
    holds: bool,
    reason: &'a str,
    message: &'a str,
}

/// The status that a Gateway is to have, given the one that it has.
pub(super) fn of_gateway(asked: &Asked, progress: &Progress, domain: &str, before: &Value, now: Timestamp) -> Value {
    let not_programmed = not_programmed(asked, progress);
    let programmed = said("Programmed", not_programmed.as_ref(), "Programmed");
    let accepted = said("Accepted", asked.refusal.as_ref(), "Accepted");
    let refused = progress
        .refused
        .as_ref()
        .map(|refused| refusal(REFUSED_BY_PROXY, shortened(refused.message.clone())));
    let in_force = refused.as_ref().map(|refused| said(IN_FORCE, Some(refused), ""));
    let all: Vec<Said<'_>> = [accepted, programmed].into_iter().chain(in_force).collect();
    let mut conditions = conditions(&before["conditions"], &all, asked.generation, now);
    // It is there as long as something is refused.
    conditions.retain(|one| in_force.is_some() || one["type"] != IN_FORCE);
    let listeners = asked.listeners.iter().map(|listener| {
        let known = before["listeners"].as_array().into_iter().flatten();
        let mut known = known.filter(|one| one["name"] == *listener.name);
        let before = known.next().map_or(&Value::Null, |one| &one["conditions"]);
        of_listener(listener, asked, progress, before, now)
    });
    let addresses = match asked.refusal {
        None => vec![json!({
            "type": "Hostname",
            "value": format!("{}.{}.svc.{domain}", asked.name.name, asked.name.namespace),
        })],
        Some(_) => Vec::new(),
    };
    json!({ "conditions": conditions, "listeners": listeners.collect::<Vec<_>>(), "addresses": addresses })
}

/// The status that a class is to have.
pub(super) fn of_class(generation: i64, before: &Value, now: Timestamp) -> Value {
    let accepted = said("Accepted", None, "Accepted");
    json!({ "conditions": conditions(&before["conditions"], &[accepted], generation, now) })
}

fn of_listener(listener: &Listener, asked: &Asked, progress: &Progress, before: &Value, now: Timestamp) -> Value {
    let unknown = (!listener.unknown.is_empty()).then(|| {
        let message = format!(
            "a waypoint does not serve routes of kind {}",
            listener.unknown.join(", ")
        );
        refusal("InvalidRouteKinds", message)
    });
    let not_programmed = match &listener.refusal {
        Some(refused) => Some(refusal("Invalid", refused.message.clone())),
        None => not_programmed(asked, progress),
    };
    let all = [
        said("Accepted", listener.refusal.as_ref(), "Accepted"),
        said("Programmed", not_programmed.as_ref(), "Programmed"),
        said("ResolvedRefs", unknown.as_ref(), "ResolvedRefs"),
        Said {
            name: "Conflicted",
            holds: false,
            reason: "NoConflicts",
            message: "",
        },
    ];
    let kinds = listener.kinds.iter();
    let kinds = kinds.map(|kind| json!({ "group": "gateway.networking.k8s.io", "kind": kind }));
    json!({
        "name": listener.name,
        "attachedRoutes": progress.attached,
        "supportedKinds": kinds.collect::<Vec<_>>(),
        "conditions": conditions(before, &all, asked.generation, now),
    })
}

/// Why a Gateway does not serve, if so.
fn not_programmed(asked: &Asked, progress: &Progress) -> Option<Refusal> {
    if let Some(refused) = &asked.refusal {
        return Some(refusal("Invalid", refused.message.clone()));
    }
    let pending = || refusal("Pending", "no pod of the waypoint is ready yet");
    // Without the listener nothing that changes at any port comes to be. Of other resources one that is refused concerns its own port.
    let of_listener = progress.refused.as_ref().filter(|refused| refused.is_listener);
    progress
        .failed
        .clone()
        .or_else(|| (progress.available == 0).then(pending))
        .or_else(|| of_listener.map(|refused| refusal("Invalid", shortened(refused.message.clone()))))
}

fn said<'a>(name: &'static str, refused: Option<&'a Refusal>, reason: &'static str) -> Said<'a> {
    Said {
        name,
        holds: refused.is_none(),
        reason: refused.map_or(reason, |refused| refused.reason),
        message: refused.map_or("", |refused| &refused.message),
    }
}

/// Conditions with these in them. The time of one changes with its status alone; those of others stay.
fn conditions(before: &Value, all: &[Said<'_>], generation: i64, now: Timestamp) -> Vec<Value> {
    let mut conditions = before.as_array().cloned().unwrap_or_default();
    for one in all {
        let status = if one.holds { "True" } else { "False" };
        let there = conditions.iter_mut().find(|there| there["type"] == one.name);
        let since = there
            .as_ref()
            .filter(|there| there["status"] == status)
            .map(|there| there["lastTransitionTime"].clone());
        let condition = json!({
            "type": one.name,
            "status": status,
            "reason": one.reason,
            "message": one.message,
            "observedGeneration": generation,
            "lastTransitionTime": since.unwrap_or_else(|| json!(seconds(now))),
        });
        match there {
            Some(there) => *there = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}

/// As Kubernetes writes times: without fractions.
fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests;
