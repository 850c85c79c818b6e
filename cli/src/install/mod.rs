//! `culvert install`: looks whether the cluster can take it (`check --before`), lays the flags over what is installed
//! (`installed`, `settings`, `assignment`) and what the cluster says of itself (`detect`), applies the manifests (`apply`), removes what
//! earlier versions had (`prune`), and waits until it runs (`wait`). `monitoring` is what it brings for those who watch the mesh.
//!
//! The manifests are those of `deploy/`, the same that `kubectl apply -k` takes. Doing it twice changes nothing; doing it
//! with another version is the upgrade, and changes the version and what a flag names.

mod apply;
mod assignment;
mod detect;
mod installed;
mod monitoring;
pub(crate) mod prune;
mod settings;
mod wait;

use crate::{
    check,
    cluster::{Cluster, names},
    duration::duration,
    foreign::PolicyFlags,
    kinds,
    line::Level,
    print::{Answer, Output, Section},
    progress::Progress,
    target::Target,
};
use anyhow::{Result, bail};
use apply::{Applied, Change};
use clap::Args;
use culvert_deploy::Document;
use installed::{Installed, ORIGIN};
use serde_json::{Value, json};
use settings::{Merged, Settings, changed_trust_domain};
use std::time::Duration;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Print the manifests instead of applying them, as YAML unless `-o json` says otherwise
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    settings: Settings,
    /// Take the defaults for what no flag names, instead of keeping what is installed
    #[arg(long)]
    reset: bool,
    /// Wait until everything runs; so it does unless --no-wait is given
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Do not wait until everything runs
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait
    #[arg(long, env = "CULVERT_TIMEOUT", default_value = "5m", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    /// Go on although a check failed, change the trust domain, and take over fields that others have set
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    policies: PolicyFlags,
}

impl Flags {
    pub(crate) fn is_printed(&self, output: Output) -> bool {
        self.print || output == Output::Yaml
    }

    /// Whether the manifests are printed, and no cluster has to be asked for it: there is none, or nothing of it is wanted.
    pub(crate) fn prints_alone(&self, output: Output, target: &Target) -> bool {
        let wants_nothing = self.reset && !self.settings.wants_detection(None);
        self.is_printed(output) && (wants_nothing || !Cluster::is_configured(target))
    }
}

/// The objects, in the order in which they are applied.
fn documents(merged: &Merged) -> Result<Vec<Value>> {
    let documents = culvert_deploy::manifests(&merged.values)?;
    let mut objects: Vec<Value> = documents.into_iter().map(Document::into_value).collect();
    for object in &mut objects {
        if object["kind"] == "Deployment" && object["metadata"]["name"] == names::CONTROLLER {
            object["spec"]["replicas"] = json!(merged.replicas);
        }
        if let Some(origin) = merged.origin.filter(|_| is_configuration(object)) {
            object["metadata"]["annotations"][ORIGIN] = json!(origin);
        }
    }
    objects.sort_by_key(kinds::rank);
    Ok(objects)
}

fn is_configuration(object: &Value) -> bool {
    object["kind"] == "ConfigMap" && object["metadata"]["name"] == names::CONFIG
}

/// The manifests without a look at a cluster.
pub(crate) fn printed_without_cluster(flags: &Flags) -> Result<Answer> {
    Ok(printed(documents(&flags.settings.merged(None, None)?)?))
}

