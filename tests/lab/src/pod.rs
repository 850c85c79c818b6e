//! Pods: a namespace with a link to its node, a cgroup folder, and a Kubernetes object.

use crate::{
    netns::Namespace,
    process::{self, Place, Process},
    sockets::SocketMaker,
};
use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Command, Output},
    sync::{Arc, OnceLock},
    time::Duration,
};

/// What a pod is to be: a builder.
#[derive(Debug, Clone)]
pub struct PodSpec {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) node: u8,
    pub(crate) service_account: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) containers: Vec<serde_json::Value>,
}

impl PodSpec {
    /// A pod on node 1, with the service account `default` and no labels.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            node: 1,
            service_account: "default".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            containers: vec![serde_json::json!({ "name": "app", "image": "culvert.dev/lab" })],
        }
    }

    /// Puts it on this node, 1 or 2.
    #[must_use]
    pub fn on(mut self, node: u8) -> Self {
        self.node = node;
        self
    }

    /// Gives it a service account, whose object is written with the pod.
    #[must_use]
    pub fn service_account(mut self, name: &str) -> Self {
        name.clone_into(&mut self.service_account);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Replaces the containers in the pod's object (Kubernetes' JSON); they only matter for named ports.
    #[must_use]
    pub fn containers(mut self, containers: Vec<serde_json::Value>) -> Self {
        self.containers = containers;
        self
    }
}

/// A pod that exists; clones are the same pod.
#[derive(Debug, Clone)]
pub struct Pod(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) spec: PodSpec,
    /// The pod's number on its node, which makes its addresses and its link's name.
    pub(crate) number: u8,
    pub(crate) netns: Namespace,
    pub(crate) cgroup: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) survives: bool,
    pub(crate) sockets: OnceLock<SocketMaker>,
}

impl Pod {
    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.0.spec.namespace
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0.spec.name
    }

    /// The node it is on, 1 or 2.
    pub fn node(&self) -> u8 {
        self.0.spec.node
    }

    /// The IPv4 address.
    pub fn ip4(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.node(), self.0.number)
    }

    /// The IPv6 address.
    pub fn ip6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0xc01e, self.node().into(), 0, 0, 0, 0, self.0.number.into())
    }

    /// Both addresses, IPv4 first: `status.podIPs`.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ip4().into(), self.ip6().into()]
    }

    /// `spiffe://cluster.local/ns/<namespace>/sa/<service account>`.
    pub fn identity(&self) -> String {
        format!(
            "spiffe://cluster.local/ns/{}/sa/{}",
            self.namespace(),
            self.0.spec.service_account
        )
    }

    /// The service account's name.
    pub fn account(&self) -> &str {
        &self.0.spec.service_account
    }

    /// The pod's network namespace.
    pub fn netns(&self) -> &Namespace {
        &self.0.netns
    }

    /// The pod's cgroup2 folder.
    pub fn cgroup(&self) -> &std::path::Path {
        &self.0.cgroup
    }

    /// Where logs of the pod's programs are.
    pub(crate) fn log_dir(&self) -> &std::path::Path {
        &self.0.log_dir
    }

    /// Starts a program in the pod. The log file is `<namespace>-<pod>-<name>.log`.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process> {
        let log = self
            .0
            .log_dir
            .join(format!("{}-{}-{name}.log", self.namespace(), self.name()));
        Process::spawn(
            &format!("{name} in {}/{}", self.namespace(), self.name()),
            command,
            &self.place(),
            &log,
        )
    }

    /// Runs a program in the pod to its end and returns what it printed.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        process::output(command, &self.place())
    }

    /// Runs `work` in the pod's network namespace, but outside its cgroup: nothing it does is captured.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.0.netns.run(work)
    }

    /// A socket as if a program in the pod had made it, usable here; numbers as in socket(2).
    pub fn socket(&self, family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
        self.sockets()
            .map_err(|error| io::Error::other(format!("{error:#}")))?
            .socket(family, kind, protocol)
    }

    /// A TCP socket of the family of `peer`, as if a program in the pod had made it.
    pub fn tcp_socket(&self, peer: SocketAddr) -> io::Result<Socket> {
        let domain = Domain::for_address(peer);
        self.socket(domain.into(), Type::STREAM.into(), Protocol::TCP.into())
            .map(Socket::from)
    }

    /// Connects from the pod.
    pub fn connect(&self, peer: impl Into<SocketAddr>, timeout: Duration) -> io::Result<TcpStream> {
        let peer = peer.into();
        let socket = self.tcp_socket(peer)?;
        socket.connect_timeout(&peer.into(), timeout)?;
        Ok(socket.into())
    }

    /// Listens in the pod; `[::]:PORT` takes both address families.
    pub fn listen(&self, address: impl Into<SocketAddr>) -> io::Result<TcpListener> {
        let address = address.into();
        let socket = self.tcp_socket(address)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        Ok(socket.into())
    }

    fn sockets(&self) -> Result<&SocketMaker> {
        if let Some(maker) = self.0.sockets.get() {
            return Ok(maker);
        }
        let maker = SocketMaker::start(&self.place()).with_context(|| format!("pod {}", self.name()))?;
        // Two threads may come here at once: the first helper stays, the other ends when it is dropped here.
        Ok(self.0.sockets.get_or_init(|| maker))
    }

    fn place(&self) -> Place<'_> {
        Place {
            namespace: &self.0.netns,
            cgroup: &self.0.cgroup,
            survives: self.0.survives,
        }
    }
}
