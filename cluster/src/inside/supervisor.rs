//! Starting a node's components, importing its images, and starting again what ends.
//!
//! A component that ends is started again, as an init system would, unless a file of its name is in the node's folder
//! `hold`. SIGHUP makes process 1 look at that folder again. So the outside needs nothing but signals and files.

use crate::{
    Error,
    component::{Component, Status},
    error::Doing,
    node::Plan,
    process::PATH,
    record,
};
use rustix::process::{WaitOptions, wait};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What a child process of process 1 is.
enum Task {
    /// With the time of its start.
    Component(Component, Instant),
    Import(PathBuf),
}

pub(crate) struct Supervisor {
    plan: Plan,
    signals: Signals,
    running: BTreeMap<i32, Task>,
    imports: VecDeque<PathBuf>,
    /// How many of the imports the kubelet waits for.
    needed: usize,
    status: Status,
}

/// A component that ends within this time of its start has failed.
const SOON: Duration = Duration::from_secs(10);

const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

impl Supervisor {
    pub(crate) fn new(plan: Plan) -> Result<Self, Error> {
        let signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGTERM]).doing(|| "handle signals".into())?;
        let imports: VecDeque<PathBuf> = plan.first_images.iter().chain(&plan.images).cloned().collect();
        Ok(Self {
            signals,
            running: BTreeMap::new(),
            needed: plan.first_images.len(),
            status: Status {
                images_left: imports.len(),
                ..Status::default()
            },
            imports,
            plan,
        })
    }

    pub(crate) fn run(mut self) -> Result<(), Error> {
        self.start(Component::Containerd)?;
        self.start(Component::KubeProxy)?;
        crate::wait_until("containerd's socket", Duration::from_secs(60), || {
            UnixStream::connect(CONTAINERD_SOCKET).is_ok()
        })?;
        self.import_next()?;
        if self.needed == 0 {
            self.start(Component::Kubelet)?;
        }
        loop {
            self.report()?;
            let received: Vec<i32> = self.signals.wait().collect();
            if received.iter().any(|signal| matches!(*signal, SIGINT | SIGTERM)) {
                return Ok(());
            }
            self.reap()?;
            self.start_missing()?;
        }
    }

    /// Takes note of every child that has ended; orphans of the node are among them.
    fn reap(&mut self) -> Result<(), Error> {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            match self.running.remove(&pid.as_raw_nonzero().get()) {
                Some(Task::Component(component, started)) => {
                    let how = status
                        .exit_status()
                        .map(|code| format!("exit code {code}"))
                        .or_else(|| status.terminating_signal().map(|signal| format!("signal {signal}")));
                    self.status.ends.insert(component, how.unwrap_or_default());
                    let failures = self.status.failures.entry(component).or_default();
                    let soon = started.elapsed() < SOON && !held(&self.plan, component);
                    *failures = if soon { *failures + 1 } else { 0 };
                }
                Some(Task::Import(archive)) => {
                    if status.exit_status() != Some(0) {
                        self.status.images_failed.push(archive);
                    }
                    self.status.images_left = self.imports.len();
                    self.needed = self.needed.saturating_sub(1);
                    self.import_next()?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn start_missing(&mut self) -> Result<(), Error> {
        for component in Component::ALL {
            let runs = self
                .running
                .values()
                .any(|task| matches!(task, Task::Component(running, _) if *running == component));
            let waits = component == Component::Kubelet && self.needed > 0;
            if !runs && !waits && !held(&self.plan, component) {
                // One that ends at once must not keep the machine busy.
                if self
                    .status
                    .failures
                    .get(&component)
                    .is_some_and(|failures| *failures > 0)
                {
                    crate::wait::pause();
                }
                self.start(component)?;
            }
        }
        Ok(())
    }

    fn start(&mut self, component: Component) -> Result<(), Error> {
        let mut command = match component {
            Component::Containerd => {
                let mut command = Command::new("containerd");
                command.arg("--config").arg(self.plan.path("containerd.toml"));
                command
            }
            Component::Kubelet => {
                let mut command = Command::new(self.plan.programs.join("kubelet"));
                command.arg("--config").arg(self.plan.path("kubelet.yaml"));
                command
                    .arg("--kubeconfig")
                    .arg(self.plan.pki.join(format!("{}.conf", self.plan.name())));
                command.args([
                    "--hostname-override",
                    &self.plan.name(),
                    "--node-ip",
                    &self.plan.addresses(),
                ]);
                command.args(["--root-dir", "/var/lib/kubelet", "--v", "2"]);
                command
            }
            Component::KubeProxy => {
                let mut command = Command::new(self.plan.programs.join("kube-proxy"));
                command
                    .arg("--config")
                    .arg(self.plan.path("kube-proxy.yaml"))
                    .args(["--v", "2"]);
                command
            }
        };
        let pid = self.spawn(&mut command, component.name())?;
        self.running.insert(pid, Task::Component(component, Instant::now()));
        Ok(())
    }

    /// Imports one archive at a time: containerd unpacks each with all its processors.
    fn import_next(&mut self) -> Result<(), Error> {
        let Some(archive) = self.imports.pop_front() else {
            return Ok(());
        };
        let mut command = Command::new("ctr");
        command
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(&archive);
        let pid = self.spawn(&mut command, "import")?;
        self.running.insert(pid, Task::Import(archive));
        Ok(())
    }

    fn spawn(&self, command: &mut Command, log: &str) -> Result<i32, Error> {
        let path = self.plan.path(&format!("{log}.log"));
        let file = File::options().create(true).append(true).open(&path);
        let file = file.doing(|| format!("open {}", path.display()))?;
        let errors = file.try_clone().doing(|| "duplicate a descriptor".into())?;
        let child = command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .doing(|| format!("start {log} on {}", self.plan.name()))?;
        Ok(i32::try_from(child.id()).unwrap_or_default())
    }

    fn report(&mut self) -> Result<(), Error> {
        let importing = self.running.values().any(|task| matches!(task, Task::Import(_)));
        self.status.images_left = self.imports.len() + usize::from(importing);
        record::write(&Status::file(&self.plan.folder), &self.status)
    }
}

/// Whether a component is not to run at present.
fn held(plan: &Plan, component: Component) -> bool {
    plan.path("hold").join(component.name()).exists()
}