/// Finds out what is installed and what the cluster says, and lays the flags over it.
async fn settled(cluster: &Cluster, flags: &Flags, note: impl Fn(String)) -> Result<Merged> {
    let installed = Installed::on(cluster).await?;
    let kept = installed.as_ref().filter(|_| !flags.reset);
    let detected = match flags.settings.wants_detection(kept) {
        true => Some(detect::ranges(cluster).await?),
        false => None,
    };
    if let Some(ranges) = &detected {
        note(ranges.said.clone());
    }
    let merged = flags.settings.merged(kept, detected)?;
    if !merged.kept.is_empty() {
        note(format!(
            "kept from what is installed: {} (a flag changes one of them, --reset all)",
            merged.kept.join(", ")
        ));
    }
    // A reset is no excuse: identities change all the same.
    let change = installed.and_then(|before| changed_trust_domain(&before, &merged));
    if let Some((old, new)) = change.filter(|_| !flags.force) {
        bail!(
            "the trust domain would change from {old} to {new}: every identity changes, peers refuse each other until all nodes have \
             the new one, and policies that name identities stop matching\n  remedy: --trust-domain {old} keeps it; --force changes it"
        );
    }
    Ok(merged)
}

fn printed(objects: Vec<Value>) -> Answer {
    let texts = objects.iter().map(serde_yaml_ng::to_string);
    let text: Vec<String> = texts.map(Result::unwrap_or_default).collect();
    Answer {
        json: json!({ "apiVersion": "v1", "kind": "List", "items": objects }),
        sections: vec![Section::words(text.join("---\n").trim_end())],
        is_well: true,
    }
}

pub(crate) async fn run(cluster: &Cluster, flags: &Flags, output: Output) -> Result<Answer> {
    if flags.is_printed(output) {
        let merged = settled(cluster, flags, |words| eprintln!("culvert: {words}")).await?;
        return Ok(printed(documents(&merged)?));
    }
    let progress = Progress::new();
    progress.note(format!("cluster {} ({})", cluster.server, cluster.version));
    if !may_go_on(cluster, flags, &progress).await? {
        return Ok(Answer {
            json: json!({ "installed": false }),
            sections: vec![Section::words(
                "not installed: a check failed; mend it, or go on in spite of it with --force",
            )],
            is_well: false,
        });
    }
    let merged = settled(cluster, flags, |words| progress.note(words)).await?;
    monitoring::must_be_possible(cluster, merged.values.monitoring).await?;
    let objects = documents(&merged)?;
    let kinds: Vec<Value> = culvert_deploy::crds()?.into_iter().map(Document::into_value).collect();
    let mut applied = apply::kinds(cluster, &kinds, &progress).await?;
    applied.extend(apply::all(cluster, &objects, flags.force, &progress).await?);
    let pruned = prune::others(cluster, &objects, &progress).await?;
    apply::after(cluster, &applied).await?;
    let waited = if flags.no_wait {
        None
    } else {
        Some(wait::until_it_runs(cluster, flags.timeout, &progress).await?)
    };
    Ok(outcome(&applied, &pruned, waited))
}

/// Looks at the cluster first, and shows what is not as it should be.
async fn may_go_on(cluster: &Cluster, flags: &Flags, progress: &Progress) -> Result<bool> {
    let step = progress.step("check");
    let lines = check::preflight(cluster, flags.policies).await?;
    let failed = lines.iter().filter(|line| line.level == Level::Fail).count();
    let warned = lines.iter().filter(|line| line.level == Level::Warn).count();
    let said = format!("{} lines, {warned} warnings, {failed} failures", lines.len());
    if failed == 0 {
        step.done(said);
    } else {
        step.failed(said);
    }
    for line in lines.iter().filter(|line| line.level != Level::Ok) {
        progress.note(line.to_string());
    }
    Ok(failed == 0 || flags.force)
}

