//! The way of each mode: which pod dials what, and which proxies work for it.

use super::{
    envoy,
    istio::{self, IstioMesh},
    options::{Mode, Options},
};
use crate::{load::Kind, usage};
use anyhow::{Context, Result, ensure};
use culvert_lab::{Capture, Lab, Mesh, MeshOptions, Pod, PodSpec, Process};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// Where the server applications listen.
const APPLICATION: u16 = 8080;
/// Where the client dials its Envoy, and that Envoy the other: the port on which a [`Capture`] knows TLS.
const SIDECAR: u16 = 15008;
const PATIENCE: Duration = Duration::from_secs(30);

/// One mode's way.
pub(super) struct Course {
    pub(super) mode: Mode,
    pub(super) client: Pod,
    pub(super) target: SocketAddr,
    /// The proxies at each end, as the processes that all others of that end descend from.
    ends: Vec<Vec<u32>>,
}

impl Course {
    /// CPU time of all proxies together; memory of the end that holds most.
    pub(super) fn usage(&self) -> Result<usage::Usage> {
        let mut all = usage::Usage::default();
        for end in &self.ends {
            let end = usage::of(end)?;
            all.cpu_seconds += end.cpu_seconds;
            all.rss_mb = all.rss_mb.max(end.rss_mb);
        }
        Ok(all)
    }
}

/// Everything that runs for as long as the measurement does.
pub(super) struct Stage<'lab> {
    // Fields are dropped in this order: the mesh before the applications.
    mesh: Option<Mesh<'lab>>,
    istio: Option<IstioMesh<'lab>>,
    processes: Vec<Process>,
    lab: &'lab Lab,
    istio_lab: Option<&'lab Lab>,
    modes: Vec<Mode>,
    envoy: Option<PathBuf>,
}

impl<'lab> Stage<'lab> {
    /// Starts what the modes need.
    ///
    /// `istio_lab` is where Istio's proxy takes the place of ours.
    pub(super) fn new(lab: &'lab Lab, istio_lab: Option<&'lab Lab>, options: &Options) -> Result<Self> {
        let mut stage = Self {
            mesh: None,
            istio: None,
            processes: Vec::new(),
            lab,
            istio_lab,
            modes: options.modes.clone(),
            envoy: options.envoy.clone(),
        };
        lab.namespace("plain")?;
        lab.namespace("meshed")?;
        // Warnings only: writing access logs to a file is no work that other modes do.
        let for_mesh = MeshOptions {
            programs: options.programs.clone(),
            log: Some("warn".to_owned()),
            ..MeshOptions::default()
        };
        if stage
            .modes
            .iter()
            .any(|mode| matches!(mode, Mode::Culvert | Mode::CulvertSameNode))
        {
            lab.label("meshed", Some("ambient"))?;
            stage.mesh = Some(Mesh::start(lab, for_mesh.clone())?);
        }
        if let (Some(lab), Some(program)) = (istio_lab, &options.ztunnel) {
            lab.namespace("meshed")?;
            lab.label("meshed", Some("ambient"))?;
            stage.istio = Some(istio::start(lab, program, for_mesh)?);
        }
        Ok(stage)
    }

    /// The modes' ways, in the order in which they were asked for.
    pub(super) fn courses(&mut self) -> Result<Vec<Course>> {
        self.modes
            .clone()
            .into_iter()
            .map(|mode| self.course(mode).with_context(|| mode.name().to_owned()))
            .collect()
    }

    fn course(&mut self, mode: Mode) -> Result<Course> {
        match mode {
            Mode::Direct => {
                let (client, server) = self.pods("plain", mode, 2)?;
                let target = (server.ip4(), APPLICATION).into();
                Ok(Course {
                    mode,
                    client,
                    target,
                    ends: Vec::new(),
                })
            }
            Mode::Culvert | Mode::CulvertSameNode => {
                let node = if mode == Mode::Culvert { 2 } else { 1 };
                let (client, server) = self.pods("meshed", mode, node)?;
                let mesh = self.mesh.as_mut().context("the mesh is not running")?;
                mesh.wait_enrolled(&[&client, &server], true, PATIENCE)?;
                let mut ends = vec![vec![mesh.ztunnel(1)?.pid()]];
                if node == 2 {
                    ends.push(vec![mesh.ztunnel(2)?.pid()]);
                }
                let target = (server.ip4(), APPLICATION).into();
                Ok(Course {
                    mode,
                    client,
                    target,
                    ends,
                })
            }
            Mode::EnvoyTcp => self.envoy_course(mode),
            Mode::IstioZtunnel => {
                let (client, server) = self.pods("meshed", mode, 2)?;
                let istio = self.istio.as_ref().context("Istio's ztunnel is not running")?;
                istio.mesh.wait_enrolled(&[&client, &server], true, PATIENCE)?;
                let ends = istio.proxies.iter().map(|proxy| vec![proxy.pid()]).collect();
                let target = (server.ip4(), APPLICATION).into();
                Ok(Course {
                    mode,
                    client,
                    target,
                    ends,
                })
            }
        }
    }

