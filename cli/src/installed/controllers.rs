//! The controllers: whether they run, who leads, and what they report of the configuration.

use crate::{
    failed_create,
    line::Line,
    pod::{is_ready, stuck},
    survey::{Controller, Survey},
};
use kube::ResourceExt;

pub(super) fn judged(survey: &Survey) -> Vec<Line> {
    let Some(deployment) = &survey.deployment else {
        let remedy = "`culvert install` puts it back";
        return vec![Line::fail(
            "cluster",
            "controller",
            "the Deployment culvert-controller is missing",
            remedy,
        )];
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = survey.controllers.iter().filter(|one| is_ready(&one.pod)).count();
    let mut found = format!("{ready} of {wanted} ready");
    if i32::try_from(survey.controllers.len()).unwrap_or(i32::MAX) < wanted
        && let Some(why) = failed_create::of_controllers(&survey.warnings)
    {
        found += &format!(": {why}");
    }
    let logs = "kubectl -n culvert-system describe pods -l app.kubernetes.io/name=culvert-controller";
    let mut lines = vec![match (ready, i32::try_from(ready).unwrap_or(i32::MAX) >= wanted) {
        (_, true) => Line::ok("cluster", "controller", found),
        (0, _) => Line::fail(
            "cluster",
            "controller",
            format!(
                "{found}: open and known connections go on, changes and new pods wait{}",
                reasons(&survey.controllers)
            ),
            logs,
        ),
        _ => Line::warn(
            "cluster",
            "controller",
            format!("{found}{}", reasons(&survey.controllers)),
            logs,
        ),
    }];
    lines.push(match &survey.leader {
        Some(leader)
            if survey
                .controllers
                .iter()
                .any(|one| leader.contains(&one.pod.name_any())) =>
        {
            Line::ok("cluster", "leader", leader)
        }
        Some(leader) => Line::warn(
            "cluster",
            "leader",
            format!("{leader} holds the lease and is gone"),
            "another takes over when the lease runs out, within half a minute; if not, look at the controllers' logs",
        ),
        None => Line::warn(
            "cluster",
            "leader",
            "no controller leads: the trust bundle and the root key are not kept",
            "look at the controllers' logs: kubectl -n culvert-system logs deployment/culvert-controller",
        ),
    });
    lines.extend(survey.controllers.iter().filter_map(unanswered));
    lines.extend(findings(&survey.controllers));
    lines
}

fn reasons(controllers: &[Controller]) -> String {
    let stuck = controllers
        .iter()
        .filter(|one| !is_ready(&one.pod))
        .find_map(|one| stuck(&one.pod, &[]));
    stuck.map_or_else(String::new, |reason| format!("; {reason}"))
}

fn unanswered(controller: &Controller) -> Option<Line> {
    let name = controller.pod.name_any();
    let error = controller.status.as_ref().err()?;
    let remedy = format!("kubectl -n culvert-system logs {name}");
    Some(Line::fail(&name, "controller's report", error.to_string(), remedy))
}

/// What they found wrong with the configuration; every replica finds the same.
fn findings(controllers: &[Controller]) -> Vec<Line> {
    let status = controllers.iter().find_map(|one| one.status.as_ref().ok());
    let findings = status.and_then(|status| status["findings"].as_array());
    let line = |finding: &serde_json::Value| {
        let text = finding["text"]
            .as_str()
            .or(finding["message"].as_str())
            .unwrap_or("a finding without text");
        let remedy = "mend the object; until then its last good state holds";
        Line::warn("cluster", "configuration", text, remedy)
    };
    let is_wrong = |finding: &&serde_json::Value| finding["severity"] != "info";
    findings.into_iter().flatten().filter(is_wrong).map(line).collect()
}
