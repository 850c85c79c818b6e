//! Waypoints: the Gateway, its Service and its pod, and in the pod `culvert-waypoint`.

use crate::{
    envoy::{Ads, ask_names_of, waypoint_bootstrap},
    lab::Lab,
    mesh::Mesh,
    pod::{Pod, PodSpec},
    process::Process,
    service::{Service, ServiceSpec},
    wait::wait_until,
};
use anyhow::{Context, Result};
use serde_json::json;
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

/// Of the tunnel.
const HBONE: u16 = 15008;
/// By what a Gateway's Service and pods are known.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The objects of a waypoint: a Gateway, the Service of the same name, and a pod that runs nothing yet.
#[derive(Debug)]
pub struct WaypointPlace {
    gateway: String,
    /// The waypoint's pod, on node 2, with the Gateway's name as its service account. It takes tunnels in itself, and nothing of it is
    /// captured.
    pub pod: Pod,
    /// The waypoint's Service.
    pub service: Service,
    /// Whom the program asks for names, if not the resolvers of this machine.
    pub resolver: Option<SocketAddr>,
}

impl WaypointPlace {
    /// Makes them.
    ///
    /// # Errors
    /// When an object cannot be written, or the pod cannot be made.
    pub fn make(lab: &Lab, namespace: &str, gateway: &str) -> Result<Self> {
        Self::make_of(lab, namespace, gateway, "culvert-waypoint")
    }

    /// The same with a Gateway of this class: what `culvert-envoy` is told in addition is for Envoy alone.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn make_of(lab: &Lab, namespace: &str, gateway: &str, class: &str) -> Result<Self> {
        lab.apply(&json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": gateway, "namespace": namespace },
            "spec": {
                "gatewayClassName": class,
                "listeners": [{ "name": "mesh", "port": HBONE, "protocol": "HBONE" }],
            },
        }))?;
        let service = ServiceSpec::new(namespace, gateway)
            .port(HBONE)
            .selector(GATEWAY_NAME, gateway)
            .label(GATEWAY_NAME, gateway);
        let service = lab.service(service)?;
        let spec = PodSpec::new(namespace, &format!("{gateway}-1"))
            .on(2)
            .service_account(gateway)
            .label(GATEWAY_NAME, gateway)
            .label("culvert.dev/mesh", "none")
            .label("networking.istio.io/tunnel", "http");
        Ok(Self {
            gateway: gateway.to_owned(),
            pod: lab.pod(spec)?,
            service,
            resolver: None,
        })
    }

    /// Starts `culvert-waypoint` there, without waiting for it.
    ///
    /// # Errors
    /// When there is no token for it, or it cannot be started.
    pub fn start(&self, mesh: &Mesh<'_>) -> Result<Process> {
        self.start_with(mesh, &[])
    }

    /// The same, with more arguments.
    ///
    /// # Errors
    /// As above.
    pub fn start_with(&self, mesh: &Mesh<'_>, arguments: &[&str]) -> Result<Process> {
        self.start_command(mesh, mesh.program("culvert-waypoint")?, arguments)
    }

    /// Starts another build of `culvert-waypoint` there.
    ///
    /// # Errors
    /// As above.
    pub fn start_build(&self, mesh: &Mesh<'_>, program: &Path) -> Result<Process> {
        let mut command = Command::new(program);
        // What the mesh has its programs log.
        for (name, value) in mesh.program("culvert-waypoint")?.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        self.start_command(mesh, command, &[])
    }

    fn start_command(&self, mesh: &Mesh<'_>, mut command: Command, arguments: &[&str]) -> Result<Process> {
        let token = mesh.workload_token(&self.pod)?;
        command
            .args(["--namespace", self.pod.namespace(), "--gateway", &self.gateway])
            .args(["--pod-name", self.pod.name(), "--service-account", self.pod.account()])
            .args(["--pod-ip", &self.pod.ip4().to_string()])
            .args(mesh.controller_arguments())
            .arg("--token-file")
            .arg(&token)
            .args(arguments);
        if let Some(resolver) = self.resolver {
            command.args(["--resolver", &resolver.to_string()]);
        }
        self.pod.spawn("waypoint", &mut command)
    }

    /// Starts Envoy there, which asks the same controller for everything, without waiting for it. `arguments` follow those that it needs.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_envoy(&self, mesh: &Mesh<'_>, program: &Path, ads: Ads, arguments: &[&str]) -> Result<Process> {
        let mut bootstrap = waypoint_bootstrap(mesh, &self.pod, &self.gateway, ads)?;
        if let Some(resolver) = self.resolver {
            bootstrap["typed_dns_resolver_config"] = ask_names_of(resolver);
        }
        let file = self
            .pod
            .log_dir()
            .join(format!("envoy-{}-{}.json", self.pod.namespace(), self.pod.name()));
        fs::write(&file, serde_json::to_vec_pretty(&bootstrap)?)
            .with_context(|| format!("write {}", file.display()))?;
        let mut command = Command::new(program);
        command
            .arg("--config-path")
            .arg(file)
            .arg("--disable-hot-restart")
            .args(arguments);
        self.pod.spawn("envoy", &mut command)
    }

    /// Waits until the tunnel port is open, whichever program is to open it.
    ///
    /// # Errors
    /// When it is not within `timeout`; with the program's last words.
    pub fn wait_open(&self, process: &Process, timeout: Duration) -> Result<()> {
        let connects = || TcpStream::connect((self.pod.ip4(), HBONE)).is_ok();
        let open = || self.pod.run(connects).unwrap_or(false);
        wait_until("the waypoint's tunnel port is open", timeout, open).with_context(|| process.log_tail(60))
    }
}
