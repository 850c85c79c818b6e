//! A node: power, components, programs inside it.

mod plan;

pub(crate) use plan::Plan;

use crate::{
    Error, addresses, cgroup,
    component::{Component, INIT_RECORD, Status},
    error::Doing,
    layout::Layout,
    network,
    process::{self, Process, Start},
    record, wait,
};
use culvert_net::Netns;
use rustix::process::Signal;
use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// One node of a cluster, up or not.
#[derive(Debug, Clone)]
pub struct Node {
    number: u8,
    name: String,
    layout: Layout,
    launcher: PathBuf,
    dual_stack: bool,
}

impl Node {
    pub(crate) fn new(number: u8, layout: &Layout, record: &record::Record) -> Self {
        Self {
            number,
            name: format!("node{number}"),
            layout: layout.clone(),
            launcher: record.launcher.clone(),
            dual_stack: record.dual_stack,
        }
    }

    /// `node1`, `node2` and so on.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the network between the nodes.
    pub fn address(&self) -> Ipv4Addr {
        addresses::node(self.number)
    }

    /// The same in IPv6, in a cluster of both families.
    pub fn address_v6(&self) -> Option<Ipv6Addr> {
        self.dual_stack.then(|| addresses::node_v6(self.number))
    }

    /// Its network namespace, by name.
    pub fn netns(&self) -> PathBuf {
        self.layout.node_netns(self.number)
    }

    /// The link in the control plane's network namespace that leads to this node: all its traffic with other nodes and
    /// with the control plane passes there.
    pub fn link(&self) -> &str {
        &self.name
    }

    /// The control group of all its processes, below the root of each hierarchy.
    pub fn group(&self) -> String {
        self.layout.node_group(self.number)
    }

    /// Its folder on the machine: configuration, logs, and what it mounts.
    pub fn folder(&self) -> PathBuf {
        self.layout.node(self.number)
    }

    /// What a file of the node is on the machine: one below `/var/lib/culvert`, `/opt/cni/bin`, `/etc/cni/net.d`,
    /// `/var/lib/kubelet`, `/var/log` and so on. What is below `/run` or `/sys` can only be seen inside.
    pub fn own(&self, path: &str) -> PathBuf {
        self.folder().join("root").join(path.trim_start_matches('/'))
    }

