//! Bringing a cluster up, step by step.

use crate::{
    Cluster, Error, Node, Options, cgroup,
    control_plane::Component,
    down,
    error::Doing,
    image,
    layout::Layout,
    machine, network,
    node::Plan,
    record::{self, Record},
    wait,
};
use std::{
    fs, io,
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

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

/// Does all of it, or, unless the caller wants to look at what is there, nothing.
fn bring_up(options: &Options, layout: Layout, step: &mut dyn FnMut(&str, Duration)) -> Result<Cluster, Error> {
    let images = prepare(options)?;
    if layout.folder().exists() {
        return Err(Error::Exists {
            name: options.name.clone(),
            state: layout.folder().to_path_buf(),
        });
    }
    machine::claim(&options.name, layout.folder())?;
    let mut steps = Steps::new(step, &options.interrupted);
    let brought_up = Cluster::begin(options, layout.clone()).and_then(|cluster| {
        cluster.bring_up(options, &images, &mut steps)?;
        Ok(cluster)
    });
    if brought_up.is_err() && !options.keep {
        down::down(&layout)?;
    }
    brought_up
}

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
        bring_up(options, layout, step)
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
            &self.watch(steps),
            &["wait", "--for=create", "--timeout=60s", "serviceaccount/default"],
        )?;
        steps.done("controllers work")?;
        if plans.is_empty() {
            return Ok(());
        }
        kubectl.wait(
            "nodes to be ready",
            2 * minute,
            &self.watch(steps),
            &["wait", "--for=condition=Ready", "--timeout=120s", "node", "--all"],
        )?;
        steps.done("nodes ready")?;
        kubectl.wait(
            "CoreDNS to be ready",
            2 * minute,
            &self.watch(steps),
            &[
                "--namespace=kube-system",
                "rollout",
                "status",
                "deployment/coredns",
                "--timeout=120s",
            ],
        )?;
        steps.done("cluster DNS ready")?;
        let watch = self.watch(steps);
        wait::wait_for("import of the images", 5 * minute, || {
            watch()?;
            Ok(self.nodes.iter().all(Node::has_images).then_some(()))
        })?;
        steps.done("images imported")
    }

    /// What is looked at while something is waited for.
    fn watch<'a>(&'a self, steps: &Steps<'_>) -> impl Fn() -> Result<(), Error> + use<'a> {
        let interrupted = Arc::clone(&steps.interrupted);
        move || {
            if interrupted.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            self.check()
        }
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

/// A port of the loopback that nobody has now, and that the kernel gives to nobody who asks for any (`ip_local_port_range` begins at 32768): it is
/// used only later.
fn free_port() -> Result<u16, Error> {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    let begin = std::process::id();
    let ports = (0..COUNT).filter_map(|next| u16::try_from(FIRST + begin.wrapping_add(next) % COUNT).ok());
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in ports {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last).doing(|| "find a free port".into())
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
