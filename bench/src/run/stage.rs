//! Everything that runs for as long as the measurement does: the nodes with their pods, and the proxies of each mode.

use super::{
    course::{Course, DNS, HTTP1, HTTP2, PLAIN, own_program},
    loads::FIRST,
    mode::{Mode, Nodes},
    options::Options,
    peer::{self, PeerMesh},
    sidecar,
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use culvert_lab::{
    Lab, Mesh, MeshOptions, Options as LabOptions, Pod, PodSpec, Process, ServiceSpec, WaypointPlace, wait_until,
};
use serde_json::json;
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// The waypoint's Gateway.
const GATEWAY: &str = "wp";
/// The namespace of pods whose connections are to go past the proxy.
const KERNEL: &str = "kernel-joined";
/// The namespace with policies.
const STRICT: &str = "strict";
/// How many rules there are.
const RULES: usize = 100;
/// How long that may take to be known on the node.
const KNOWN: Duration = Duration::from_secs(10);
/// Where the agent has its metrics, and that of such connections.
const MONITORING: u16 = 15022;
const SAME_NODE: &str = "culvert_agent_same_node_connections_opened_total";
/// A port on which Services have HTTP/1.1, and one for HTTP/2.
const SERVICE_PORTS: [u16; 2] = [80, 81];

/// Nodes of their own for each kind of modes, so that what runs for one is not on the way of another.
pub(super) struct Labs(BTreeMap<Nodes, Lab>);

impl Labs {
    /// Makes those that the modes need.
    ///
    /// # Errors
    /// Without root, without cgroup2, or when namespaces cannot be made.
    pub(super) fn make(modes: &[Mode]) -> Result<Self> {
        let mut labs = BTreeMap::new();
        for nodes in modes.iter().map(|mode| mode.nodes()) {
            if labs.contains_key(&nodes) {
                continue;
            }
            let suffix = match nodes {
                Nodes::Bare => "",
                Nodes::Culvert => "_mesh",
                Nodes::Legs => "_legs",
                Nodes::Peer => "_peer",
                Nodes::Before => "_before",
            };
            let lab = Lab::new(&format!("bench_{}{suffix}", std::process::id()), LabOptions::default())?;
            lab.namespace("plain")?;
            labs.insert(nodes, lab);
        }
        Ok(Self(labs))
    }

    /// The lab of a mode.
    pub(super) fn of(&self, mode: Mode) -> Result<&Lab> {
        self.0.get(&mode.nodes()).context("its nodes were not made")
    }

    /// All there are.
    pub(super) fn all(&self) -> impl Iterator<Item = &Lab> {
        self.0.values()
    }
}

/// The meshes, which modes share.
pub(super) struct Stage<'lab> {
    labs: &'lab Labs,
    options: &'lab Options,
    culvert: BTreeMap<Nodes, Result<Mesh<'lab>, String>>,
    peer: Option<PeerMesh<'lab>>,
}

impl<'lab> Stage<'lab> {
    /// Nothing runs yet.
    pub(super) fn new(labs: &'lab Labs, options: &'lab Options) -> Self {
        Self {
            labs,
            options,
            culvert: BTreeMap::new(),
            peer: None,
        }
    }

