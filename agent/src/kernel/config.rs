//! What the kernel side is told: once when it is opened, and for each pod.

#[cfg(doc)]
use super::Kernel;
use culvert_abi::DNS_SLOTS;
use culvert_objects::Hold;
use ipnet::IpNet;
use std::{net::IpAddr, os::fd::BorrowedFd, path::PathBuf};

/// Outbound, plaintext, tunnel, the one that answers nothing, and those for DNS.
pub(super) const LISTENERS_PER_ADDRESS: u32 = 4 + DNS_SLOTS as u32;

/// Room for accounts of pods that have just gone while connections of theirs are still being opened.
pub(super) const USAGE_PER_POD: u32 = 2;

/// What [`Kernel::open`] needs to know.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// The cgroup2 folder whose processes are subject to capture: the cgroup2 root, or a node's folder where several
    /// nodes share a kernel. This process and the proxy must run in it or below it. `None` for the widest that is mounted
    /// here, beside version 1 or alone.
    pub cgroup: Option<PathBuf>,
    /// The proxy's cgroup2 folder, below `cgroup`. Processes in it and below it are never captured. `None` where that is
    /// known only when a proxy comes: see [`Kernel::admit_proxy`].
    pub proxy_cgroup: Option<PathBuf>,
    /// Proxies run in pods of a kubelet: one that is in no pod's cgroup is refused, since its cgroup may be that of all
    /// containers.
    pub proxies_in_pods: bool,
    /// A folder on a bpffs, made if absent. One agent uses it at a time.
    pub bpffs: PathBuf,
    /// How much the maps hold. Other sizes than those of the running programs mean a new set of maps, see
    /// [`Kernel::remove_other_versions`].
    pub sizes: MapSizes,
    /// What is never captured.
    pub exclusions: Exclusions,
    /// How guards are attached to pods' links.
    pub guard_hook: GuardHook,
    /// How bytes go between applications and the node's proxy.
    pub local_legs: LocalLegs,
    /// The node's own network namespace, where the other ends of pods' links are.
    pub node_network: PathBuf,
}

/// The node's own network namespace, for a process that shares the node's process ids.
pub const NODE_NETWORK: &str = "/proc/1/ns/net";

/// How a guard is attached to a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuardHook {
    /// By tcx where the kernel has it, and else by clsact.
    #[default]
    Auto,
    /// By tcx (since Linux 6.6): as a link, before all other programs.
    Tcx,
    /// By a filter of the queueing discipline clsact, through netlink.
    Clsact,
}

impl std::str::FromStr for GuardHook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "tcx" => Ok(Self::Tcx),
            "clsact" => Ok(Self::Clsact),
            _ => Err("neither auto, tcx nor clsact".to_owned()),
        }
    }
}

/// How bytes go between applications and the node's proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalLegs {
    /// By TCP over loopback.
    #[default]
    Tcp,
    /// What applications send is put into the queue of the proxy's socket, where the kernel can do that so that no application
    /// notices; the rest goes by TCP.
    Kernel,
    /// Also where applications may notice: who waits in a read of such a socket may be told to try again (`EAGAIN`), although the
    /// socket blocks, and `FIONREAD` may say that nothing is there. For nodes where all applications poll, and read then.
    Polled,
}

impl std::str::FromStr for LocalLegs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "kernel" => Ok(Self::Kernel),
            "polled" => Ok(Self::Polled),
            _ => Err("neither tcp, kernel nor polled".to_owned()),
        }
    }
}

/// How many entries the maps hold; each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Enrolled pods.
    pub pods: u32,
    /// Addresses of enrolled pods, all together.
    pub addresses: u32,
    /// Captured connections that have not been established yet. When there are more, `connect` fails with `ENOBUFS`.
    pub flows: u32,
    /// How many of these one pod may have, so that no pod takes the room of others.
    pub flows_per_pod: u32,
    /// Excluded CIDRs.
    pub exclusions: u32,
}

impl MapSizes {
    /// Interfaces of the node that lead to guarded pods; more than pods have on the average.
    pub(super) fn guarded_links(&self) -> u32 {
        const PER_POD: u32 = 4;
        self.pods.saturating_mul(PER_POD)
    }
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            pods: 1024,
            addresses: 4096,
            flows: 65536,
            flows_per_pod: 8192,
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
    /// Namespace and name, for logs and errors.
    pub name: &'a str,
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
    /// Which of the connections that it opens are held until their far side is there. Takes `inbound`, and a proxy that has
    /// [`PodListeners::hold`]; without either they are accepted first.
    pub hold: &'a Hold,
    /// While no proxy serves, let its new connections go direct, unless it is strict.
    pub fallback: bool,
    /// Turn its DNS queries over UDP to the proxy while one serves. Takes a proxy that has [`PodListeners::dns`]; without them they
    /// are left alone.
    pub dns: bool,
    /// Drop on its links what arrives past the tunnel, as [`Kernel::set_strictness`] says.
    pub guard: bool,
}

/// As the programs know it: a flag, and ports.
pub(super) fn told(hold: &Hold) -> (u32, [u16; culvert_abi::Pod::HELD_PORTS]) {
    use culvert_abi::Pod;
    const { assert!(Hold::PORTS == Pod::HELD_PORTS) };
    let mut ports = [0; Pod::HELD_PORTS];
    match hold {
        Hold::None => (0, ports),
        Hold::All => (Pod::HOLD_ALL, ports),
        Hold::Ports(named) => {
            for (slot, port) in ports.iter_mut().zip(named) {
                *slot = *port;
            }
            (Pod::HOLD_SOME, ports)
        }
    }
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
    /// Bound to `[::]:15004`, dual stack, and answering nothing; where the pod holds connections.
    pub hold: Option<BorrowedFd<'a>>,
    /// UDP, bound to `[::]:15053` and the ports that follow, dual stack; where its DNS queries are captured.
    pub dns: Option<[BorrowedFd<'a>; DNS_SLOTS as usize]>,
}
