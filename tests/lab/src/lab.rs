//! The lab: makes nodes, pods and services, and removes them all.

use crate::{
    cgroup,
    forwarder::Forwarder,
    netns::Namespace,
    network,
    node::Node,
    objects::{self, Objects},
    pod::{self, Pod, PodSpec},
    process::{Place, Process},
    run_dir::{self, RunDir},
    service::{self, Service, ServiceSpec},
    signals,
};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// The first pod of a node has this number, the last 254.
const FIRST_POD: u8 = 10;

/// How a lab is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Lets the lab and its processes outlive this program, once [`Lab::keep`] is called.
    pub may_be_kept: bool,
}

/// Two nodes with their pods; dropping it removes all that belongs to it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    run_dir: RunDir,
    cgroup: PathBuf,
    nodes: [Node; 2],
    control: Namespace,
    objects: Objects,
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Labels of each Kubernetes namespace.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pods: Vec<Pod>,
    services: Vec<Service>,
    /// How many pods each node ever had, and services the lab: numbers are not used again.
    pods_made: [u8; 2],
    services_made: u8,
    /// One for each node, once there is a service.
    forwarders: Vec<Forwarder>,
    kept: bool,
}

impl Lab {
    /// Makes the lab of this name (a-z, 0-9, `_`), after removing what an earlier one of that name left. Needs root.
    pub fn new(name: &str, options: Options) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("a lab needs root (network namespaces, cgroups, eBPF)");
        }
        run_dir::sweep_abandoned();
        let run_dir = RunDir::create(name)?;
        signals::guard(name);
        Self::build(name, run_dir, options).inspect_err(|_| {
            // The error that matters is the first one.
            let _removed = signals::remove(name);
        })
    }

    /// A lab for a test: its name is `name` with this process's id, so that tests can run side by side.
    pub fn unique(name: &str) -> Result<Self> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self::new(&format!("{name}_{}_{count}", std::process::id()), Options::default())
    }

    /// Removes what the lab of this name left, also a kept one; nothing to remove is fine.
    pub fn sweep(name: &str) -> Result<()> {
        run_dir::sweep(name)
    }

    fn build(name: &str, run_dir: RunDir, options: Options) -> Result<Self> {
        let cgroup = run_dir::cgroup_of(name)?;
        let dir = run_dir.path().to_owned();
        let node = |number: u8| -> Result<Node> {
            let node = Node {
                number,
                name: format!("node{number}"),
                namespace: Namespace::create(&format!("cv-{name}-node{number}"))?,
                cgroup: cgroup.join(format!("node{number}")),
                dir: dir.clone(),
                survives: options.may_be_kept,
            };
            for group in ["agent", "proxy", "pods"] {
                cgroup::create(&node.cgroup.join(group))?;
            }
            fs::create_dir(node.bpffs()).with_context(|| format!("make {}", node.bpffs().display()))?;
            Ok(node)
        };
        let nodes = [node(1)?, node(2)?];
        let control = Namespace::create(&format!("cv-{name}-ctl"))?;
        cgroup::create(&cgroup.join("ctl"))?;
        let objects = Objects::new(dir.join("config"));
        let lab = Self {
            name: name.to_owned(),
            run_dir,
            cgroup,
            nodes,
            control,
            objects,
            options,
            state: Mutex::default(),
        };
        network::connect_nodes(&lab.nodes, &lab.control)?;
        for node in &lab.nodes {
            lab.objects.apply(&objects::node(node))?;
        }
        Ok(lab)
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lab's folder: `config`, `state`, `log`, `run` and `bpf`.
    pub fn dir(&self) -> &Path {
        self.run_dir.path()
    }

    /// The folder with the Kubernetes objects.
    pub fn config_dir(&self) -> &Path {
        self.objects.dir()
    }

    /// The controller's folder, for its keys and tokens.
    pub fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// Node 1 or 2.
    ///
    /// # Panics
    /// For any other number.
    pub fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) - 1]
    }

    /// Both nodes.
    pub fn nodes(&self) -> &[Node; 2] {
        &self.nodes
    }

    /// The control plane's network namespace.
    pub fn control(&self) -> &Namespace {
        &self.control
    }

    /// All network namespaces: nodes, control plane, pods.
    pub fn namespaces_do<T>(&self, mut visit: impl FnMut(&Namespace) -> Result<T>) -> Result<Vec<T>> {
        let pods = self.pods();
        let fixed = [&self.nodes[0].namespace, &self.nodes[1].namespace, &self.control];
        fixed
            .into_iter()
            .chain(pods.iter().map(Pod::netns))
            .map(&mut visit)
            .collect()
    }

    /// The pods that there are now.
    pub fn pods(&self) -> Vec<Pod> {
        self.state().pods.clone()
    }

    /// Starts a program of the control plane. The log file is `<name>.log`.
    pub fn spawn_control(&self, name: &str, command: &mut Command) -> Result<Process> {
        let cgroup = self.cgroup.join("ctl");
        let place = Place {
            namespace: &self.control,
            cgroup: &cgroup,
            survives: self.options.may_be_kept,
        };
        Process::spawn(
            name,
            command,
            &place,
            &self.dir().join("log").join(format!("{name}.log")),
        )
    }

    /// Makes a Kubernetes namespace that is not in the mesh; one that exists stays as it is.
    pub fn namespace(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        if !state.namespaces.contains_key(name) {
            self.objects.apply(&objects::namespace(name, &BTreeMap::new()))?;
            self.objects.apply(&objects::service_account(name, "default"))?;
            state.namespaces.insert(name.to_owned(), BTreeMap::new());
        }
        Ok(())
    }

    /// Sets the label `culvert.dev/mesh` of a Kubernetes namespace (`Some("ambient")` joins), or removes it.
    pub fn label(&self, namespace: &str, mesh: Option<&str>) -> Result<()> {
        self.label_with(namespace, "culvert.dev/mesh", mesh)
    }

    /// Sets or removes any label of a Kubernetes namespace.
    pub fn label_with(&self, namespace: &str, key: &str, value: Option<&str>) -> Result<()> {
        let mut state = self.state();
        let labels = state
            .namespaces
            .get_mut(namespace)
            .with_context(|| format!("no namespace {namespace}"))?;
        match value {
            Some(value) => labels.insert(key.to_owned(), value.to_owned()),
            None => labels.remove(key),
        };
        self.objects.apply(&objects::namespace(namespace, labels))
    }

    /// Makes a pod: its namespace, link, cgroup, and objects. Its Kubernetes namespace is made when it is not there.
    pub fn pod(&self, spec: PodSpec) -> Result<Pod> {
        self.namespace(&spec.namespace)?;
        let mut state = self.state();
        let node = self.node(spec.node);
        let made = &mut state.pods_made[usize::from(spec.node) - 1];
        if *made > 254 - FIRST_POD {
            bail!("node {} is full: it had {made} pods", spec.node);
        }
        let number = FIRST_POD + *made;
        *made += 1;
        let unit = format!("{}-{}", spec.namespace, spec.name);
        let cgroup = node.cgroup.join("pods").join(&unit);
        cgroup::create(&cgroup)?;
        let netns = Namespace::create(&format!("cv-{}-{}-{unit}", self.name, node.name))?;
        let pod = Pod(Arc::new(pod::Inner {
            spec,
            number,
            netns,
            cgroup,
            log_dir: self.dir().join("log"),
            survives: self.options.may_be_kept,
            sockets: OnceLock::new(),
        }));
        network::connect_pod(&pod, node)?;
        self.objects
            .apply(&objects::service_account(pod.namespace(), &pod.0.spec.service_account))?;
        self.objects.apply(&objects::pod(&pod, node))?;
        state.pods.push(pod.clone());
        self.forward_services(&mut state)?;
        Ok(pod)
    }

    /// Removes a pod: its object first, as in a cluster, then its processes and its namespace.
    pub fn remove_pod(&self, pod: &Pod) -> Result<()> {
        let mut state = self.state();
        self.objects.delete("Pod", pod.namespace(), pod.name())?;
        state.pods.retain(|other| !Arc::ptr_eq(&other.0, &pod.0));
        self.forward_services(&mut state)?;
        cgroup::remove(&pod.0.cgroup)?;
        // The link goes with the namespace, but that can be later: an open file of it keeps it.
        self.node(pod.node())
            .namespace
            .ip(&format!("link delete p{}", pod.0.number))?;
        pod.netns().delete()
    }

    /// Makes a service, with virtual addresses of both families that work before there is a mesh: see `forwarder.rs`.
    pub fn service(&self, spec: ServiceSpec) -> Result<Service> {
        self.namespace(&spec.namespace)?;
        let mut state = self.state();
        state.services_made = state.services_made.checked_add(1).context("too many services")?;
        let service = Service {
            spec,
            number: state.services_made,
        };
        self.objects.apply(&objects::service(&service))?;
        for node in &self.nodes {
            let (ip4, ip6) = (service.ip4(), service.ip6());
            node.namespace
                .ip(&format!("addr add {ip4}/32 dev lo\naddr add {ip6}/128 dev lo nodad"))?;
        }
        state.services.push(service.clone());
        self.forward_services(&mut state)?;
        Ok(service)
    }

    /// Writes any other Kubernetes object, for example a policy.
    pub fn apply(&self, object: &serde_json::Value) -> Result<()> {
        self.objects.apply(object)
    }

    /// Removes the file of an object.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        self.objects.delete(kind, namespace, name)
    }

    /// Writes a file among the objects as it is, for example one that is broken.
    pub fn write_config(&self, file: &str, text: &str) -> Result<()> {
        self.objects.write(file, text)
    }

    /// Leaves everything as it is when the lab is dropped or the program ends; [`Lab::sweep`] removes it later.
    pub fn keep(&self) -> Result<()> {
        if !self.options.may_be_kept {
            bail!("this lab was made to end with the program");
        }
        self.run_dir.keep()?;
        signals::unguard(&self.name);
        self.state().kept = true;
        Ok(())
    }

    /// The last `lines` lines of each log file, with a heading each.
    pub fn logs(&self, lines: usize) -> String {
        let Ok(entries) = fs::read_dir(self.dir().join("log")) else {
            return String::new();
        };
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let mut all = String::new();
        for file in files {
            let text = fs::read(&file)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default();
            let tail: Vec<&str> = text.lines().collect();
            let tail = &tail[tail.len().saturating_sub(lines)..];
            if !tail.is_empty() {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                all.push_str(&format!("--- {name}\n{}\n", tail.join("\n")));
            }
        }
        all
    }

    /// Tells each node's forwarder about the services and pods that there are now.
    fn forward_services(&self, state: &mut State) -> Result<()> {
        if state.services.is_empty() {
            return Ok(());
        }
        if state.forwarders.is_empty() {
            state.forwarders = self.nodes.iter().map(Forwarder::start).collect::<Result<_>>()?;
        }
        let table = service::table(&state.services, &state.pods);
        state
            .forwarders
            .iter_mut()
            .try_for_each(|forwarder| forwarder.tell(&table))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Nothing here may panic again, not even where nobody reads what is said: the lab must go.
        let mut errors = std::io::stderr();
        if std::thread::panicking() {
            let _heard = writeln!(errors, "{}", self.logs(60));
        }
        if self.state().kept {
            return;
        }
        if let Err(error) = signals::remove(&self.name) {
            let _heard = writeln!(errors, "lab {}: {error:#}", self.name);
        }
    }
}