    /// Makes a mode's pods, and starts what it needs.
    ///
    /// # Errors
    /// When a program that it needs is not there, or does not come up.
    pub(super) fn course(&mut self, mode: Mode) -> Result<Course<'lab>> {
        match mode {
            Mode::Direct => self.pods("plain", mode, 2),
            Mode::DirectSameNode => self.pods("plain", mode, 1),
            Mode::DirectBesideCulvert => {
                self.mesh(mode)?;
                let mut course = self.pods("plain", mode, 2)?;
                course.agents = self.agents(mode, &[1, 2])?;
                Ok(course)
            }
            Mode::Culvert | Mode::CulvertSameNode | Mode::CulvertBefore => self.meshed("meshed", mode),
            Mode::CulvertPolicies => self.meshed(STRICT, mode),
            Mode::CulvertLocalLegs => self.local_legs(mode),
            Mode::CulvertKernel => self.kernel(mode),
            Mode::CulvertWaypoint => self.waypoint(mode),
            Mode::Sidecar | Mode::SidecarHttp => self.sidecars(mode),
            Mode::Ztunnel => self.peer(mode),
        }
    }

    fn mesh_options(&self) -> MeshOptions {
        MeshOptions {
            programs: self.options.programs.clone(),
            // With the access log, as for sidecars.
            log: Some("warn,access=info".to_owned()),
            ..MeshOptions::default()
        }
    }

    /// Culvert on the nodes of this mode, or that of another revision, started by the first mode that needs it.
    fn mesh(&mut self, mode: Mode) -> Result<&mut Mesh<'lab>> {
        let nodes = mode.nodes();
        if !self.culvert.contains_key(&nodes) {
            let lab = self.labs.of(mode)?;
            for namespace in ["meshed", STRICT, KERNEL, "waypoint"] {
                lab.namespace(namespace)?;
                lab.label(namespace, Some("ambient"))?;
            }
            for object in policies() {
                lab.apply(&object)?;
            }
            let mut options = self.mesh_options();
            match nodes {
                Nodes::Legs => {
                    options.agent_args = ["--local-legs", "kernel"].map(str::to_owned).into();
                    options.log = Some("warn,access=info,culvert_agent=info".to_owned());
                }
                Nodes::Before => {
                    let before = self.options.before.clone();
                    options.programs = Some(before.context("no folder with its programs was named (--before FOLDER)")?);
                }
                Nodes::Bare | Nodes::Culvert | Nodes::Peer => {}
            }
            let started = Mesh::start(lab, options).map_err(|error| format!("{error:#}"));
            self.culvert.insert(nodes, started);
        }
        match self.culvert.get_mut(&nodes) {
            Some(Ok(mesh)) => Ok(mesh),
            Some(Err(why)) => Err(anyhow!("Culvert does not start: {why}")),
            None => bail!("Culvert was not started"),
        }
    }

    /// Across nodes, where the agents say that the kernel carries local legs.
    fn local_legs(&mut self, mode: Mode) -> Result<Course<'lab>> {
        let course = self.meshed("meshed", mode)?;
        for node in [1, 2] {
            let log = self.mesh(mode)?.agent(node)?.log();
            let said = log.lines().rfind(|line| line.contains("local legs"));
            let said = said.context("the agents do not know local legs")?;
            ensure!(
                said.contains("carried by the kernel"),
                "the kernel of this machine carries none: {said}"
            );
        }
        Ok(course)
    }

    fn meshed(&mut self, namespace: &str, mode: Mode) -> Result<Course<'lab>> {
        self.mesh(mode)?;
        let node = if mode.crosses_link() { 2 } else { 1 };
        let mut course = self.pods(namespace, mode, node)?;
        let patience = self.options.patience();
        let mesh = self.mesh(mode)?;
        mesh.wait_enrolled(&[&course.client, &course.server_pod], true, patience)?;
        course.ends = vec![vec![mesh.ztunnel(1)?.pid()]];
        if node == 2 {
            course.ends.push(vec![mesh.ztunnel(2)?.pid()]);
        }
        course.agents = self.agents(mode, if node == 2 { &[1, 2] } else { &[1] })?;
        Ok(course)
    }

    fn agents(&mut self, mode: Mode, nodes: &[u8]) -> Result<Vec<u32>> {
        let mesh = self.mesh(mode)?;
        nodes.iter().map(|node| Ok(mesh.agent(*node)?.pid())).collect()
    }

    /// Both pods on one node, and the server's asks for connections past the proxy; that there are some is what the agent counts.
    fn kernel(&mut self, mode: Mode) -> Result<Course<'lab>> {
        let course = self.meshed(KERNEL, mode)?;
        let server = course.server_pod.name().to_owned();
        let mesh = self.mesh(mode)?;
        let is_counted = |line: &str| line.starts_with(SAME_NODE) && line.contains(&server) && !line.ends_with(" 0");
        let joined = wait_until("connections go past the proxy", KNOWN, || {
            let page = || mesh.get(1, MONITORING, "/metrics");
            course.try_out(&FIRST).is_ok() && page().is_ok_and(|page| page.body.lines().any(is_counted))
        });
        joined.context("the agent counts no connection past the proxy (culvert.dev/same-node: kernel)")?;
        Ok(course)
    }

    /// The server behind a Service of HTTP with a waypoint, which the client dials.
    fn waypoint(&mut self, mode: Mode) -> Result<Course<'lab>> {
        let lab = self.labs.of(mode)?;
        let mut course = self.meshed("waypoint", mode)?;
        let patience = self.options.patience();
        let mut service = ServiceSpec::new("waypoint", "server")
            .selector("app", "server")
            .label("culvert.dev/use-waypoint", GATEWAY);
        let [http1, http2] = SERVICE_PORTS;
        for (port, target, protocol) in [(http1, HTTP1, "http"), (http2, HTTP2, "kubernetes.io/h2c")] {
            service = service.port_object(json!({
                "name": format!("http-{port}"), "port": port, "targetPort": target, "protocol": "TCP", "appProtocol": protocol,
            }));
        }
        course.server = IpAddr::V4(lab.service(service)?.ip4());
        course.web = SERVICE_PORTS;
        course.host = "server.waypoint".to_owned();
        let place = WaypointPlace::make(lab, "waypoint", GATEWAY)?;
        let process = place.start(self.mesh(mode)?)?;
        place.wait_open(&process, patience)?;
        // Until the node knows that the Service has a waypoint, requests go past it.
        wait_until("requests pass the waypoint", patience, || {
            course.try_out(&FIRST).is_ok() && process.log().contains("/r0")
        })
        .with_context(|| process.log_tail(20))?;
        course.ends.push(vec![process.pid()]);
        course.processes.push(process);
        Ok(course)
    }

    fn sidecars(&mut self, mode: Mode) -> Result<Course<'lab>> {
        let envoy = self.options.envoy.as_ref();
        let program = envoy.context("sidecars need the Envoy program (--envoy FILE)")?;
        let mut course = self.pods("plain", mode, 2)?;
        let server = course.server_pod.clone();
        let is_http = mode == Mode::SidecarHttp;
        let pair = sidecar::Pair {
            program,
            folder: &self.labs.of(mode)?.dir().join(mode.name()),
            client: &course.client,
            server: &server,
            tcp: if is_http { &[PLAIN] } else { &[PLAIN, HTTP1, HTTP2] },
            http: is_http.then_some([HTTP1, HTTP2]),
        };
        let envoys = sidecar::start(&pair, self.options.patience())?;
        course.ends = envoys.iter().map(|envoy| vec![envoy.pid()]).collect();
        course.processes.extend(envoys);
        Ok(course)
    }

    fn peer(&mut self, mode: Mode) -> Result<Course<'lab>> {
        let program = self.options.peer.as_ref();
        let program = program.context("no program was named (--peer ztunnel=FILE)")?;
        let lab = self.labs.of(mode)?;
        lab.namespace("meshed")?;
        lab.label("meshed", Some("ambient"))?;
        let patience = self.options.patience();
        let peer = peer::start(lab, program, self.mesh_options(), patience)?;
        let mut course = self.pods("meshed", mode, 2)?;
        let peer = self.peer.insert(peer);
        let pods = [&course.client, &course.server_pod];
        peer.mesh.wait_enrolled(&pods, true, patience)?;
        course.ends = peer.proxies.iter().map(|proxy| vec![proxy.pid()]).collect();
        course.agents = vec![peer.mesh.agent(1)?.pid(), peer.mesh.agent(2)?.pid()];
        Ok(course)
    }

    /// A client on node 1 and a running server on this node.
    fn pods(&self, namespace: &str, mode: Mode, node: u8) -> Result<Course<'lab>> {
        let lab = self.labs.of(mode)?;
        let pod = |role: &str, node: u8| -> Result<Pod> {
            let way = if namespace == KERNEL { "kernel" } else { "proxy" };
            let spec = PodSpec::new(namespace, &format!("{role}-{}", mode.name()))
                .annotation("culvert.dev/same-node", way)
                .on(node)
                .service_account(role)
                .label("app", role);
            let pod = lab.pod(spec)?;
            // The connection load would otherwise run out of ports in two seconds without a mesh.
            pod.netns().sysctl("net/ipv4/ip_local_port_range", "16000 65000")?;
            pod.netns().sysctl("net/ipv4/tcp_tw_reuse", "1")?;
            Ok(pod)
        };
        let (client, server) = (pod("client", 1)?, pod("server", node)?);
        let processes = serve(&server)?;
        Ok(Course {
            mode,
            client,
            server: IpAddr::V4(server.ip4()),
            resolver: IpAddr::V4(server.ip4()),
            web: [HTTP1, HTTP2],
            host: "server".to_owned(),
            ends: Vec::new(),
            applications: processes.iter().map(Process::pid).collect(),
            agents: Vec::new(),
            link: mode.crosses_link().then(|| lab.node(1)),
            processes,
            server_pod: server,
        })
    }
}

