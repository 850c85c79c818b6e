//! The kernel side of the node: loads or adopts the programs, and tells them which pods take part.
//!
//! [`Kernel`] is the only way in. Everything that it sets up is pinned below one bpffs folder, so it outlives this
//! process; a later [`Kernel::open`] finds it, puts its own programs in the place of the old ones without a gap, and
//! carries on. Nothing here speaks to pods or proxies: network namespaces and listening sockets come from outside.

mod error;

pub use error::KernelError;

use ipnet::IpNet;
use std::{collections::HashSet, net::IpAddr, os::fd::BorrowedFd, path::PathBuf};

/// What [`Kernel::open`] needs to know.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// The cgroup2 folder whose processes are subject to capture: the cgroup2 root, or a node's folder where several
    /// nodes share a kernel. This process and the proxy must run in it or below it.
    pub cgroup: PathBuf,
    /// The proxy's cgroup2 folder, below `cgroup`. Processes in it and below it are never captured.
    pub proxy_cgroup: PathBuf,
    /// A folder on a bpffs, made if absent. One agent uses it at a time.
    pub bpffs: PathBuf,
    /// How much the maps hold. Other sizes than those of the running programs mean a new set of maps, see
    /// [`Kernel::collect`].
    pub sizes: MapSizes,
    /// What is never captured.
    pub exclusions: Exclusions,
}

/// How many entries the maps hold; each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Enrolled pods.
    pub pods: u32,
    /// Addresses of enrolled pods, all together.
    pub addresses: u32,
    /// Captured connections that have not been established yet. When there are more, `connect` fails with `EPERM`.
    pub flows: u32,
    /// Excluded CIDRs.
    pub exclusions: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            pods: 1024,
            addresses: 4096,
            flows: 65536,
            exclusions: 1024,
        }
    }
}

/// What is never captured, on the whole node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusions {
    /// Destinations that pods reach directly.
    pub cidrs: Vec<IpNet>,
    /// Destination ports that pods reach directly, and that reach pods directly. The proxy's own ports (15001, 15006,
    /// 15008) cannot be excluded on the way in.
    pub ports: Vec<u16>,
}

/// A pod as the programs see it.
#[derive(Clone, Copy, Debug)]
pub struct PodCapture<'a> {
    /// The cookie of its network namespace (`SO_NETNS_COOKIE`).
    pub cookie: u64,
    /// Its network namespace.
    pub netns: BorrowedFd<'a>,
    /// All its addresses. The first of each family is where captured connections of that family go.
    pub addresses: &'a [IpAddr],
    /// The proxy's listening sockets. `None` when the proxy opens them by itself (Istio's ztunnel does), or when those
    /// that the programs already know stay in use: see [`Kernel::listening`].
    pub listeners: Option<PodListeners<'a>>,
    /// Capture what the pod opens.
    pub outbound: bool,
    /// Capture what the pod receives.
    pub inbound: bool,
}

/// The proxy's listening sockets inside a pod. The programs hold no reference: a socket that every process has closed is
/// forgotten at once, and connections are then refused until [`Kernel::enrol`] brings another.
#[derive(Clone, Copy, Debug)]
pub struct PodListeners<'a> {
    /// One per address of the pod, in the order of [`PodCapture::addresses`], bound to it and port 15001.
    pub outbound: &'a [BorrowedFd<'a>],
    /// Bound to `[::]:15006`, dual stack.
    pub inbound_plaintext: BorrowedFd<'a>,
    /// Bound to `[::]:15008`, dual stack.
    pub inbound_hbone: BorrowedFd<'a>,
}

/// The loaded and attached programs with their maps.
///
/// Dropping it detaches nothing: pods stay captured, as they must when this process dies.
#[derive(Debug)]
pub struct Kernel {}

impl Kernel {
    /// Loads the programs and attaches them; where an earlier process left its own, puts these in their place.
    ///
    /// # Errors
    /// Not root, no bpffs, a cgroup that is absent or not below `cgroup`, a kernel that lacks a hook, sizes of zero.
    pub fn open(_config: &KernelConfig) -> Result<Self, KernelError> {
        todo!()
    }

    /// Brings a pod under capture, or changes what is known of it. Doing it twice changes nothing. A connection attempt
    /// that meets the change half way is handled by the old rules or the new.
    ///
    /// # Errors
    /// An address that belongs to another enrolled pod, full maps, a namespace that is gone. The pod is then as it was
    /// before, or captured with fewer listeners, never less captured.
    pub fn enrol(&mut self, _pod: &PodCapture<'_>) -> Result<(), KernelError> {
        todo!()
    }

    /// Lets what the pod opens from now on go out directly; what it receives stays captured, and captured connections
    /// live on. The first half of leaving: connections on their way through the proxy still arrive.
    ///
    /// # Errors
    /// A failing system call. A pod that is not enrolled is no error.
    pub fn withdraw_outbound(&mut self, _cookie: u64) -> Result<(), KernelError> {
        todo!()
    }

    /// Ends capture of the pod, in both directions. Connections that are open live on.
    ///
    /// # Errors
    /// A failing system call. A pod that is not enrolled is no error.
    pub fn withdraw(&mut self, _cookie: u64) -> Result<(), KernelError> {
        todo!()
    }

    /// The cookies of the pods that the programs know, those enrolled by an earlier process included.
    ///
    /// # Errors
    /// A failing system call.
    pub fn enrolled(&self) -> Result<Vec<u64>, KernelError> {
        todo!()
    }

    /// Whether each address of the pod has its three listening sockets, all alive, in the programs' hands.
    ///
    /// After a restart this says whether the proxy still holds the listeners of an earlier process: if so, enrol with
    /// `listeners: None` and tell the proxy to keep the pod; if not, open new ones.
    ///
    /// # Errors
    /// A failing system call.
    pub fn listening(&self, _cookie: u64) -> Result<bool, KernelError> {
        todo!()
    }

    /// Forgets all pods but those of `keep` and those whose namespace is gone in any case, and removes what programs of
    /// another version left behind; returns the cookies that went. Call it when every pod of the node has been enrolled.
    ///
    /// # Errors
    /// A failing system call.
    pub fn collect(&mut self, _keep: &HashSet<u64>) -> Result<Vec<u64>, KernelError> {
        todo!()
    }

    /// Names the proxies' cgroups anew, 1 to 4 of them, for example while a new proxy starts beside an old one.
    ///
    /// # Errors
    /// As for [`Kernel::open`]; also more than 4.
    pub fn set_proxies(&mut self, _cgroups: &[PathBuf]) -> Result<(), KernelError> {
        todo!()
    }

    /// What the programs counted since they were first loaded: hook, outcome, count.
    ///
    /// # Errors
    /// A failing system call.
    pub fn counters(&self) -> Result<Vec<(&'static str, &'static str, u64)>, KernelError> {
        todo!()
    }

    /// How full each map is: name, entries, size.
    ///
    /// # Errors
    /// A failing system call.
    pub fn occupancy(&self) -> Result<Vec<(&'static str, u64, u64)>, KernelError> {
        todo!()
    }

    /// Sends what the programs log (denials) to `tracing`, under the target `kernel`. Needs a tokio runtime with I/O;
    /// ends with it. A second call does nothing.
    ///
    /// # Errors
    /// No log in the programs, or no runtime.
    pub fn spawn_log(&mut self) -> Result<(), KernelError> {
        todo!()
    }
}
