//! What may differ from cluster to cluster.

use std::collections::BTreeSet;

use culvert_objects::{DISTRIBUTIONS, Distribution};
use serde_json::{Value, json};

use crate::{ARCHITECTURES, Config, Document, Error, REGISTRY, VERSION};

/// Choices of whoever installs. The default is what `kubectl apply -k deploy/daemonset` applies.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Values {
    /// Where images come from: `REGISTRY/agent:TAG`.
    pub registry: String,
    /// Their tag.
    pub tag: String,
    /// The architectures that they are for, as Kubernetes writes them: nodes of others get no pod.
    pub architectures: Vec<String>,
    /// What the programs are told about the cluster.
    pub config: Config,
    /// Where a node keeps what Culvert reaches for.
    pub host_paths: HostPaths,
    /// What is added to the base.
    pub components: BTreeSet<Component>,
    /// What is added beside it.
    pub monitoring: Monitoring,
}

/// Folders of the node that are not everywhere in the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPaths {
    /// Where the container runtime has its CRI socket.
    pub runtime: String,
    /// Where CNI plug-ins are.
    pub cni_bin: String,
    /// Where the CNI configuration is.
    pub cni_conf: String,
}

/// A folder of `deploy/components/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Component {
    /// The signing certificate is somebody else's to make.
    GivenCa,
    /// New nodes take pods when their agent is ready, and not before.
    HoldNodes,
    /// Images are on the nodes already and are never downloaded.
    LocalImages,
    /// Only the nodes' proxies and waypoints reach the controller's port for configuration and certificates.
    NetworkPolicy,
    /// Nodes enforce SELinux.
    Selinux,
    /// One controller instead of two.
    SingleReplica,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::GivenCa,
        Self::HoldNodes,
        Self::LocalImages,
        Self::NetworkPolicy,
        Self::Selinux,
        Self::SingleReplica,
    ];

    /// The folder's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GivenCa => "given-ca",
            Self::HoldNodes => "hold-nodes",
            Self::LocalImages => "local-images",
            Self::NetworkPolicy => "network-policy",
            Self::Selinux => "selinux",
            Self::SingleReplica => "single-replica",
        }
    }
}

impl Default for Values {
    fn default() -> Self {
        Self {
            registry: REGISTRY.to_owned(),
            tag: VERSION.to_owned(),
            architectures: ARCHITECTURES.map(str::to_owned).into(),
            config: Config::default(),
            host_paths: HostPaths::default(),
            components: BTreeSet::new(),
            monitoring: Monitoring::default(),
        }
    }
}

/// What is added for those who watch the mesh: for Grafana, and for the Prometheus Operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Monitoring {
    /// ConfigMaps with dashboards, for the sidecar of Grafana's chart.
    pub dashboards: bool,
    /// PodMonitors and alerts.
    pub operator: bool,
}

impl Default for HostPaths {
    fn default() -> Self {
        Self::of(&DISTRIBUTIONS[0])
    }
}

impl HostPaths {
    pub(crate) fn of(distribution: &Distribution) -> Self {
        Self {
            runtime: distribution.runtime.to_owned(),
            cni_bin: distribution.bin_dir.to_owned(),
            cni_conf: distribution.conf_dir.to_owned(),
        }
    }
}

/// In a workload: the architectures of its node affinity.
const ARCHITECTURE_VALUES: &str = "/spec/template/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/\
                                   nodeSelectorTerms/0/matchExpressions/0/values";

impl Values {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |what, value: &str, reason| {
            Err(Error::Value {
                what,
                value: value.to_owned(),
                reason,
            })
        };
        let is_image_part = |text: &str, more: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if !is_image_part(&self.registry, "-._:/") || self.registry.ends_with('/') {
            return wrong(
                "registry",
                &self.registry,
                "is no registry such as registry.example/culvert",
            );
        }
        if !is_image_part(&self.tag, "-._") {
            return wrong("tag", &self.tag, "is no tag of an image");
        }
        if self.architectures.is_empty() {
            return wrong("architectures", "", "names none");
        }
        for architecture in &self.architectures {
            if !is_image_part(architecture, "") {
                return wrong("architectures", architecture, "is no architecture such as amd64");
            }
        }
        for (what, path) in self.host_paths.named() {
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return wrong(what, path, "is no absolute path");
            }
        }
        Ok(())
    }

    /// Writes the values where they belong.
    pub(crate) fn fill_in(&self, documents: &mut [Document]) -> Result<(), Error> {
        for document in documents {
            let id = document.id().clone();
            let missing = |path| Error::Place { id: id.clone(), path };
            for container in document.containers_mut() {
                let image = container.get_mut("image").ok_or_else(|| missing("image"))?;
                let name = image.as_str().ok_or_else(|| missing("image"))?;
                *image = self.image(name).into();
                // An image that a program is told of is named as those of containers are.
                let told = container
                    .get_mut("env")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten();
                for variable in told.filter(|one| one["name"].as_str().is_some_and(|name| name.ends_with("_IMAGE"))) {
                    // Images of others come from the ConfigMap, and are named there.
                    if let Some(name) = variable["value"].as_str() {
                        variable["value"] = self.image(name).into();
                    }
                }
            }
            if let Some(values) = document.value.pointer_mut(ARCHITECTURE_VALUES) {
                *values = json!(self.architectures);
            }
            if document.is("ConfigMap") {
                let data = document.value.get_mut("data").and_then(Value::as_object_mut);
                data.ok_or_else(|| missing("data"))?
                    .extend(self.config.entries().map(|(key, value)| (key.to_owned(), value.into())));
            }
            if document.is("DaemonSet") {
                self.host_paths
                    .fill_in(&mut document.value)
                    .ok_or_else(|| missing("volumes"))?;
            }
        }
        Ok(())
    }

    /// `culvert.dev/agent:0.1.0` in our registry and with our tag.
    fn image(&self, base: &str) -> String {
        let name = base.rsplit('/').next().unwrap_or(base);
        let name = name.split(':').next().unwrap_or(name);
        format!("{}/{name}:{}", self.registry, self.tag)
    }
}

impl HostPaths {
    /// By the name of the volume.
    fn named(&self) -> [(&'static str, &str); 3] {
        [
            ("runtime", &self.runtime),
            ("cni-bin", &self.cni_bin),
            ("cni-conf", &self.cni_conf),
        ]
    }

    /// Inside the container the folders are where they are on most nodes, so that nobody else has to know.
    fn fill_in(&self, daemon_set: &mut Value) -> Option<()> {
        let volumes = daemon_set.pointer_mut("/spec/template/spec/volumes")?.as_array_mut()?;
        for (name, path) in self.named() {
            let volume = volumes.iter_mut().find(|volume| volume["name"] == name)?;
            *volume.pointer_mut("/hostPath/path")? = json!(path);
        }
        Some(())
    }
}
