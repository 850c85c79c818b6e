//! Culvert itself in a lab: controller, and an agent and a ztunnel on each node.

use crate::{
    control::{CONTROL_IP4, CONTROL_IP6},
    http::{self, Response},
    lab::Lab,
    netns::Namespace,
    pod::Pod,
    process::Process,
    sockets,
    wait::{wait_for, wait_until},
};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// Where the lab's pods and services have their addresses: an unknown one in there is no stranger's.
const MESH_CIDRS: &str =
    "198.18.1.0/24,198.18.2.0/24,198.19.0.0/16,fd00:c01e:1::/64,fd00:c01e:2::/64,fd00:c01e:ffff::/64";

/// How long a program may take until it is ready. Debug builds on busy machines are slow.
const READY: Duration = Duration::from_secs(60);

/// How long a page of a program may take there.
const ANSWER: Duration = Duration::from_secs(20);
/// The name in the controller's certificate that proxies expect.
pub const CONTROLLER_NAME: &str = "culvert-controller.culvert-system.svc";

/// How the mesh is started.
#[derive(Debug, Clone, Default)]
pub struct MeshOptions {
    /// The folder with the programs; where cargo put the running program when `None`.
    pub programs: Option<PathBuf>,
    /// Further arguments for the controller.
    pub controller_args: Vec<String>,
    /// Further arguments for both agents.
    pub agent_args: Vec<String>,
    /// Further arguments for both ztunnels.
    pub ztunnel_args: Vec<String>,
    /// The limit of open descriptors of both ztunnels, soft and hard; this process's own when `None`.
    pub ztunnel_descriptors: Option<u32>,
    /// Starts no ztunnel: another proxy is to take its place.
    pub without_ztunnels: bool,
    /// The log filter of all programs, for example `info,culvert_ztunnel=debug`.
    pub log: Option<String>,
}

/// A running mesh; dropping it kills its programs. Drop it before its lab.
pub struct Mesh<'lab> {
    lab: &'lab Lab,
    options: MeshOptions,
    controller: Option<Process>,
    agents: [Option<Process>; 2],
    ztunnels: [Option<Process>; 2],
}

impl<'lab> Mesh<'lab> {
    /// Starts all programs and waits until each is ready.
    pub fn start(lab: &'lab Lab, options: MeshOptions) -> Result<Self> {
        let mut mesh = Self {
            lab,
            options,
            controller: None,
            agents: [None, None],
            ztunnels: [None, None],
        };
        mesh.start_controller()?;
        for node in [1, 2] {
            mesh.start_agent(node)?;
            if !mesh.options.without_ztunnels {
                mesh.start_ztunnel(node)?;
            }
        }
        for node in [1, 2] {
            mesh.wait_for_agent(node)?;
            if !mesh.options.without_ztunnels {
                mesh.wait_for_ztunnel(node)?;
            }
        }
        Ok(mesh)
    }

    /// Starts the controller and waits until it is ready.
    pub fn start_controller(&mut self) -> Result<()> {
        let mut command = self.program("culvert-controller")?;
        command
            .arg("--config-dir")
            .arg(self.lab.config_dir())
            .arg("--state-dir")
            .arg(self.lab.state_dir());
        for name in [
            CONTROLLER_NAME.to_owned(),
            CONTROL_IP4.to_string(),
            CONTROL_IP6.to_string(),
        ] {
            command.arg("--serving-name").arg(name);
        }
        command.args(&self.options.controller_args);
        self.controller = Some(self.lab.spawn_control("controller", &mut command)?);
        let control = self.lab.control();
        wait_ready(self.controller.as_mut(), || ready(control, 15014))
    }

    /// Starts a node's agent, without waiting for it.
    pub fn start_agent(&mut self, node: u8) -> Result<()> {
        let mut command = self.program("culvert-agent")?;
        let place = self.lab.node(node);
        command
            .args(["--node", place.name(), "--config-dir"])
            .arg(self.lab.config_dir());
        command
            .arg("--cgroup")
            .arg(place.cgroup())
            .arg("--proxy-cgroup")
            .arg(place.cgroup().join("proxy"));
        command
            .arg("--bpffs")
            .arg(place.bpffs())
            .arg("--zds-socket")
            .arg(place.zds_socket());
        command.args(&self.options.agent_args);
        self.agents[index(node)] = Some(place.spawn("agent", "agent", &mut command)?);
        Ok(())
    }

    /// The further arguments of agents that are started from now on.
    pub fn agent_args(&mut self) -> &mut Vec<String> {
        &mut self.options.agent_args
    }