    /// Two sidecars: one in the client's pod, one in the server's.
    fn envoy_course(&mut self, mode: Mode) -> Result<Course> {
        let program = self.envoy.clone().context("no Envoy program")?;
        let (client, server) = self.pods("plain", mode, 2)?;
        let route = envoy::Route {
            client_listener: (client.ip4(), SIDECAR).into(),
            server_listener: (server.ip4(), SIDECAR).into(),
            application: (Ipv4Addr::LOCALHOST, APPLICATION).into(),
        };
        let files = envoy::write(&self.lab.dir().join("envoy"), &route)?;
        let mut ends = Vec::new();
        for (number, (pod, file, listener)) in [
            (&server, &files.server, route.server_listener),
            (&client, &files.client, route.client_listener),
        ]
        .into_iter()
        .enumerate()
        {
            let mut command = Command::new(&program);
            command
                .arg("--config-path")
                .arg(file)
                .args(["--log-level", "warn", "--disable-hot-restart"]);
            command.args(["--base-id", &number.to_string()]);
            let mut sidecar = pod.spawn("envoy", &mut command)?;
            wait_listening(pod, &mut sidecar, listener)?;
            ends.push(vec![sidecar.pid()]);
            self.processes.push(sidecar);
        }
        Ok(Course {
            mode,
            client,
            target: route.client_listener,
            ends,
        })
    }

    /// A client on node 1 and a running server on this node.
    fn pods(&mut self, namespace: &str, mode: Mode, node: u8) -> Result<(Pod, Pod)> {
        let lab = self.lab_of(mode)?;
        let pod = |role: &str, node: u8| -> Result<Pod> {
            let name = format!("{role}-{}", mode.name());
            let pod = lab.pod(PodSpec::new(namespace, &name).on(node).service_account(role))?;
            // The connection load would otherwise run out of ports in two seconds without a mesh.
            pod.netns().sysctl("net/ipv4/ip_local_port_range", "16000 65000")?;
            pod.netns().sysctl("net/ipv4/tcp_tw_reuse", "1")?;
            Ok(pod)
        };
        let (client, server) = (pod("client", 1)?, pod("server", node)?);
        let listen = format!("0.0.0.0:{APPLICATION}");
        let mut application = server.spawn("serve", own_program()?.args(["serve", "--listen", &listen]))?;
        application.wait_for_log("listening", PATIENCE)?;
        self.processes.push(application);
        Ok((client, server))
    }

    fn lab_of(&self, mode: Mode) -> Result<&'lab Lab> {
        match mode {
            Mode::IstioZtunnel => self.istio_lab.context("no lab for Istio's ztunnel"),
            _ => Ok(self.lab),
        }
    }

    /// Sends a little through the way, and looks at the link: a way that claims encryption must have it.
    pub(super) fn verify(&self, course: &Course) -> Result<()> {
        let capture = Capture::start(self.lab_of(course.mode)?.node(1).namespace(), "wire", &[])?;
        let mut command = own_program()?;
        command.args([
            "load",
            "--kind",
            Kind::Requests.name(),
            "--to",
            &course.target.to_string(),
        ]);
        command.args(["--seconds", "0.2", "--warm-up", "0.1", "--connections", "2"]);
        let output = course.client.output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the applications cannot talk: {}", said.trim());
        let seen = capture.seen();
        match course.mode {
            Mode::Direct => ensure!(seen.clear_bytes > 0, "nothing was seen on the link"),
            Mode::Culvert | Mode::EnvoyTcp | Mode::IstioZtunnel => {
                ensure!(
                    seen.clear_bytes == 0,
                    "{} bytes crossed the link in clear",
                    seen.clear_bytes
                );
                ensure!(seen.encrypted_bytes > 0, "nothing was seen on the link");
            }
            Mode::CulvertSameNode => {}
        }
        Ok(())
    }
}

fn own_program() -> Result<Command> {
    Ok(Command::new(
        std::env::current_exe().context("find the running program")?,
    ))
}

fn wait_listening(pod: &Pod, process: &mut Process, address: SocketAddr) -> Result<()> {
    let connects = || pod.run(|| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok());
    culvert_lab::wait_until("the sidecar listens", PATIENCE, || matches!(connects(), Ok(true)))
        .with_context(|| process.log_tail(20))
}
