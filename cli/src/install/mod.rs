//! `culvert install`: looks whether the cluster can take it (`check --before`), finds out what the manifests need to know
//! (`detect`), applies them (`apply`), removes what earlier versions had (`prune`), and waits until it runs (`wait`).
//!
//! The manifests are those of `deploy/`, the same that `kubectl apply -k` takes. Doing it twice changes nothing; doing it
//! with another version is the upgrade.

mod apply;
mod detect;
pub(crate) mod prune;
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
use anyhow::Result;
use apply::{Applied, Change};
use clap::Args;
use culvert_deploy::{Component, Document, Values};
use detect::Range;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Print the manifests instead of applying them, as YAML unless `-o json` says otherwise
    #[arg(long)]
    print: bool,
    /// The tag of the images
    #[arg(long, env = "CULVERT_IMAGE_TAG", default_value = culvert_deploy::VERSION, value_name = "TAG")]
    image_tag: String,
    /// Where the images come from: REGISTRY/agent:TAG
    #[arg(long, env = "CULVERT_REGISTRY", default_value = culvert_deploy::REGISTRY)]
    registry: String,
    /// A range of the cluster's pods or services, where an address that is not known yet is waited for instead of reached
    /// in clear; may be repeated; `none` for none [default: what the cluster says]
    #[arg(long, env = "CULVERT_MESH_CIDR", value_delimiter = ',', value_name = "CIDR")]
    mesh_cidr: Vec<Range>,
    /// A destination that pods reach directly; may be repeated
    #[arg(long, env = "CULVERT_EXCLUDE_CIDR", value_delimiter = ',', value_name = "CIDR")]
    exclude_cidr: Vec<IpNet>,
    /// A port that pods reach, and are reached on, directly; may be repeated
    #[arg(long, env = "CULVERT_EXCLUDE_PORT", value_delimiter = ',', value_name = "PORT")]
    exclude_port: Vec<u16>,
    /// First part of every identity [default: cluster.local]
    #[arg(long, env = "CULVERT_TRUST_DOMAIN", value_name = "NAME")]
    trust_domain: Option<String>,
    /// This cluster's name in telemetry [default: Kubernetes]
    #[arg(long, env = "CULVERT_CLUSTER_ID", value_name = "NAME")]
    cluster_id: Option<String>,
    /// Hold pods off a new node until its agent is ready (the kubelet must register it with the taint
    /// culvert.dev/agent-not-ready)
    #[arg(long, env = "CULVERT_HOLD_NODES")]
    hold_nodes: bool,
    /// The Secret culvert-ca is somebody else's to make (cert-manager's, for example): make no signing certificate
    #[arg(long, env = "CULVERT_GIVEN_CA")]
    given_ca: bool,
    /// The images are on the nodes already: a missing one is an error, not a download
    #[arg(long, env = "CULVERT_LOCAL_IMAGES")]
    local_images: bool,
    /// Let only the nodes' proxies reach the controller, by a NetworkPolicy
    #[arg(long, env = "CULVERT_NETWORK_POLICY")]
    network_policy: bool,
    /// The nodes enforce SELinux
    #[arg(long, env = "CULVERT_SELINUX")]
    selinux: bool,
    /// How many controllers
    #[arg(long, env = "CULVERT_REPLICAS", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=99))]
    replicas: u16,
    /// Wait until everything runs; so it does unless --no-wait is given
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Do not wait until everything runs
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait
    #[arg(long, env = "CULVERT_TIMEOUT", default_value = "5m", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    /// Go on although a check failed, and take over fields that others have set
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    policies: PolicyFlags,
}

impl Flags {
    pub(crate) fn is_printed(&self, output: Output) -> bool {
        self.print || output == Output::Yaml
    }

    /// Whether the manifests are printed, and no cluster has to be asked for it.
    pub(crate) fn prints_alone(&self, output: Output, target: &Target) -> bool {
        self.is_printed(output) && (!self.mesh_cidr.is_empty() || !Cluster::is_configured(target))
    }