    /// Starts a node's ztunnel, without waiting for it.
    pub fn start_ztunnel(&mut self, node: u8) -> Result<()> {
        let place = self.lab.node(node);
        let token = self.token(node)?;
        let mut command = self.program("culvert-ztunnel")?;
        if let Some(limit) = self.options.ztunnel_descriptors {
            command = limited(&command, limit);
        }
        command
            .args(["--node", place.name(), "--zds-socket"])
            .arg(place.zds_socket());
        command
            .args(self.controller_arguments())
            .arg("--token-file")
            .arg(token)
            .args(["--mesh-cidr", MESH_CIDRS])
            .args(&self.options.ztunnel_args);
        self.ztunnels[index(node)] = Some(place.spawn("ztunnel", "proxy", &mut command)?);
        Ok(())
    }

    /// Waits until a node's agent says that it is ready.
    pub fn wait_for_agent(&mut self, node: u8) -> Result<()> {
        let namespace = self.lab.node(node).namespace();
        wait_ready(self.agents[index(node)].as_mut(), || ready(namespace, 15022))
    }

    /// Waits until a node's ztunnel says that it is ready.
    pub fn wait_for_ztunnel(&mut self, node: u8) -> Result<()> {
        let namespace = self.lab.node(node).namespace();
        wait_ready(self.ztunnels[index(node)].as_mut(), || ready(namespace, 15021))
    }

    /// The running controller.
    pub fn controller(&mut self) -> Result<&mut Process> {
        self.controller.as_mut().context("the controller is not running")
    }

    /// A node's running agent.
    pub fn agent(&mut self, node: u8) -> Result<&mut Process> {
        self.agents[index(node)].as_mut().context("the agent is not running")
    }

    /// A node's running ztunnel: the monitor.
    pub fn ztunnel(&mut self, node: u8) -> Result<&mut Process> {
        self.ztunnels[index(node)]
            .as_mut()
            .context("the ztunnel is not running")
    }

    /// The process id of the worker of a node's ztunnel: the monitor's child.
    pub fn worker_pid(&mut self, node: u8) -> Result<u32> {
        let monitor = self.ztunnel(node)?.pid();
        let path = format!("/proc/{monitor}/task/{monitor}/children");
        let children = fs::read_to_string(&path).with_context(|| path.clone())?;
        children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .context("the ztunnel has no worker")
    }

