//! What is installed with: what the flags say, what is there already where they say nothing, and else the defaults.

use super::{
    assignment::Assignment,
    detect::{self, Range, Ranges},
    installed::Installed,
    monitoring::MonitoringFlags,
};
use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum, builder::PossibleValue};
use culvert_deploy::{ARCHITECTURES, Component, Error, HostPaths, Platform, REGISTRY, SETTINGS, Setting, Values};
use ipnet::IpNet;
use std::{collections::BTreeSet, str::FromStr};

/// Flags that set something. One that is not given keeps what is installed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// The tag of the images
    #[arg(long, env = "CULVERT_IMAGE_TAG", default_value = culvert_deploy::VERSION, value_name = "TAG")]
    image_tag: String,
    /// Where the images come from: REGISTRY/agent:TAG
    #[arg(long, env = "CULVERT_REGISTRY")]
    registry: Option<String>,
    /// An architecture that the images are for; may be repeated: nodes of others get no pod
    #[arg(long, env = "CULVERT_ARCHITECTURE", value_delimiter = ',', value_name = "NAME")]
    architecture: Vec<String>,
    /// A range of the cluster's pods or services, where an address that is not known yet is waited for instead of reached
    /// in plaintext; may be repeated; `none` for none, `auto` for what the cluster says
    #[arg(long, env = "CULVERT_MESH_CIDR", value_delimiter = ',', value_name = "CIDR")]
    pub(super) mesh_cidr: Vec<Range>,
    /// A destination that pods reach directly; may be repeated; `none` for none
    #[arg(long, env = "CULVERT_EXCLUDE_CIDR", value_delimiter = ',', value_name = "CIDR")]
    exclude_cidr: Vec<OrNone<IpNet>>,
    /// A port that pods reach, and are reached on, directly; may be repeated; `none` for none
    #[arg(long, env = "CULVERT_EXCLUDE_PORT", value_delimiter = ',', value_name = "PORT")]
    exclude_port: Vec<OrNone<u16>>,
    /// First part of every identity [default: cluster.local]. To change what is installed takes --force
    #[arg(long, env = "CULVERT_TRUST_DOMAIN", value_parser = |text: &str| checked("trust-domain", text), value_name = "NAME")]
    trust_domain: Option<String>,
    /// This cluster's name in telemetry [default: Kubernetes]
    #[arg(long, env = "CULVERT_CLUSTER_ID", value_parser = |text: &str| checked("cluster-id", text), value_name = "NAME")]
    cluster_id: Option<String>,
    /// A setting of the programs, by its key in the ConfigMap culvert-config: connect-timeout=20s; may be repeated (the environment variable
    /// takes a list with `;`). Without a value (connect-timeout=) the program's default holds again. docs/settings.md has all of them
    #[arg(long, env = "CULVERT_SET", value_delimiter = ';', value_name = "KEY=VALUE")]
    set: Vec<Assignment>,
    /// Whose nodes these are: where they keep the runtime's socket and the CNI's folders
    #[arg(long, env = "CULVERT_PLATFORM", value_name = "NAME")]
    platform: Option<NamedPlatform>,
    /// Hold pods off a new node until its agent is ready (the kubelet must register it with the taint
    /// culvert.dev/agent-not-ready)
    #[arg(long, env = "CULVERT_HOLD_NODES", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    hold_nodes: Option<bool>,
    /// The Secret culvert-ca is somebody else's to make (cert-manager's, for example): make no signing certificate
    #[arg(long, env = "CULVERT_GIVEN_CA", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    given_ca: Option<bool>,
    /// The images are on the nodes already: a missing one is an error, not a download
    #[arg(long, env = "CULVERT_LOCAL_IMAGES", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    local_images: Option<bool>,
    /// Let only the nodes' proxies and waypoints reach the controller's configuration, by a NetworkPolicy
    #[arg(long, env = "CULVERT_NETWORK_POLICY", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    network_policy: Option<bool>,
    /// The nodes enforce SELinux
    #[arg(long, env = "CULVERT_SELINUX", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    selinux: Option<bool>,
    /// How many controllers [default: 2]
    #[arg(long, env = "CULVERT_REPLICAS", value_parser = clap::value_parser!(u16).range(1..=99))]
    replicas: Option<u16>,
    #[command(flatten)]
    monitoring: MonitoringFlags,
}

