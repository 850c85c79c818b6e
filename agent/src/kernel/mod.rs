//! The kernel side of the node: loads or adopts the programs, and tells them which pods take part.
//!
//! [`Kernel`] is the only way in. Everything that it sets up is pinned below one bpffs folder, so it outlives this
//! process; a later [`Kernel::open`] finds it, puts its own programs in the place of the old ones without a gap, and
//! carries on. Nothing here speaks to pods or proxies: network namespaces and listening sockets come from outside.
//!
//! `load` brings the object file into the kernel (with what `features` finds that it has), `maps` and `guard_maps` give its maps types,
//! `links` attaches (`names` are the names of what is attached) and `pins` pins, `pods` is what happens to a pod (`flags`: what it has meanwhile), `proxies` (each is `admitted`) whose cgroups are exempt, `guard` (with
//! `clsact`, the older way, and `guards`, what is known of them) what happens to its links, `serving` whether a proxy serves, `same_node`
//! which connections go past it,
//! `surroundings` what else is in its network namespace, `versions` is what programs of another layout left, `hooks` names what the
//! kernel lacks, `audit` compares what should be with what is, `captured` answers whether a pod and its connections are carried,
//! `cgroup` and `sys` are what they stand on, `log` listens to the programs, `removal` takes all off a node without loading anything;
//! `carry` (with `legs`, what is known of them) lets the kernel carry what applications send to the proxy, where it stands the trial
//! of `legs_trial` (`offsets` finds in the kernel's `btf` what the program looks at);
//! [`sock_diag`] asks for connections, which takes no program.

mod admitted;
mod audit;
mod btf;
mod captured;
mod carry;
mod cgroup;
mod clsact;
mod config;
mod error;
mod features;
mod flags;
mod guard;
mod guard_maps;
mod guards;
mod hooks;
mod legs;
mod legs_trial;
mod links;
mod load;
mod log;
mod maps;
mod names;
mod offsets;
mod pins;
mod pods;
mod proxies;
mod removal;
mod same_node;
mod same_node_entries;
mod same_node_maps;
mod same_node_totals;
mod serving;
pub mod sock_diag;
mod surroundings;
mod sys;
mod versions;

pub use audit::{Audit, Found, Kind};
pub use config::{Exclusions, GuardHook, KernelConfig, LocalLegs, MapSizes, NODE_NETWORK, PodCapture, PodListeners};
pub use error::KernelError;
pub use guards::{GuardStatus, NewlyDropped, Strictness};
pub use legs::LegsStatus;
pub use pods::PodUsage;
pub use removal::{remove_filters, remove_pins};
pub use same_node::SameNodeOpen;
pub(crate) use same_node::ends;
pub use same_node_entries::SameNodeEntries;
pub use same_node_totals::Pods as SameNodePods;

use self::{
    admitted::Admitted,
    cgroup::Cgroup,
    guards::Guards,
    legs::Legs,
    links::Links,
    log::PodNames,
    maps::Maps,
    names::Name,
    pins::Pin,
    same_node_maps::SameNode,
    sys::{Hook, Target},
};
use aya::Ebpf;
use culvert_abi::{Address, Pod};
use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::AsFd,
    path::PathBuf,
};

/// What is attached to the whole node. What capture relies on comes first, capture last.
const NODE_HOOKS: [(&str, Hook); 9] = [
    (load::SOCK_OPS, Hook::SockOps),
    (load::GETPEERNAME4, Hook::Getpeername4),
    (load::GETPEERNAME6, Hook::Getpeername6),
    (load::RECVMSG4, Hook::Recvmsg4),
    (load::RECVMSG6, Hook::Recvmsg6),
    (load::SENDMSG4, Hook::Sendmsg4),
    (load::SENDMSG6, Hook::Sendmsg6),
    (load::CONNECT4, Hook::Connect4),
    (load::CONNECT6, Hook::Connect6),
];