    /// Kills the worker of a node's ztunnel (SIGKILL), and returns its process id.
    pub fn kill_worker(&mut self, node: u8) -> Result<u32> {
        let worker = self.worker_pid(node)?;
        let pid = i32::try_from(worker)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).context("kill the worker")?;
        Ok(worker)
    }

    /// Kills a node's agent (SIGKILL), starts it again and waits until it is ready.
    pub fn restart_agent(&mut self, node: u8) -> Result<()> {
        self.agent(node)?.kill()?;
        self.start_agent(node)?;
        self.wait_for_agent(node)
    }

    /// Kills a node's ztunnel, monitor and worker (SIGKILL), starts it again and waits until it is ready.
    pub fn restart_ztunnel(&mut self, node: u8) -> Result<()> {
        self.ztunnel(node)?.kill()?;
        self.start_ztunnel(node)?;
        self.wait_for_ztunnel(node)
    }

    /// Kills the controller (SIGKILL), starts it again and waits until it is ready.
    pub fn restart_controller(&mut self) -> Result<()> {
        self.controller()?.kill()?;
        self.start_controller()
    }

    /// GET from one of the programs' ports on a node: 15000 ztunnel admin, 15020 ztunnel metrics, 15021 ztunnel
    /// readiness, 15022 agent.
    pub fn get(&self, node: u8, port: u16, path: &str) -> Result<Response> {
        get(self.lab.node(node).namespace(), port, path)
    }

    /// GET from the controller's monitoring port.
    pub fn get_controller(&self, path: &str) -> Result<Response> {
        get(self.lab.control(), 15014, path)
    }

    /// Waits until each of these pods is captured (`enrolled` true) or left alone (`enrolled` false).
    pub fn wait_enrolled(&self, pods: &[&Pod], enrolled: bool, timeout: Duration) -> Result<()> {
        let wanted = if enrolled { "captured" } else { "outside" };
        for pod in pods {
            let what = format!("{}/{} is {wanted}", pod.namespace(), pod.name());
            let mut last = String::new();
            wait_until(&what, timeout, || {
                last = self.state_of(pod).unwrap_or_else(|error| format!("{error:#}"));
                last == wanted
            })
            .with_context(|| format!("at last: {last}"))?;
        }
        Ok(())
    }

    /// Whether a pod is captured.
    pub fn is_enrolled(&self, pod: &Pod) -> Result<bool> {
        Ok(self.state_of(pod)? == "captured")
    }

    /// What a pod's agent says of it: `captured`, `outside`, `waiting`, `leaving`, `failed` or `refused`.
    pub fn state_of(&self, pod: &Pod) -> Result<String> {
        let answer = self.get(pod.node(), 15022, "/pods")?;
        let status: Value = serde_json::from_str(&answer.body).context("/pods is no JSON")?;
        let mut pods = status["pods"].as_array().into_iter().flatten();
        let found = pods.find(|found| found["namespace"] == pod.namespace() && found["name"] == pod.name());
        let state = found.and_then(|found| found["state"].as_str());
        state.map(ToOwned::to_owned).context("the agent does not know this pod")
    }

    /// The file with a node's token for the controller, made on first use.
    pub fn token(&self, node: u8) -> Result<PathBuf> {
        let name = self.lab.node(node).name();
        let path = self.lab.state_dir().join("tokens").join(name);
        if path.exists() {
            return Ok(path);
        }
        self.make_token(&["node-token", name])
    }

    /// The file with the token by which a pod calls the controller for itself, made on first use.
    pub fn workload_token(&self, pod: &Pod) -> Result<PathBuf> {
        let (name, account) = (format!("{}/{}", pod.namespace(), pod.name()), pod.account());
        self.make_token(&["workload-token", &name, "--service-account", account])
    }

    /// The arguments by which a program in a pod finds the controller, as all of Culvert's take them.
    pub fn controller_arguments(&self) -> [String; 6] {
        [
            "--controller".to_owned(),
            format!("https://{CONTROL_IP4}:15012"),
            "--controller-name".to_owned(),
            CONTROLLER_NAME.to_owned(),
            "--controller-ca".to_owned(),
            self.controller_ca().display().to_string(),
        ]
    }

    /// The root of the controller's certificate, which is the workloads', too.
    pub fn controller_ca(&self) -> PathBuf {
        self.lab.state_dir().join("ca/root.pem")
    }

    fn make_token(&self, arguments: &[&str]) -> Result<PathBuf> {
        let mut command = self.program("culvert-controller")?;
        // A flag of serving, even in the environment, makes the controller miss those that serving needs.
        command.env_remove("CULVERT_LOG");
        let output = command
            .args(arguments)
            .arg("--state-dir")
            .arg(self.lab.state_dir())
            .output()
            .with_context(|| format!("culvert-controller {}", arguments.join(" ")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("culvert-controller {}: {}", arguments.join(" "), said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    }

    /// One of Culvert's programs, to be run with the mesh's log filter.
    pub fn program(&self, name: &str) -> Result<Command> {
        let path = match &self.options.programs {
            Some(folder) => folder.join(name),
            None => sockets::program(name)?,
        };
        let mut command = Command::new(path);
        if let Some(filter) = &self.options.log {
            command.env("CULVERT_LOG", filter);
        }
        Ok(command)
    }
}

/// The same program under a limit of open descriptors. `prlimit` becomes the program, so its process id is the same.
fn limited(command: &Command, limit: u32) -> Command {
    let mut limited = Command::new("prlimit");
    limited
        .arg(format!("--nofile={limit}:{limit}"))
        .arg(command.get_program());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// The position of node 1 or 2.
fn index(node: u8) -> usize {
    usize::from(node) - 1
}

fn get(namespace: &Namespace, port: u16, path: &str) -> Result<Response> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    namespace.run(|| http::get(address, path, ANSWER))?
}

fn ready(namespace: &Namespace, port: u16) -> bool {
    get(namespace, port, "/healthz/ready").is_ok_and(|response| response.status == 200)
}

fn wait_ready(process: Option<&mut Process>, probe: impl Fn() -> bool) -> Result<()> {
    let process = process.context("it has not been started")?;
    let what = format!("{} is ready", process.name());
    let state = wait_for(&what, READY, || {
        if !process.is_running() {
            return Some(false);
        }
        probe().then_some(true)
    });
    match state {
        Ok(true) => Ok(()),
        Ok(false) => bail!("{} ended at once:\n{}", process.name(), process.log_tail(30)),
        Err(error) => Err(error.context(process.log_tail(30))),
    }
}
