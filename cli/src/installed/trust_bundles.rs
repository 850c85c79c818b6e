//! Namespaces of the mesh without the ConfigMap that holds the roots: most often a quota forbids it.

use super::membership::Membership;
use crate::{
    cluster::names,
    line::Line,
    survey::{Controller, Survey},
};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};

/// How many are named.
const SHOWN: usize = 3;

pub(super) fn judged(survey: &Survey, members: &BTreeMap<(String, String), Membership>) -> Option<Line> {
    let held = survey.bundles.as_ref()?;
    // Nobody writes them while no controller leads, which has a line of its own.
    let leads = |one: &Controller| {
        survey
            .leader
            .as_deref()
            .is_some_and(|leader| leader.contains(&one.pod.name_any()))
    };
    if !survey.controllers.iter().any(leads) {
        return None;
    }
    let in_mesh = members
        .iter()
        .filter(|(_, stands)| !matches!(stands, Membership::Out | Membership::Unlabelled));
    let wanted: BTreeSet<&str> = in_mesh.map(|((namespace, _), _)| namespace.as_str()).collect();
    let ends = |name: &str| {
        let namespace = survey.namespaces.iter().find(|one| one.name_any() == name);
        namespace.is_none_or(|one| one.metadata.deletion_timestamp.is_some())
    };
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|name| !held.contains(*name) && !ends(name))
        .collect();
    if missing.is_empty() {
        let found = "in every namespace of the mesh";
        return Some(Line::ok("cluster", "trust bundles", found));
    }
    let first = missing.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let why = missing.iter().find_map(|name| exhausted(&survey.quotas, name));
    let why = why.map_or_else(String::new, |quota| format!("; {quota}"));
    let found = format!(
        "no ConfigMap {} in {} namespaces, the first are {first}{why}: programs there cannot check who the controller is",
        names::TRUST_BUNDLE,
        missing.len(),
    );
    let remedy = "let quotas and admission webhooks of these namespaces allow it; the controller's log has the API server's refusal, and it \
                  tries again by itself";
    Some(Line::warn("cluster", "trust bundles", found, remedy))
}

/// A quota on ConfigMaps that is used up.
fn exhausted(quotas: &[ResourceQuota], namespace: &str) -> Option<String> {
    let here = quotas
        .iter()
        .filter(|one| one.namespace().as_deref() == Some(namespace));
    here.flat_map(|quota| {
        let status = quota.status.as_ref();
        ["count/configmaps", "configmaps"].into_iter().filter_map(move |key| {
            let hard: i64 = status?.hard.as_ref()?.get(key)?.0.parse().ok()?;
            let used: i64 = status?.used.as_ref()?.get(key)?.0.parse().ok()?;
            (used >= hard).then(|| {
                format!(
                    "ResourceQuota {namespace}/{} allows {hard} ConfigMaps",
                    quota.name_any()
                )
            })
        })
    })
    .next()
}

#[cfg(test)]
mod tests {
    use super::judged;
    use crate::{
        installed::Membership,
        line::Level,
        survey::{Controller, Survey},
    };
    use serde_json::{from_value, json};

    #[test]
    fn namespaces_without_the_bundle_are_named_with_the_quota_that_forbids_it() {
        let quota = json!({ "metadata": { "namespace": "tight", "name": "q" },
            "status": { "hard": { "count/configmaps": "1" }, "used": { "count/configmaps": "1" } } });
        let namespace = |name: &str| from_value(json!({ "metadata": { "name": name } })).unwrap();
        let mut survey = Survey {
            namespaces: vec![namespace("shop"), namespace("tight")],
            bundles: Some(["shop".to_owned()].into()),
            quotas: vec![from_value(quota).unwrap()],
            leader: Some("c-1".to_owned()),
            controllers: vec![Controller {
                pod: from_value(json!({ "metadata": { "name": "c-1" } })).unwrap(),
                status: Ok(json!({})),
            }],
            ..Survey::default()
        };
        let pod = |namespace: &str| ((namespace.to_owned(), "p".to_owned()), Membership::In(None));
        let members = [pod("shop"), pod("tight")].into();
        let line = judged(&survey, &members).unwrap();
        assert_eq!(line.level, Level::Warn);
        assert!(
            line.found.contains("tight") && line.found.contains("allows 1 ConfigMaps"),
            "{}",
            line.found
        );
        survey.bundles = Some(["shop".to_owned(), "tight".to_owned()].into());
        assert_eq!(judged(&survey, &members).unwrap().level, Level::Ok);
    }
}