    /// A program to be run inside the node's namespaces and control groups, as root. Arguments can be added.
    ///
    /// It ends with the program's exit code, or 128 and the number of the signal that ended it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.launcher);
        command.arg("enter").arg(self.folder()).arg("--").arg(program);
        command
    }

    /// The log of a component.
    pub fn log(&self, component: Component) -> PathBuf {
        self.folder().join(format!("{}.log", component.name()))
    }

    /// Processes inside the node, in pods too, whose program is called `name`: their ids on the machine.
    ///
    /// # Errors
    /// The control groups cannot be read.
    pub fn pids_of(&self, name: &str) -> Result<Vec<Process>, Error> {
        process::running(&[self.group()], name)
    }

    /// Whether the node has power.
    pub fn is_up(&self) -> bool {
        self.process().is_some_and(|process| process.is_alive())
    }

    /// Makes an image archive known to the node's containerd.
    ///
    /// # Errors
    /// containerd refused it; its message is in the error.
    pub fn import(&self, archive: &Path) -> Result<(), Error> {
        let mut command = self.command("ctr");
        command.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
        process::output(&mut command).map(drop)
    }

    /// Ends a component with SIGTERM, and keeps it from being started again.
    ///
    /// # Errors
    /// It did not end.
    pub fn stop(&self, component: Component) -> Result<(), Error> {
        let hold = self.hold(component);
        fs::write(&hold, "").doing(|| format!("write {}", hold.display()))?;
        self.end(component, Signal::TERM)
    }

    /// Starts a component that was stopped; returns when it works.
    ///
    /// # Errors
    /// It was not started.
    pub fn start(&self, component: Component) -> Result<(), Error> {
        let hold = self.hold(component);
        if hold.exists() {
            fs::remove_file(&hold).doing(|| format!("remove {}", hold.display()))?;
        }
        let init = self.folder().join(INIT_RECORD);
        let init = fs::read_to_string(&init).doing(|| format!("read {}", init.display()))?;
        if let Some(init) = init.trim().parse().ok().and_then(Process::of) {
            init.signal(Signal::HUP)?;
        }
        let what = format!("start of {} on {}", component.name(), self.name);
        wait::wait_until(&what, Duration::from_secs(30), || self.answers(component))
    }

    /// Whether a component does its work: containerd answers a request, the others accept probes of their health.
    fn answers(&self, component: Component) -> bool {
        let port: u16 = match component {
            Component::Containerd => return process::output(self.command("ctr").arg("version")).is_ok(),
            Component::Kubelet => 10248,
            Component::KubeProxy => 10256,
        };
        let connected =
            Netns::open(&self.netns()).and_then(|netns| netns.run(|| TcpStream::connect(("127.0.0.1", port))));
        connected.is_ok_and(|connected| connected.is_ok())
    }

    /// Ends a component with SIGTERM; returns when it works again.
    ///
    /// # Errors
    /// It did not end or was not started.
    pub fn restart(&self, component: Component) -> Result<(), Error> {
        self.stop(component)?;
        self.start(component)
    }

    /// Ends the kubelet and starts it again; pods go on.
    ///
    /// # Errors
    /// See [`restart`](Self::restart).
    pub fn restart_kubelet(&self) -> Result<(), Error> {
        self.restart(Component::Kubelet)
    }

    /// Ends containerd and starts it again; containers go on.
    ///
    /// # Errors
    /// See [`restart`](Self::restart).
    pub fn restart_containerd(&self) -> Result<(), Error> {
        self.restart(Component::Containerd)
    }

    /// Cuts the node's power: all its processes, mounts, control groups, links to pods and netfilter rules are gone when this returns;
    /// its disk stays.
    ///
    /// # Errors
    /// A process did not end, or a control group or a link did not go.
    pub fn kill(&self) -> Result<(), Error> {
        if let Some(process) = self.process() {
            process.end(Signal::KILL, &self.name)?;
        }
        cgroup::kill(&[self.group()])?;
        // A kubelet that found its pods' groups would wait for each of their containers.
        cgroup::remove(&[self.group()])?;
        network::cut(&self.netns())
    }

    /// Gives the node power, again or for the first time. It is ready somewhat later.
    ///
    /// A reboot is [`kill`](Self::kill) and this: what was in memory is gone (`/run`, the bpffs, control groups, namespaces of pods),
    /// the disk is as it was, and the CNI configuration is written anew before anything else of the node runs.
    ///
    /// # Errors
    /// Its outermost process could not be started.
    pub fn boot(&self) -> Result<(), Error> {
        if self.is_up() {
            return Ok(());
        }
        cgroup::create(&self.group())?;
        let init = self.folder().join(INIT_RECORD);
        let _ = fs::remove_file(init);
        let _ = fs::remove_file(Status::file(&self.folder()));
        let (launcher, folder) = (self.launcher.to_string_lossy(), self.folder());
        Process::start(Start {
            launcher: &self.launcher,
            group: &self.group(),
            netns: &self.netns(),
            program: vec![
                launcher.into_owned(),
                "node".into(),
                folder.to_string_lossy().into_owned(),
            ],
            log: &self.folder().join("node.log"),
            record: &self.layout.process_record(&self.name),
            input: Stdio::null(),
        })?;
        Ok(())
    }

    /// An error if the node has no power or one of its components keeps ending.
    pub(crate) fn check(&self) -> Result<(), Error> {
        const OFTEN: u32 = 5;
        if !self.is_up() {
            return Err(self.broken(&self.name, "ended".into(), &self.folder().join("node.log")));
        }
        let Some(status) = self.status() else {
            return Ok(());
        };
        if let Some(archive) = status.images_failed.first() {
            let what = format!("refused the image {}", archive.display());
            return Err(self.broken("containerd", what, &self.folder().join("import.log")));
        }
        for component in Component::ALL {
            if status
                .failures
                .get(&component)
                .is_some_and(|failures| *failures >= OFTEN)
            {
                let how = status.ends.get(&component).map_or("", String::as_str);
                return Err(self.broken(component.name(), format!("keeps ending ({how})"), &self.log(component)));
            }
        }
        Ok(())
    }

    /// Whether every image that the node was given is imported.
    pub(crate) fn has_images(&self) -> bool {
        self.status().is_some_and(|status| status.images_left == 0)
    }

    fn status(&self) -> Option<Status> {
        record::read(&Status::file(&self.folder())).ok()
    }

    fn broken(&self, component: &str, what: String, log: &Path) -> Error {
        Error::Component {
            component: format!("{component} on {}", self.name),
            what,
            tail: process::tail(log),
            log: log.to_path_buf(),
        }
    }

    fn process(&self) -> Option<Process> {
        Process::recorded(&self.layout.process_record(&self.name))
    }

    fn end(&self, component: Component, signal: Signal) -> Result<(), Error> {
        for process in self.pids_of(component.name())? {
            process.end(signal, component.name())?;
        }
        Ok(())
    }

    fn hold(&self, component: Component) -> PathBuf {
        self.folder().join("hold").join(component.name())
    }
}
