//! A cluster from its first folder to its last.

use crate::{
    Error, Node, Options, cgroup,
    control_plane::{Component, ControlPlane},
    down,
    error::Doing,
    image,
    kubectl::Kubectl,
    layout::Layout,
    machine, network,
    node::Plan,
    process::Process,
    record::{self, Record},
    wait,
};
use rustix::process::Signal;
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// A Kubernetes cluster on this machine. It stays up when this value is dropped, and when the process ends.
#[derive(Debug, Clone)]
pub struct Cluster {
    layout: Layout,
    record: Record,
    kubeconfig: PathBuf,
    nodes: Vec<Node>,
}

/// The programs that the file `kube` is, each by a link of its name.
const LINKS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

impl Cluster {
    /// Brings a cluster up, and returns when its nodes are ready and its names resolve.
    ///
    /// # Errors
    /// Something did not start; what was made is taken down again, unless [`Options::keep`] is set.
    pub fn up(options: &Options) -> Result<Self, Error> {
        Self::up_with(options, &mut |_, _| ())
    }

    /// Like [`up`](Self::up), and calls `step` after each step with what is done now and how long it took.
    ///
    /// # Errors
    /// See [`up`](Self::up).
    pub fn up_with(options: &Options, step: &mut dyn FnMut(&str, Duration)) -> Result<Self, Error> {
        let layout = Layout::new(&options.state, &options.name)?;
        if options.nodes > 9 {
            return Err(Error::Nodes(options.nodes));
        }
        let images = prepare(options)?;
        if layout.folder().exists() {
            return Err(Error::Exists {
                name: options.name.clone(),
                state: layout.folder().to_path_buf(),
            });
        }
        machine::claim(&options.name, layout.folder())?;
        let brought_up = Self::begin(options, layout.clone()).and_then(|cluster| {
            cluster.bring_up(options, &images, &mut Steps::new(step, &options.interrupted))?;
            Ok(cluster)
        });
        if brought_up.is_err() && !options.keep {
            down::down(&layout)?;
        }
        brought_up
    }

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

