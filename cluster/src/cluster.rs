//! A cluster from its first folder to its last.

use crate::{
    Error, Node,
    control_plane::{Component, ControlPlane},
    down,
    kubectl::Kubectl,
    layout::Layout,
    pki,
    process::Process,
    record::{self, Record},
    wait,
};
use culvert_net::Netns;
use rustix::process::Signal;
use std::{
    fs,
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// A Kubernetes cluster on this machine. It stays up when this value is dropped, and when the process ends.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) layout: Layout,
    pub(crate) record: Record,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) nodes: Vec<Node>,
}

impl Cluster {
    /// A cluster that was brought up before, by this process or another.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn attach(state: &Path, name: &str) -> Result<Self, Error> {
        let layout = Layout::new(state, name)?;
        if !layout.record().is_file() {
            return Err(Error::NotUp {
                name: name.to_owned(),
                record: layout.record(),
            });
        }
        let record = record::read(&layout.record())?;
        Ok(Self::assemble(layout, record))
    }

    /// Takes a cluster down, whole or in whatever state it is; one that is not there is down already.
    ///
    /// # Errors
    /// Something of it could not be removed.
    pub fn down(state: &Path, name: &str) -> Result<(), Error> {
        down::down(&Layout::new(state, name)?)
    }

    /// Names of the clusters that have state in a folder, up or not.
    pub fn names(state: &Path) -> Vec<String> {
        let entries = fs::read_dir(state).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| entry.path().join("cluster.json").is_file())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn assemble(layout: Layout, record: Record) -> Self {
        let nodes = (1..=record.nodes)
            .map(|number| Node::new(number, &layout, &record))
            .collect();
        Self {
            kubeconfig: layout.kubeconfig(),
            layout,
            record,
            nodes,
        }
    }

    /// Returns when the API server answers that it is ready; fails at once if one of `components` ends.
    pub(crate) fn wait_ready(&self, components: &[Component], interrupted: &AtomicBool) -> Result<(), Error> {
        wait::wait_for("the API server to be ready", Duration::from_secs(60), || {
            if interrupted.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            self.control_plane().check(components)?;
            let mut probe = self.kubectl();
            probe.args(["get", "--raw=/readyz"]);
            Ok(crate::process::output(&mut probe).is_ok().then_some(()))
        })
    }

    /// An error if any part of the cluster has ended by itself.
    ///
    /// # Errors
    /// [`Error::Component`], with the end of its log.
    pub fn check(&self) -> Result<(), Error> {
        self.control_plane().check(&Component::ALL)?;
        self.nodes.iter().try_for_each(Node::check)
    }

    pub(crate) fn control_plane(&self) -> ControlPlane<'_> {
        ControlPlane {
            layout: &self.layout,
            record: &self.record,
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        self.layout.name()
    }

    /// The cluster's folder: records, certificates, logs, and the nodes' disks.
    pub fn folder(&self) -> &Path {
        self.layout.folder()
    }

    /// A kubeconfig of an administrator, for programs in the machine's own network namespace.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig of an administrator, for programs inside a node or in the control plane's network namespace.
    pub fn kubeconfig_inside(&self) -> PathBuf {
        self.kubeconfig.with_file_name(pki::INSIDE)
    }

    /// A program to be run in the control plane's network namespace, from which nodes, pods and (by their pods' addresses
    /// only) services can be reached. Arguments can be added. It ends with the cluster at the latest.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.record.launcher);
        command.args(["run", "--group", &self.layout.control_plane_group(), "--netns"]);
        command.arg(self.netns()).arg("--").arg(program);
        command.env("KUBECONFIG", self.kubeconfig_inside());
        command
    }

    /// The folder of the programs that the cluster is made of, `kubectl` among them.
    pub fn programs(&self) -> &Path {
        &self.record.programs
    }

    /// Whether nodes, pods and services have IPv6 addresses too.
    pub fn dual_stack(&self) -> bool {
        self.record.dual_stack
    }

    /// The API server as the machine's own programs reach it.
    pub fn api_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.record.port)
    }

    /// `kubectl` for this cluster; arguments are to be added.
    pub fn kubectl(&self) -> Command {
        self.kubectl_client().command()
    }

    /// `kubectl` with ready-made uses.
    pub fn kubectl_client(&self) -> Kubectl {
        Kubectl::new(self.record.programs.join("kubectl"), self.kubeconfig.clone())
    }

    /// The nodes, in the order of their numbers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.ok_or_else(|| Error::NoSuchNode(name.to_owned()))
    }

    /// The control plane's network namespace, in which the bridge between the nodes is.
    pub fn netns(&self) -> PathBuf {
        self.layout.control_plane_netns()
    }

    /// The network namespace of a pod that runs `program` and has this address, for asking what listens on the pod's
    /// loopback. None while there is no such pod.
    pub fn netns_of(&self, program: &str, address: IpAddr) -> Option<Netns> {
        let processes = self
            .nodes
            .iter()
            .flat_map(|node| node.pids_of(program).unwrap_or_default());
        let mut spaces = processes.filter_map(|process| Netns::open(&process.netns()).ok());
        // Only an address of the namespace's own can be bound.
        spaces.find(|netns| matches!(netns.run(|| UdpSocket::bind((address, 0)).is_ok()), Ok(true)))
    }

    /// A component of the control plane, if it runs.
    pub fn component(&self, component: Component) -> Option<Process> {
        self.control_plane().process(component).filter(Process::is_alive)
    }

    /// The log of a component of the control plane.
    pub fn log(&self, component: Component) -> PathBuf {
        self.control_plane().log(component)
    }

    /// The API server's audit log: one line of JSON for each request of a service account outside `kube-system`, with user,
    /// verb and object, without contents.
    pub fn audit_log(&self) -> PathBuf {
        self.control_plane().audit_log()
    }

    /// Starts a component of the control plane that does not run.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(&self, component: Component) -> Result<(), Error> {
        self.control_plane().start(component)
    }

    /// Ends a component of the control plane with SIGTERM.
    ///
    /// # Errors
    /// It did not end.
    pub fn stop(&self, component: Component) -> Result<(), Error> {
        self.control_plane().stop(component, Signal::TERM)
    }

    /// Ends a component of the control plane with SIGKILL.
    ///
    /// # Errors
    /// It did not end.
    pub fn kill(&self, component: Component) -> Result<(), Error> {
        self.control_plane().stop(component, Signal::KILL)
    }

    /// Ends the API server.
    ///
    /// # Errors
    /// It did not end.
    pub fn stop_api_server(&self) -> Result<(), Error> {
        self.stop(Component::ApiServer)
    }

    /// Starts the API server, and returns when it is ready.
    ///
    /// # Errors
    /// It did not become ready.
    pub fn start_api_server(&self) -> Result<(), Error> {
        self.start(Component::ApiServer)?;
        self.wait_ready(&[Component::Etcd, Component::ApiServer], &AtomicBool::new(false))
    }

    /// Ends the API server and starts it again.
    ///
    /// # Errors
    /// It did not end, or did not become ready.
    pub fn restart_api_server(&self) -> Result<(), Error> {
        self.stop_api_server()?;
        self.start_api_server()
    }
}
