//! The two namespaces in which is measured, one outside the mesh and one in it, and the pods in them.

use super::nodes::Place;
use crate::{
    cluster::{Cluster, Failure, names},
    pod::{is_ready, stuck},
};
use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// On the namespaces, so that nobody else's is ever removed.
const MADE_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "culvert-bench");
/// Where servers listen.
const PORT: u16 = 8080;
/// How long a pod may take to start, a namespace to go.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(300);

/// Outside the mesh, or in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// `culvert.dev/mesh: none`
    Direct,
    /// `culvert.dev/mesh: ambient`
    Mesh,
}

impl Mode {
    /// In the order of a round.
    pub(super) const ALL: [Self; 2] = [Self::Direct, Self::Mesh];

    /// In answers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Mesh => "mesh",
        }
    }

    pub(super) fn namespace(self) -> &'static str {
        match self {
            Self::Direct => "culvert-bench-direct",
            Self::Mesh => "culvert-bench-mesh",
        }
    }
}

/// What pods are made of.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) reference: String,
    /// As the controller's container has it: where images are loaded into nodes, nothing is pulled.
    pull_policy: Option<String>,
}

impl Image {
    /// The one that is named, or that beside the installed controller's.
    pub(super) async fn find(cluster: &Cluster, named: Option<&str>) -> Result<Self> {
        let found = cluster.ours::<Deployment>().get_opt(names::CONTROLLER).await;
        let found = found.map_err(|error| Failure::of("looking for the controller", error))?;
        let spec = found
            .ok_or(Failure::NotInstalled)?
            .spec
            .and_then(|spec| spec.template.spec);
        let container = spec.and_then(|spec| spec.containers.into_iter().next());
        let container = container.context("the controller's Deployment has no container")?;
        let installed = container.image.unwrap_or_default();
        let reference = match named {
            Some(named) => named.to_owned(),
            None => beside(&installed).with_context(|| {
                format!("`{installed}`, the controller's image, has another name than ours: name the benchmark's with --image")
            })?,
        };
        Ok(Self {
            reference,
            pull_policy: container.image_pull_policy,
        })
    }
}

/// The benchmark's image beside the controller's: `REGISTRY/controller:VERSION`. A digest is another image's.
fn beside(controller: &str) -> Option<String> {
    let name = controller.split_once('@').map_or(controller, |(name, _)| name);
    let (registry, rest) = name.rsplit_once('/')?;
    let version = rest.strip_prefix("controller:")?;
    Some(format!("{registry}/bench:{version}"))
}

/// The namespaces, and what is started in them.
pub(super) struct Site<'a> {
    cluster: &'a Cluster,
    image: Image,
}

impl<'a> Site<'a> {
    /// Makes the namespaces; those of a run that was cut short are removed before.
    pub(super) async fn make(cluster: &'a Cluster, image: Image) -> Result<Self> {
        let site = Self { cluster, image };
        let namespaces: Api<Namespace> = cluster.all();
        for mode in Mode::ALL {
            let name = mode.namespace();
            let found = namespaces.get_opt(name).await;
            let found = found.map_err(|error| Failure::of(format!("looking for namespace {name}"), error))?;
            if let Some(found) = found {
                if found.labels().get(MADE_BY.0).map(String::as_str) != Some(MADE_BY.1) {
                    bail!(
                        "there is a namespace {name}, which `culvert bench` did not make: it is left alone, and nothing is measured"
                    );
                }
                site.remove_one(name).await?;
            }
        }
        for mode in Mode::ALL {
            let label = if mode == Mode::Mesh { "ambient" } else { "none" };
            let labels = json!({ MADE_BY.0: MADE_BY.1, names::MESH_LABELS[0]: label });
            let object = json!({ "metadata": { "name": mode.namespace(), "labels": labels } });
            let made = namespaces
                .create(&PostParams::default(), &serde_json::from_value(object)?)
                .await;
            made.map_err(|error| Failure::of(format!("making namespace {}", mode.namespace()), error))?;
        }
        Ok(site)
    }

    /// Removes the namespaces and waits until they are gone.
    pub(super) async fn remove(&self) -> Result<()> {
        for mode in Mode::ALL {
            self.remove_one(mode.namespace()).await?;
        }
        Ok(())
    }