/// Strict mode, and rules that allow: one for each of so many accounts, of which the last is the client's.
fn policies() -> [serde_json::Value; 2] {
    let rule = |number: usize| {
        let account = match number {
            RULES => "client".to_owned(),
            _ => format!("client-{number}"),
        };
        json!({ "from": [{ "source": { "principals": [format!("cluster.local/ns/{STRICT}/sa/{account}")] } }] })
    };
    let rules: Vec<_> = (1..=RULES).map(rule).collect();
    let object = |kind: &str, spec: serde_json::Value| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": kind,
            "metadata": { "name": "bench", "namespace": STRICT }, "spec": spec,
        })
    };
    [
        object("PeerAuthentication", json!({ "mtls": { "mode": "STRICT" } })),
        object("AuthorizationPolicy", json!({ "action": "ALLOW", "rules": rules })),
    ]
}

/// The server's programs: of bytes and DNS, and of HTTP.
fn serve(server: &Pod) -> Result<Vec<Process>> {
    let at = |port: u16| format!("0.0.0.0:{port}");
    let mut plain = own_program()?;
    plain.args(["serve", "--listen", &at(PLAIN), "--dns", &at(DNS)]);
    let mut web = own_program()?;
    web.args(["http-serve", "--http1", &at(HTTP1), "--http2", &at(HTTP2)]);
    let mut processes = vec![
        server.spawn("serve", &mut plain)?,
        server.spawn("http-serve", &mut web)?,
    ];
    for process in &mut processes {
        process.wait_for_log("listening", Duration::from_secs(30))?;
    }
    Ok(processes)
}
