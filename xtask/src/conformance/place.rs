//! The cluster, the mesh on it, and the waypoints that the suite's applications are reached through.

use super::{
    options::{Options, Proxy},
    programs::Programs,
};
use crate::{installed, shell};
use anyhow::{Context as _, Result};
use culvert_cluster::Cluster;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const NODES: u8 = 2;
/// The namespaces that the suite makes where they are not there.
const NAMESPACES: [&str; 2] = ["gateway-conformance-mesh", "gateway-conformance-mesh-consumer"];
/// The name of each namespace's waypoint.
const WAYPOINT: &str = "waypoint";

/// A cluster that is taken down when nobody needs it any more.
pub(super) struct Place {
    cluster: Cluster,
    proxy: Proxy,
    /// It stays, because somebody asked for that or somebody else made it.
    stays: bool,
}

impl Place {
    /// Brings the cluster up, with these images on its nodes.
    pub(super) fn bring_up(images: Vec<PathBuf>, wanted: &Options) -> Result<Self> {
        // A name for each, so that runs with several proxies can be compared side by side.
        let name = format!("conf-{}", wanted.proxy.name());
        let mut options = culvert_cluster::Options::new(&name, NODES)?;
        Cluster::down(&options.state, &name)?;
        options.images = images;
        shell::say(&format!("a Kubernetes cluster of {NODES} nodes comes up"));
        let cluster = Cluster::up_with(&options, &mut |_, _| {})?;
        Ok(Self {
            cluster,
            proxy: wanted.proxy,
            stays: wanted.keep,
        })
    }

    /// A cluster that is up, with the images on it.
    pub(super) fn attach(name: &str, proxy: Proxy) -> Result<Self> {
        let options = culvert_cluster::Options::new(name, NODES)?;
        Ok(Self {
            cluster: Cluster::attach(&options.state, name)?,
            proxy,
            stays: true,
        })
    }

    /// Makes everything that the suite expects to find.
    pub(super) fn prepare(&self, programs: &Programs) -> Result<()> {
        for file in programs.crds()? {
            self.apply_file(&file)?;
        }
        if !self.proxy.has_mesh() {
            return Ok(());
        }
        shell::say("Culvert is installed");
        installed::install(&self.cluster)?;
        // What an earlier run left may still be under way out: nothing can be made in a namespace that goes.
        let gone = ["delete", "namespace", "--ignore-not-found", "--timeout=400s"];
        self.cluster.kubectl_client().run(&[&gone[..], &NAMESPACES].concat())?;
        let Some(class) = self.proxy.gateway_class() else {
            return Ok(());
        };
        for namespace in NAMESPACES {
            self.make_waypoint(namespace, class)?;
        }
        Ok(())
    }

    /// Labels that bring a namespace into the mesh, and its Services behind its waypoint: `NAME=VALUE`, separated by commas.
    pub(super) fn namespace_labels(&self) -> String {
        let labels = self.labels();
        labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(",")
    }

    fn labels(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let mesh = self.proxy.has_mesh().then_some(("culvert.dev/mesh", "ambient"));
        let waypoint = self
            .proxy
            .has_waypoints()
            .then_some(("istio.io/use-waypoint", WAYPOINT));
        mesh.into_iter().chain(waypoint)
    }

    /// Makes the namespace, as the suite will, and a waypoint in it. The suite waits for every pod of its namespaces, the waypoint's
    /// too, before its first test.
    fn make_waypoint(&self, namespace: &str, class: &str) -> Result<()> {
        let labels: serde_json::Map<String, Value> = self
            .labels()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let namespaced =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": labels } });
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": { "name": WAYPOINT, "namespace": namespace },
            "spec": { "gatewayClassName": class, "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] },
        });
        let both = json!({ "apiVersion": "v1", "kind": "List", "items": [namespaced, gateway] });
        Ok(self.cluster.kubectl_client().apply(&both.to_string())?)
    }

    fn apply_file(&self, file: &Path) -> Result<()> {
        let file = file.to_string_lossy();
        let arguments = ["apply", "--server-side", "--filename", &file];
        Ok(self.cluster.kubectl_client().run(&arguments).map(drop)?)
    }

    /// How programs on this machine reach the API server.
    pub(super) fn kubeconfig(&self) -> &Path {
        self.cluster.kubeconfig()
    }

    /// What all pods are at, for whoever has to find out why something failed.
    pub(super) fn state(&self) -> String {
        installed::state(&self.cluster)
    }

    /// Whether what is made on the cluster stays behind.
    pub(super) fn stays(&self) -> bool {
        self.stays
    }

    /// Takes the cluster down, unless it is to stay.
    pub(super) fn take_down(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if self.stays {
            shell::say(&format!("left up: export KUBECONFIG={}", self.kubeconfig().display()));
            return Ok(());
        }
        self.stays = true;
        let state = self
            .cluster
            .folder()
            .parent()
            .context("a cluster has a folder")?
            .to_path_buf();
        Ok(Cluster::down(&state, self.cluster.name())?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.stays
            && let Err(error) = self.end()
        {
            shell::say(&format!("the cluster was not taken down: {error:#}"));
        }
    }
}