/// The loaded and attached programs with their maps.
///
/// Dropping it detaches nothing: pods stay captured, as they must when this process dies.
pub struct Kernel {
    config: KernelConfig,
    /// This version's pins.
    folder: PathBuf,
    ebpf: Ebpf,
    maps: Maps,
    guards: Guards,
    legs: Legs,
    legs_status: LegsStatus,
    same_node: SameNode,
    /// The maps again, with their pins.
    pins: Vec<Pin>,
    links: Links,
    root: Cgroup,
    /// The cgroups that socket option programs are attached to, and whether `setsockopt` is among them.
    sockopts: HashMap<u64, (Cgroup, bool)>,
    /// In the order in which they were admitted.
    proxies: Vec<Admitted>,
    /// What the map of addresses holds, by pod.
    addresses: HashMap<u64, Vec<Address>>,
    /// What this process has told the programs of pods, by cookie.
    told: HashMap<u64, Told>,
    names: PodNames,
    logging: bool,
}

/// What the programs have been told of a pod.
struct Told {
    entry: Pod,
    /// They got its listeners from this process.
    listeners: bool,
}

impl Kernel {
    /// Loads the programs and attaches them; where an earlier process left its own, puts these in their place.
    ///
    /// # Errors
    /// Not root, no bpffs, a cgroup that is absent or not below `cgroup`, a kernel that lacks a hook, sizes of zero.
    pub fn open(config: &KernelConfig) -> Result<Self, KernelError> {
        let MapSizes {
            pods,
            addresses,
            flows,
            flows_per_pod,
            exclusions,
        } = config.sizes;
        if [pods, addresses, flows, flows_per_pod, exclusions].contains(&0) {
            return Err(KernelError::Invalid(
                "every map needs room for at least one entry".to_owned(),
            ));
        }
        let root = config.cgroup.as_deref().map_or_else(Cgroup::mounted, Cgroup::open)?;
        let folder = load::folder(&config.bpffs, &config.sizes);
        let load::Loaded {
            mut ebpf,
            no_legs,
            pins,
        } = load::load(config, &folder)?;
        let maps = Maps::take(&mut ebpf, config.sizes)?;
        let guards = Guards::take(&mut ebpf, config)?;
        let legs = Legs::take(&mut ebpf)?;
        let same_node = SameNode::take(&mut ebpf)?;
        let links = Links::open(folder.join("links"))?;
        let mut kernel = Self {
            config: config.clone(),
            folder,
            ebpf,
            maps,
            guards,
            legs,
            legs_status: no_legs.map_or(LegsStatus::Tcp, LegsStatus::Refused),
            same_node,
            pins,
            links,
            root,
            sockopts: HashMap::new(),
            proxies: Vec::new(),
            addresses: HashMap::new(),
            told: HashMap::new(),
            names: PodNames::default(),
            logging: false,
        };
        for (address, cookie) in kernel.maps.owned()? {
            kernel.addresses.entry(cookie).or_default().push(address);
        }
        kernel.maps.set_exclusions(&config.exclusions)?;
        match &config.proxy_cgroup {
            Some(cgroup) => kernel.set_proxies(std::slice::from_ref(cgroup))?,
            None => kernel.remember_proxies()?,
        }
        kernel.maps.set_limits()?;
        kernel.attach_own()?;
        let adopted = kernel.attach_node()?;
        kernel.adopt_pods()?;
        kernel.carry_legs();
        tracing::info!(adopted, pods = kernel.addresses.len(), pins = %kernel.folder.display(), "kernel programs attached");
        Ok(kernel)
    }

    /// Whether [`Kernel::open`] would work here, without changing anything: the kernel takes the programs, and the folders are what
    /// they must be.
    ///
    /// # Errors
    /// As for [`Kernel::open`].
    pub fn verify(config: &KernelConfig) -> Result<(), KernelError> {
        config.cgroup.as_deref().map_or_else(Cgroup::mounted, Cgroup::open)?;
        load::check_pins(&config.bpffs)?;
        load::verify(config)
    }