    async fn remove_one(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = self.cluster.all();
        let until = Instant::now() + PATIENCE;
        match namespaces.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(error)) if error.code == 404 => return Ok(()),
            Err(error) => return Err(Failure::of(format!("removing namespace {name}"), error).into()),
            Ok(_) => {}
        }
        while let Some(_left) = namespaces
            .get_opt(name)
            .await
            .map_err(|error| Failure::of(format!("asking whether namespace {name} is gone"), error))?
        {
            if Instant::now() > until {
                bail!(
                    "namespace {name} is not gone after {} s\n  remedy: `kubectl get namespace {name} -o yaml` says what holds it",
                    PATIENCE.as_secs()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Starts a server on a node, and says where it listens.
    pub(super) async fn serve(&self, mode: Mode, place: &Place) -> Result<String> {
        let listen = format!("0.0.0.0:{PORT}");
        let mut pod = self.pod("server", place, &["serve", "--listen", &listen]);
        pod["spec"]["containers"][0]["readinessProbe"] = json!({ "tcpSocket": { "port": PORT }, "periodSeconds": 1 });
        self.start(mode, &pod).await?;
        let ready = self.wait(mode, "server", |pod| is_ready(pod)).await?;
        let address = ready.status.and_then(|status| status.pod_ip);
        let address = address.with_context(|| format!("{}/server has no address", mode.namespace()))?;
        Ok(match address.contains(':') {
            true => format!("[{address}]:{PORT}"),
            false => format!("{address}:{PORT}"),
        })
    }

    /// Starts a client, whose log then tells how it goes.
    pub(super) async fn load(&self, mode: Mode, name: &str, place: &Place, arguments: &[&str]) -> Result<()> {
        self.start(mode, &self.pod(name, place, arguments)).await?;
        let has_begun = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase.is_some_and(|phase| phase != "Pending")
        };
        self.wait(mode, name, has_begun).await.map(drop)
    }

    /// Where it is.
    pub(super) fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The pods of a namespace.
    pub(super) fn pods(&self, mode: Mode) -> Api<Pod> {
        Api::namespaced(self.cluster.client.clone(), mode.namespace())
    }

    async fn start(&self, mode: Mode, pod: &Value) -> Result<()> {
        let made = self
            .pods(mode)
            .create(&PostParams::default(), &serde_json::from_value(pod.clone())?)
            .await;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        made.map_err(|error| Failure::of(format!("starting {}/{name}", mode.namespace()), error))?;
        Ok(())
    }

    async fn wait(&self, mode: Mode, name: &str, is_there: impl Fn(&Pod) -> bool) -> Result<Pod> {
        let until = Instant::now() + PATIENCE;
        loop {
            let pod = self.pods(mode).get(name).await;
            let pod = pod.map_err(|error| Failure::of(format!("looking at {}/{name}", mode.namespace()), error))?;
            if is_there(&pod) {
                return Ok(pod);
            }
            let why = stuck(&pod, &[]);
            let is_hopeless = why
                .as_deref()
                .is_some_and(|why| why.contains("ErrImage") || why.contains("InvalidImageName"));
            if is_hopeless || Instant::now() > until {
                let why = why.unwrap_or_else(|| "it is being started".to_owned());
                bail!(
                    "{}/{name} does not start: {why}\n  remedy: nodes must have or be able to pull `{}` (`cargo xtask image bench` makes it; \
                     --image names another place); `culvert status` says what keeps pods of the mesh waiting",
                    mode.namespace(),
                    self.image.reference
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A pod with our program, as the strictest of Kubernetes' pod security standards lets it in.
    fn pod(&self, name: &str, place: &Place, arguments: &[&str]) -> Value {
        let mut container = json!({
            "name": "bench",
            "image": self.image.reference,
            "args": arguments,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
        });
        if let Some(policy) = &self.image.pull_policy {
            container["imagePullPolicy"] = json!(policy);
        }
        json!({
            "metadata": { "name": name, "labels": { "app": "culvert-bench" } },
            "spec": {
                "nodeName": place.node,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "tolerations": [{ "operator": "Exists" }],
                "containers": [container],
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn the_image_is_the_one_beside_the_installed_controllers() {
        let found = |installed: &str| beside(installed);
        assert_eq!(
            found("culvert.dev/controller:0.1.0").unwrap(),
            "culvert.dev/bench:0.1.0"
        );
        assert_eq!(
            found("registry.test:5000/mesh/controller:1.2@sha256:abc").unwrap(),
            "registry.test:5000/mesh/bench:1.2"
        );
        assert_eq!(found("registry.test/renamed:1"), None);
        assert_eq!(found("registry.test/controller@sha256:abc"), None);
    }
}
