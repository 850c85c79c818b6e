//! Nodes: namespaces joined by one link, each with a cgroup folder of its own.

use crate::{
    netns::Namespace,
    process::{self, Place, Process},
};
use anyhow::Result;
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// One of the lab's two nodes.
#[derive(Debug)]
pub struct Node {
    pub(crate) number: u8,
    pub(crate) name: String,
    pub(crate) namespace: Namespace,
    pub(crate) cgroup: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) survives: bool,
}

impl Node {
    /// 1 or 2.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// `node1` or `node2`: what Kubernetes calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node's network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The node's IPv4 address.
    pub fn ip4(&self) -> Ipv4Addr {
        node_ip4(self.number)
    }

    /// The node's IPv6 address.
    pub fn ip6(&self) -> Ipv6Addr {
        node_ip6(self.number)
    }

    /// The cgroup2 folder with all pods of this node and its proxy: what the agent takes as `--cgroup`.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The folder of the node's bpffs: what the agent takes as `--bpffs`. It exists.
    pub fn bpffs(&self) -> PathBuf {
        self.dir.join("bpf").join(&self.name)
    }

    /// Where the node's agent listens for its proxy.
    pub fn zds_socket(&self) -> PathBuf {
        self.dir.join("run").join(format!("{}-zds.sock", self.name))
    }

    /// Starts a program on the node, in the node's network namespace and the cgroup folder `group` below the node's:
    /// `proxy` for what the agent must not capture, `agent` for the rest. The log file is `<node>-<name>.log`.
    pub fn spawn(&self, name: &str, group: &str, command: &mut Command) -> Result<Process> {
        let log = self.dir.join("log").join(format!("{}-{name}.log", self.name));
        Process::spawn(
            &format!("{name} on {}", self.name),
            command,
            &self.place(&self.cgroup.join(group)),
            &log,
        )
    }

    /// [`Node::spawn`] with pipes as standard input and standard output; the log gets standard error.
    pub(crate) fn spawn_piped(
        &self,
        name: &str,
        group: &str,
        command: &mut Command,
        stdin: OwnedFd,
        stdout: OwnedFd,
    ) -> Result<Process> {
        let log = self.dir.join("log").join(format!("{}-{name}.log", self.name));
        let cgroup = self.cgroup.join(group);
        Process::spawn_piped(
            &format!("{name} on {}", self.name),
            command,
            &self.place(&cgroup),
            &log,
            stdin,
            stdout,
        )
    }

    /// Runs a program on the node to its end.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        process::output(command, &self.place(&self.cgroup.join("agent")))
    }

    /// Runs `work` in the node's network namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace.run(work)
    }

    fn place<'a>(&'a self, cgroup: &'a Path) -> Place<'a> {
        Place {
            namespace: &self.namespace,
            cgroup,
            survives: self.survives,
        }
    }
}

/// The IPv4 address of node 1 or 2.
pub(crate) fn node_ip4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, number)
}

/// The IPv6 address of node 1 or 2.
pub(crate) fn node_ip6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0xc01e, 0, 0, 0, 0, 0, number.into())
}