    /// Forgets all pods but those of `keep`, and those whose namespace is gone in any case; returns the cookies that went.
    ///
    /// # Errors
    /// A failing system call.
    pub fn collect(&mut self, keep: &HashSet<u64>) -> Result<Vec<u64>, KernelError> {
        let attached = self.links.pods()?;
        let dead = attached.iter().filter(|(_, alive)| !alive).map(|(cookie, _)| *cookie);
        let left = attached.iter().map(|(cookie, _)| *cookie).chain(self.enrolled()?);
        let gone: HashSet<u64> = left.filter(|cookie| !keep.contains(cookie)).chain(dead).collect();
        for cookie in &gone {
            self.withdraw(*cookie)?;
        }
        // What is known of guards is shared with other versions, and theirs as long as they capture the pod.
        for cookie in self.guards.known()? {
            if !keep.contains(&cookie) && !self.is_captured_by_others(cookie)? {
                self.unguard(cookie)?;
            }
        }
        self.links.collect_sockopts(|id| self.sockopts.contains_key(&id))?;
        Ok(gone.into_iter().collect())
    }

    /// How many other versions of the programs are in force: left by an agent with another layout of the maps, or other sizes.
    ///
    /// # Errors
    /// A failing system call.
    pub fn other_versions(&self) -> Result<usize, KernelError> {
        Ok(versions::others(&self.config.bpffs, &self.folder)?.len())
    }

    /// Ends what programs of other versions do, and removes them. A pod that only they capture is in plaintext from then on:
    /// call it when this version captures each pod of the node.
    ///
    /// # Errors
    /// A failing system call.
    pub fn remove_other_versions(&mut self) -> Result<(), KernelError> {
        for other in versions::others(&self.config.bpffs, &self.folder)? {
            let ebpf = &self.ebpf;
            other.hand_over(&mut self.links, |name| {
                let program = match name {
                    Name::Setsockopt(_) => load::SETSOCKOPT,
                    _ => load::GETSOCKOPT,
                };
                load::program(ebpf, program)
            })?;
            other.remove()?;
        }
        Ok(())
    }

    /// Ends capture of every pod at once, and removes programs, maps and pins of every version: nothing of Culvert is left in
    /// the kernel. Open connections go on, but show the application where they really lead. Nothing else may be asked afterwards.
    ///
    /// # Errors
    /// A failing system call.
    pub fn remove(&mut self) -> Result<(), KernelError> {
        self.links.detach_all()?;
        self.remove_filters()?;
        // Before their map goes, so that what is sent from now on is behind what was.
        self.legs.end()?;
        self.remove_other_versions()?;
        let base = &self.config.bpffs;
        fs::remove_dir_all(base)
            .map_err(|source| KernelError::system(format!("remove the pins in {}", base.display()), source))
    }

    /// What the programs counted since they were first loaded: hook, outcome, count.
    ///
    /// # Errors
    /// A failing system call.
    pub fn counters(&self) -> Result<Vec<(&'static str, &'static str, u64)>, KernelError> {
        self.maps.counters()
    }

    /// The programs that capture on the whole node, and whether each is attached.
    pub fn attached(&self) -> Vec<(&'static str, bool)> {
        let mut programs = NODE_HOOKS.map(|(name, _)| name);
        programs.sort_unstable();
        self.links.node(&programs)
    }

    /// How full each map is: name, entries, size.
    ///
    /// # Errors
    /// A failing system call.
    pub fn occupancy(&self) -> Result<Vec<(&'static str, u64, u64)>, KernelError> {
        self.maps.occupancy()
    }

    /// Sends what the programs log (denials, at most one line a second and pod, with the pod's name) to `tracing`, under the target
    /// `kernel`. Needs a tokio runtime with I/O; ends with it. A second call does nothing.
    ///
    /// # Errors
    /// No log in the programs, or no runtime.
    pub fn spawn_log(&mut self) -> Result<(), KernelError> {
        if !std::mem::replace(&mut self.logging, true) {
            log::spawn(&mut self.ebpf, self.names.clone())?;
        }
        Ok(())
    }

    /// True when an earlier process's programs were there.
    fn attach_node(&mut self) -> Result<bool, KernelError> {
        let mut adopted = false;
        for (name, hook) in NODE_HOOKS {
            adopted |= self.attach_to_node(name, hook)?;
        }
        Ok(adopted)
    }

    fn attach_to_node(&mut self, name: &'static str, hook: Hook) -> Result<bool, KernelError> {
        let program = load::program(&self.ebpf, name)?;
        let (root, target) = (self.root.file.as_fd(), Target::Cgroup(self.root.id));
        self.links.attach(Name::Node(name), program, root, target, hook)
    }
}

/// The agent may move it between threads.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Kernel>();
};