    fn assemble(layout: Layout, record: Record) -> Self {
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

    /// Writes down what is going to be made.
    fn begin(options: &Options, layout: Layout) -> Result<Self, Error> {
        let folder = layout.control_plane();
        fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))?;
        let record = Record {
            nodes: options.nodes,
            dual_stack: options.dual_stack,
            programs: absolute(&options.programs),
            launcher: absolute(&options.launcher),
            port: free_port()?,
        };
        record::write(&layout.record(), &record)?;
        Ok(Self::assemble(layout, record))
    }

    fn bring_up(&self, options: &Options, images: &[PathBuf], steps: &mut Steps<'_>) -> Result<(), Error> {
        let outside = format!("https://127.0.0.1:{}", self.record.port);
        self.layout
            .pki()
            .create(self.record.nodes, &self.kubeconfig, &outside)?;
        steps.done("certificates")?;
        self.make_places()?;
        steps.done("network and control groups")?;
        let plans = self.plans(options, images);
        for plan in &plans {
            plan.write()?;
        }
        self.control_plane_up(steps)?;
        self.nodes_up(&plans, steps)
    }

    fn make_places(&self) -> Result<(), Error> {
        let control_plane = self.layout.control_plane_group();
        let nodes: Vec<String> = self.nodes.iter().map(Node::group).collect();
        for group in std::iter::once(&control_plane).chain(&nodes) {
            cgroup::create(group)?;
        }
        network::create(&control_plane, &nodes, self.record.dual_stack)
    }

    fn plans(&self, options: &Options, images: &[PathBuf]) -> Vec<Plan> {
        let plan = |number: u8| Plan {
            number,
            group: self.layout.node_group(number),
            folder: self.layout.node(number),
            pki: self.layout.folder().join("pki"),
            programs: self.record.programs.clone(),
            dual_stack: self.record.dual_stack,
            first_images: images.to_vec(),
            images: options.images.iter().map(|image| absolute(image)).collect(),
        };
        (1..=self.record.nodes).map(plan).collect()
    }

    fn control_plane_up(&self, steps: &mut Steps<'_>) -> Result<(), Error> {
        let control_plane = self.control_plane();
        let first = [Component::Etcd, Component::ApiServer, Component::Forwarder];
        for component in first {
            control_plane.start(component)?;
        }
        self.wait_ready(&first, &steps.interrupted)?;
        steps.done("API server ready")?;
        // The controllers end if the roles that the API server makes by itself are not there yet.
        control_plane.start(Component::ControllerManager)?;
        control_plane.start(Component::Scheduler)
    }

    fn nodes_up(&self, plans: &[Plan], steps: &mut Steps<'_>) -> Result<(), Error> {
        let kubectl = self.kubectl_client();
        let check = || {
            steps.check()?;
            self.check()
        };
        if !plans.is_empty() {
            let objects: Vec<_> = plans.iter().map(Plan::object).collect();
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
            kubectl.apply(&list.to_string())?;
            for node in &self.nodes {
                node.boot()?;
            }
            kubectl.apply(include_str!("coredns.yaml"))?;
        }
        let minute = Duration::from_secs(60);
        kubectl.wait(
            "the service account that the controllers make",
            minute,
            &check,
            &["wait", "--for=create", "--timeout=60s", "serviceaccount/default"],
        )?;
        steps.done("controllers work")?;
        if plans.is_empty() {
            return Ok(());
        }
        let check = || {
            steps.check()?;
            self.check()
        };
        kubectl.wait(
            "nodes to be ready",
            2 * minute,
            &check,
            &["wait", "--for=condition=Ready", "--timeout=120s", "node", "--all"],
        )?;
        steps.done("nodes ready")?;
        let check = || {
            steps.check()?;
            self.check()
        };
        kubectl.wait(
            "CoreDNS to be ready",
            2 * minute,
            &check,
            &[
                "--namespace=kube-system",
                "rollout",
                "status",
                "deployment/coredns",
                "--timeout=120s",
            ],
        )?;
        steps.done("cluster DNS ready")?;
        wait::wait_for("import of the images", 5 * minute, || {
            steps.check()?;
            self.check()?;
            Ok(self.nodes.iter().all(Node::has_images).then_some(()))
        })?;
        steps.done("images imported")
    }

    /// Returns when the API server answers that it is ready; fails at once if one of `components` ends.
    fn wait_ready(&self, components: &[Component], interrupted: &AtomicBool) -> Result<(), Error> {
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

    fn control_plane(&self) -> ControlPlane<'_> {
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

    /// A component of the control plane, if it runs.
    pub fn component(&self, component: Component) -> Option<Process> {
        self.control_plane().process(component).filter(Process::is_alive)
    }

    /// The log of a component of the control plane.
    pub fn log(&self, component: Component) -> PathBuf {
        self.control_plane().log(component)
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

/// Finds what is missing before anything is made; the archives of the images that every cluster needs.
fn prepare(options: &Options) -> Result<Vec<PathBuf>, Error> {
    let kube = options.programs.join("kube");
    if !kube.is_file() {
        return Err(Error::Missing {
            path: kube,
            remedy: "`cargo xtask cluster` builds every program of a cluster",
        });
    }
    for name in LINKS {
        let link = options.programs.join(name);
        if !link.exists() {
            // Another cluster may have made it just now.
            let made = symlink("kube", &link);
            if !link.exists() {
                made.doing(|| format!("make the link {}", link.display()))?;
            }
        }
    }
    if options.nodes == 0 {
        return Ok(Vec::new());
    }
    let archives = options.state.join("images");
    image::ensure(
        &absolute(&archives),
        &options.launcher,
        &options.programs.join("coredns"),
    )
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// A port of the loopback that nobody has now.
fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").doing(|| "find a free port".into())?;
    Ok(listener.local_addr().doing(|| "find a free port".into())?.port())
}

/// Tells how long each step took, and looks whether the person has had enough.
struct Steps<'a> {
    tell: &'a mut dyn FnMut(&str, Duration),
    since: Instant,
    interrupted: Arc<AtomicBool>,
}

impl<'a> Steps<'a> {
    fn new(tell: &'a mut dyn FnMut(&str, Duration), interrupted: &Arc<AtomicBool>) -> Self {
        Self {
            tell,
            since: Instant::now(),
            interrupted: Arc::clone(interrupted),
        }
    }

    fn done(&mut self, what: &str) -> Result<(), Error> {
        (self.tell)(what, self.since.elapsed());
        self.since = Instant::now();
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}