/// A value of a list that may be empty on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OrNone<T> {
    None,
    One(T),
}

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            text => text.parse().map(Self::One),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct NamedPlatform(Platform);

impl ValueEnum for NamedPlatform {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [NamedPlatform; 5] = [
            NamedPlatform(Platform::Standard),
            NamedPlatform(Platform::K3s),
            NamedPlatform(Platform::Microk8s),
            NamedPlatform(Platform::Gke),
            NamedPlatform(Platform::Openshift),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

/// Everything that the manifests are made of.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    pub(super) values: Values,
    pub(super) replicas: u16,
    /// Where the ranges of the mesh came from; noted on the ConfigMap.
    pub(super) origin: Option<&'static str>,
    /// What was kept of what is installed, for people.
    pub(super) kept: Vec<String>,
}

/// The setting that the cluster is asked for.
const RANGES: &str = "mesh-cidr";
/// The trust domain where nobody names one.
const TRUST_DOMAIN: &str = "cluster.local";

impl Settings {
    /// Whether the cluster has to be asked for its ranges.
    pub(super) fn wants_detection(&self, installed: Option<&Installed>) -> bool {
        if !self.mesh_cidr.is_empty() {
            return self.mesh_cidr.contains(&Range::Auto);
        }
        let Some(installed) = installed else { return true };
        match installed.origin.as_deref() {
            Some(origin) => origin == "detected",
            None => !installed.config.contains_key(RANGES),
        }
    }

    /// Lays the flags over what is installed, and both over the defaults. `detected` is there when it was wanted.
    ///
    /// # Errors
    /// When a value cannot be meant, given or kept.
    pub(super) fn merged(&self, installed: Option<&Installed>, detected: Option<Ranges>) -> Result<Merged> {
        let mut merged = Merged {
            values: Values::default(),
            replicas: self.replicas.unwrap_or(2),
            origin: None,
            kept: Vec::new(),
        };
        let nothing = Installed::default();
        let before = installed.unwrap_or(&nothing);
        self.images(&mut merged, before);
        self.config(&mut merged, before)?;
        self.ranges(&mut merged, before, detected)?;
        self.components(&mut merged, before);
        merged.values.monitoring = self.monitoring.merged(before.monitoring, &mut merged.kept);
        if let (None, Some(replicas)) = (self.replicas, before.replicas) {
            merged.replicas = replicas;
            if replicas != 2 {
                merged.kept.push(format!("replicas={replicas}"));
            }
        }
        if merged.replicas == 1 {
            merged.values.components.insert(Component::SingleReplica);
        }
        Ok(merged)
    }

    fn images(&self, merged: &mut Merged, before: &Installed) {
        let (values, kept) = (&mut merged.values, &mut merged.kept);
        values.tag.clone_from(&self.image_tag);
        if let Some(registry) = self.registry.as_ref().or(before.registry.as_ref()) {
            values.registry.clone_from(registry);
            if self.registry.is_none() && registry != REGISTRY {
                kept.push(format!("registry={registry}"));
            }
        }
        if !self.architecture.is_empty() {
            values.architectures.clone_from(&self.architecture);
        } else if !before.architectures.is_empty() {
            values.architectures.clone_from(&before.architectures);
            if before.architectures != ARCHITECTURES {
                kept.push(format!("architecture={}", before.architectures.join(",")));
            }
        }
        if let Some(NamedPlatform(platform)) = self.platform {
            values.host_paths = platform.host_paths();
        } else {
            values.host_paths.clone_from(&before.host_paths);
            if before.host_paths != HostPaths::default() {
                let HostPaths {
                    runtime,
                    cni_bin,
                    cni_conf,
                } = &before.host_paths;
                kept.push(format!("the nodes' folders {runtime}, {cni_bin}, {cni_conf}"));
            }
        }
    }