    fn values(&self, mesh_cidrs: Vec<IpNet>) -> Values {
        let mut values = Values::default();
        values.registry.clone_from(&self.registry);
        values.tag.clone_from(&self.image_tag);
        values.config.mesh_cidrs = mesh_cidrs;
        values.config.exclude_cidrs.clone_from(&self.exclude_cidr);
        values.config.exclude_ports.clone_from(&self.exclude_port);
        values.config.trust_domain.clone_from(&self.trust_domain);
        values.config.cluster_id.clone_from(&self.cluster_id);
        let components = [
            (self.given_ca, Component::GivenCa),
            (self.hold_nodes, Component::HoldNodes),
            (self.local_images, Component::LocalImages),
            (self.network_policy, Component::NetworkPolicy),
            (self.selinux, Component::Selinux),
            (self.replicas == 1, Component::SingleReplica),
        ];
        let wanted = components.into_iter().filter(|(is_wanted, _)| *is_wanted);
        values.components.extend(wanted.map(|(_, component)| component));
        values
    }

    /// The objects, in the order in which they are applied.
    fn documents(&self, mesh_cidrs: Vec<IpNet>) -> Result<Vec<Value>> {
        let documents = culvert_deploy::manifests(&self.values(mesh_cidrs))?;
        let mut objects: Vec<Value> = documents.into_iter().map(Document::into_value).collect();
        for object in &mut objects {
            if object["kind"] == "Deployment" && object["metadata"]["name"] == names::CONTROLLER {
                object["spec"]["replicas"] = json!(self.replicas);
            }
        }
        objects.sort_by_key(kinds::rank);
        Ok(objects)
    }
}

/// The manifests without a look at a cluster.
pub(crate) fn printed_without_cluster(flags: &Flags) -> Result<Answer> {
    Ok(printed(flags.documents(detect::given(&flags.mesh_cidr))?))
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
        let ranges = detect::ranges(cluster, &flags.mesh_cidr).await?;
        eprintln!("culvert: {}", ranges.said);
        return Ok(printed(flags.documents(ranges.cidrs)?));
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
    let ranges = detect::ranges(cluster, &flags.mesh_cidr).await?;
    progress.note(&ranges.said);
    let objects = flags.documents(ranges.cidrs)?;
    let applied = apply::all(cluster, &objects, flags.force, &progress).await?;
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
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn flags(arguments: &[&str]) -> super::Flags {
        let all = ["culvert", "install"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Install(flags) => flags,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_flags_the_manifests_are_those_of_the_daemonset_folder() {
        let mut base: Vec<_> = culvert_deploy::manifests(&culvert_deploy::Values::default())
            .unwrap()
            .into_iter()
            .map(|document| document.into_value())
            .collect();
        base.sort_by_key(super::kinds::rank);
        assert_eq!(flags(&[]).documents(Vec::new()).unwrap(), base);
    }

    #[test]
    fn flags_reach_images_replicas_and_configuration() {
        let flags = flags(&[
            "--registry=r.example/c",
            "--image-tag=9.9.9",
            "--replicas=3",
            "--mesh-cidr=10.0.0.0/8",
            "--trust-domain=corp",
        ]);
        let objects = flags.documents(super::detect::given(&flags.mesh_cidr)).unwrap();
        let find = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
        let controller = find("Deployment");
        assert_eq!(controller["spec"]["replicas"], 3);
        assert_eq!(
            controller["spec"]["template"]["spec"]["containers"][0]["image"],
            "r.example/c/controller:9.9.9"
        );
        assert_eq!(find("ConfigMap")["data"]["mesh-cidr"], "10.0.0.0/8");
        assert_eq!(find("ConfigMap")["data"]["trust-domain"], "corp");
    }

    #[test]
    fn everything_finds_what_it_needs_when_it_is_applied() {
        let objects = flags(&["--network-policy", "--hold-nodes"])
            .documents(Vec::new())
            .unwrap();
        let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        let place = |kind: &str| kinds.iter().position(|one| *one == kind).unwrap();
        assert_eq!(kinds[0], "Namespace");
        assert!(place("ClusterRole") < place("ClusterRoleBinding"));
        assert!(place("ConfigMap") < place("Service") && place("Service") < place("Deployment"));
        assert_eq!(*kinds.last().unwrap(), "DaemonSet");
    }

    #[test]
    fn one_controller_has_no_disruption_budget_that_would_hold_its_node() {
        let objects = flags(&["--replicas=1"]).documents(Vec::new()).unwrap();
        assert!(!objects.iter().any(|object| object["kind"] == "PodDisruptionBudget"));
    }
}