fn outcome(applied: &[Applied], pruned: &[String], waited: Option<wait::Outcome>) -> Answer {
    let count = |change| applied.iter().filter(|one| one.change == change).count();
    let (created, changed, same) = (count(Change::Created), count(Change::Changed), count(Change::Unchanged));
    let runs = waited.as_ref().is_none_or(|outcome| outcome.is_well());
    let mut words = format!(
        "objects: {created} created, {changed} changed, {same} unchanged, {} removed\n",
        pruned.len()
    );
    words += match &waited {
        None => "not waited for: `culvert check` says how it goes",
        Some(outcome) if outcome.is_well() => {
            "Culvert runs. A namespace joins with: kubectl label namespace NAME culvert.dev/mesh=ambient"
        }
        Some(_) => "not everything runs yet: `culvert check` says more, and the same command again goes on waiting",
    };
    let objects: Vec<Value> = applied.iter().map(Applied::json).collect();
    Answer {
        json: json!({
            "installed": true, "runs": waited.as_ref().map(wait::Outcome::is_well), "objects": objects, "removed": pruned,
            "waited": waited.map(|outcome| outcome.json()),
        }),
        sections: vec![Section::words(words)],
        is_well: runs,
    }
}

#[cfg(test)]
mod tests {
    use super::{Flags, documents};
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use serde_json::Value;

    fn flags(arguments: &[&str]) -> Flags {
        let all = ["culvert", "install"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Install(flags) => flags,
            other => panic!("{other:?}"),
        }
    }

    fn objects(arguments: &[&str]) -> Vec<Value> {
        documents(&flags(arguments).settings.merged(None, None).unwrap()).unwrap()
    }

    #[test]
    fn without_flags_the_manifests_are_those_of_the_daemonset_folder() {
        let mut base: Vec<_> = culvert_deploy::manifests(&culvert_deploy::Values::default())
            .unwrap()
            .into_iter()
            .map(|document| document.into_value())
            .collect();
        base.sort_by_key(crate::kinds::rank);
        assert_eq!(objects(&[]), base);
    }

    #[test]
    fn flags_reach_images_replicas_and_configuration() {
        let objects = objects(&[
            "--registry=r.example/c",
            "--image-tag=9.9.9",
            "--replicas=3",
            "--mesh-cidr=10.0.0.0/8",
            "--trust-domain=corp",
        ]);
        let find = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
        let controller = find("Deployment");
        assert_eq!(controller["spec"]["replicas"], 3);
        assert_eq!(
            controller["spec"]["template"]["spec"]["containers"][0]["image"],
            "r.example/c/controller:9.9.9"
        );
        assert_eq!(find("ConfigMap")["data"]["mesh-cidr"], "10.0.0.0/8");
        assert_eq!(find("ConfigMap")["data"]["trust-domain"], "corp");
        assert_eq!(
            find("ConfigMap")["metadata"]["annotations"]["culvert.dev/mesh-cidr"],
            "given"
        );
    }

    #[test]
    fn dashboards_and_monitors_come_where_they_are_asked_for_and_change_nothing_else() {
        let flags = ["--dashboards", "--prometheus-operator", "--mesh-cidr=10.0.0.0/8"];
        let all = objects(&flags);
        let base = objects(&flags[2..]);
        let count = |kind: &str| all.iter().filter(|object| object["kind"] == kind).count();
        assert_eq!((count("PodMonitor"), count("PrometheusRule")), (3, 1));
        assert_eq!(count("ConfigMap"), 1 + 5);
        assert!(base.iter().all(|object| all.contains(object)));
        assert_eq!(all.len(), base.len() + 5 + 4);
    }

    #[test]
    fn everything_finds_what_it_needs_when_it_is_applied() {
        let objects = objects(&["--network-policy", "--hold-nodes"]);
        let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        let place = |kind: &str| kinds.iter().position(|one| *one == kind).unwrap();
        assert_eq!(kinds[0], "Namespace");
        assert!(place("ResourceQuota") < place("Deployment"));
        assert!(place("ClusterRole") < place("ClusterRoleBinding"));
        assert!(place("ConfigMap") < place("Service") && place("Service") < place("Deployment"));
        assert_eq!(*kinds.last().unwrap(), "DaemonSet");
    }

    #[test]
    fn one_controller_has_no_disruption_budget_that_would_hold_its_node() {
        let objects = objects(&["--replicas=1"]);
        assert!(!objects.iter().any(|object| object["kind"] == "PodDisruptionBudget"));
    }
}