    fn config(&self, merged: &mut Merged, before: &Installed) -> Result<()> {
        for setting in SETTINGS.iter().filter(|setting| setting.key != RANGES) {
            match self.given(setting.key) {
                Some(given) => merged.values.config.set(setting.key, &given)?,
                None => keep(merged, setting, before)?,
            }
        }
        Ok(())
    }

    /// What the flags say of a setting; empty for nothing.
    fn given(&self, key: &str) -> Option<String> {
        match key {
            "trust-domain" => self.trust_domain.clone(),
            "cluster-id" => self.cluster_id.clone(),
            "exclude-cidr" => list(&self.exclude_cidr),
            "exclude-port" => list(&self.exclude_port),
            _ => {
                let last = self.set.iter().rfind(|one| one.setting.key == key);
                last.map(|one| one.value.clone())
            }
        }
    }

    fn ranges(&self, merged: &mut Merged, before: &Installed, detected: Option<Ranges>) -> Result<()> {
        let config = &mut merged.values.config;
        if let Some(ranges) = detected {
            config.set(RANGES, &joined(&ranges.cidrs))?;
            merged.origin = Some("detected");
        } else if !self.mesh_cidr.is_empty() {
            let given = detect::given(&self.mesh_cidr);
            config.set(RANGES, &joined(&given))?;
            merged.origin = Some(if given.is_empty() { "none" } else { "given" });
        } else {
            keep(merged, Setting::named(RANGES)?, before)?;
            merged.origin = match merged.values.config.of(RANGES) {
                Some(_) => Some("given"),
                None => before
                    .origin
                    .as_deref()
                    .filter(|origin| *origin == "none")
                    .map(|_| "none"),
            };
        }
        Ok(())
    }

    fn components(&self, merged: &mut Merged, before: &Installed) {
        let choices = [
            (self.given_ca, Component::GivenCa),
            (self.hold_nodes, Component::HoldNodes),
            (self.local_images, Component::LocalImages),
            (self.network_policy, Component::NetworkPolicy),
            (self.selinux, Component::Selinux),
        ];
        let mut wanted = BTreeSet::new();
        for (given, component) in choices {
            let was = before.components.contains(&component);
            if given.is_none() && was {
                merged.kept.push(component.name().to_owned());
            }
            if given.unwrap_or(was) {
                wanted.insert(component);
            }
        }
        merged.values.components = wanted;
    }
}

/// A value of a setting that has a flag of its own.
fn checked(key: &'static str, value: &str) -> Result<String, Error> {
    Setting::of(key).map_or(Ok(()), |setting| setting.check(value))?;
    Ok(value.to_owned())
}

/// Leaves a setting as it is installed.
fn keep(merged: &mut Merged, setting: &Setting, before: &Installed) -> Result<()> {
    let Some(was) = before.config.get(setting.key).filter(|was| !was.is_empty()) else {
        return Ok(());
    };
    merged.values.config.set(setting.key, was).map_err(|error| {
        let remedy = match setting.flag {
            Some(flag) => format!("--{flag} sets another value"),
            None => format!("--set {}= takes it out, or sets another value", setting.key),
        };
        anyhow!("{error}; the ConfigMap culvert-config has it\n  remedy: {remedy}")
    })?;
    if was != setting.default {
        merged.kept.push(format!("{}={was}", setting.key));
    }
    Ok(())
}

/// The trust domain before and after, if it changes.
pub(super) fn changed_trust_domain(before: &Installed, after: &Merged) -> Option<(String, String)> {
    let or_default = |domain: Option<&str>| domain.unwrap_or(TRUST_DOMAIN).to_owned();
    let old = or_default(before.config.get("trust-domain").map(String::as_str));
    let new = or_default(after.values.config.of("trust-domain"));
    (old != new).then_some((old, new))
}

/// What the flag names, if it is given; empty where it names nothing.
fn list<T: ToString + Clone>(given: &[OrNone<T>]) -> Option<String> {
    let named = given.iter().filter_map(|one| match one {
        OrNone::None => None,
        OrNone::One(value) => Some(value.clone()),
    });
    (!given.is_empty()).then(|| joined(&named.collect::<Vec<_>>()))
}

/// As the ConfigMap has it.
fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
