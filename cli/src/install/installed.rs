//! What an earlier installation set, read from the objects that are there: so that installing again, or another version,
//! changes what somebody asks for and nothing else.

use super::monitoring;
use crate::{
    cluster::{Cluster, Failure, names},
    placement,
};
use culvert_deploy::{Component, HostPaths, Monitoring};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::{ConfigMap, PodSpec},
    networking::v1::NetworkPolicy,
};
use std::collections::{BTreeMap, BTreeSet};

/// On the ConfigMap: where the mesh's ranges came from.
pub(super) const ORIGIN: &str = "culvert.dev/mesh-cidr";

/// The settings that are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) registry: Option<String>,
    /// The keys of the ConfigMap.
    pub(super) config: BTreeMap<String, String>,
    /// Where `mesh-cidr` came from, if that was noted.
    pub(super) origin: Option<String>,
    pub(super) host_paths: HostPaths,
    pub(super) architectures: Vec<String>,
    pub(super) components: BTreeSet<Component>,
    pub(super) monitoring: Monitoring,
    pub(super) replicas: Option<u16>,
}

impl Installed {
    /// Reads it; none where nothing is installed.
    pub(super) async fn on(cluster: &Cluster) -> Result<Option<Self>, Failure> {
        let doing = |error| Failure::of("reading what is installed, so as to keep its settings", error);
        let (configs, deployments, daemon_sets, policies) = (
            cluster.ours::<ConfigMap>(),
            cluster.ours::<Deployment>(),
            cluster.ours::<DaemonSet>(),
            cluster.ours::<NetworkPolicy>(),
        );
        let (config, deployment, daemon_set, policy) = futures_util::try_join!(
            configs.get_opt(names::CONFIG),
            deployments.get_opt(names::CONTROLLER),
            daemon_sets.get_opt(names::NODE),
            policies.get_opt(names::CONTROLLER),
        )
        .map_err(doing)?;
        let mut found = Self::of(config, deployment, daemon_set, policy.as_ref());
        if let Some(found) = &mut found {
            found.monitoring = monitoring::installed(cluster).await?;
        }
        Ok(found)
    }

    fn of(
        config: Option<ConfigMap>,
        deployment: Option<Deployment>,
        daemon_set: Option<DaemonSet>,
        policy: Option<&NetworkPolicy>,
    ) -> Option<Self> {
        if config.is_none() && deployment.is_none() && daemon_set.is_none() {
            return None;
        }
        let mut found = Self::default();
        if let Some(config) = config {
            found.origin = config.metadata.annotations.and_then(|mut all| all.remove(ORIGIN));
            found.config = config.data.unwrap_or_default();
        }
        if policy.is_some() {
            found.components.insert(Component::NetworkPolicy);
        }
        if let Some(deployment) = deployment.and_then(|one| one.spec) {
            found.replicas = deployment.replicas.and_then(|count| count.try_into().ok());
            if let Some(spec) = deployment.template.spec {
                found.controller(&spec);
            }
        }
        if let Some(daemon_set) = daemon_set {
            found.architectures = placement::architectures(&daemon_set);
            if let Some(spec) = daemon_set.spec.and_then(|spec| spec.template.spec) {
                found.node(&spec);
            }
        }
        Some(found)
    }

    fn controller(&mut self, spec: &PodSpec) {
        self.images(spec);
        if is_set(spec, "CULVERT_GIVEN_CA", Some("true")) {
            self.components.insert(Component::GivenCa);
        }
    }

    fn node(&mut self, spec: &PodSpec) {
        self.images(spec);
        if is_set(spec, "CULVERT_NODE_TAINT", None) {
            self.components.insert(Component::HoldNodes);
        }
        let security = spec.security_context.as_ref();
        if security.is_some_and(|context| context.se_linux_options.is_some()) {
            self.components.insert(Component::Selinux);
        }
        let path = |name: &str| {
            let volume = spec.volumes.iter().flatten().find(|volume| volume.name == name)?;
            Some(volume.host_path.as_ref()?.path.clone())
        };
        let default = HostPaths::default();
        self.host_paths = HostPaths {
            runtime: path("runtime").unwrap_or(default.runtime),
            cni_bin: path("cni-bin").unwrap_or(default.cni_bin),
            cni_conf: path("cni-conf").unwrap_or(default.cni_conf),
        };
    }

    fn images(&mut self, spec: &PodSpec) {
        for container in &spec.containers {
            if container.image_pull_policy.as_deref() == Some("Never") {
                self.components.insert(Component::LocalImages);
            }
            let name = container.image.as_deref().and_then(|image| image.rsplit_once('/'));
            if let Some((registry, _)) = name {
                self.registry = Some(registry.to_owned());
            }
        }
    }
}

/// Whether a container has this environment variable.
fn is_set(spec: &PodSpec, name: &str, value: Option<&str>) -> bool {
    let variables = spec
        .containers
        .iter()
        .flat_map(|container| container.env.iter().flatten());
    let mut named = variables.filter(|variable| variable.name == name);
    named.any(|variable| value.is_none() || variable.value.as_deref() == value)
}

#[cfg(test)]
mod tests {
    use super::Installed;
    use culvert_deploy::{Component, Platform, Values, manifests};
    use serde_json::from_value;

    /// What the manifests of these values are read back as.
    fn read_back(values: &Values) -> Installed {
        let documents = manifests(values).unwrap();
        let find = |kind: &str| {
            let found = documents.iter().find(|document| document.id().kind == kind);
            found.map(|document| document.value().clone())
        };
        let policy = find("NetworkPolicy").map(|value| from_value(value).unwrap());
        Installed::of(
            find("ConfigMap").map(|value| from_value(value).unwrap()),
            find("Deployment").map(|value| from_value(value).unwrap()),
            find("DaemonSet").map(|value| from_value(value).unwrap()),
            policy.as_ref(),
        )
        .unwrap()
    }

    #[test]
    fn every_setting_is_read_back_from_the_manifests_that_it_makes() {
        let mut values = Values::default();
        values.registry = "registry.example/mesh".to_owned();
        values.architectures = vec!["arm64".to_owned()];
        values.host_paths = Platform::K3s.host_paths();
        values.config.set("trust-domain", "corp.example").unwrap();
        values.config.set("exclude-port", "53,9100").unwrap();
        values.config.set("connect-timeout", "20s").unwrap();
        for component in Component::ALL {
            values.components = [component].into();
            let found = read_back(&values);
            assert_eq!(found.registry.as_deref(), Some("registry.example/mesh"));
            assert_eq!(found.architectures, ["arm64"]);
            assert_eq!(found.host_paths, values.host_paths);
            assert_eq!(found.config["trust-domain"], "corp.example");
            assert_eq!(found.config["exclude-port"], "53,9100");
            assert_eq!(found.config["connect-timeout"], "20s");
            match component {
                Component::SingleReplica => assert_eq!(found.replicas, Some(1)),
                component => assert_eq!(found.components, [component].into(), "{component:?}"),
            }
        }
        assert_eq!(Installed::of(None, None, None, None), None);
    }
}
