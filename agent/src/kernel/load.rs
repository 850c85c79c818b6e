//! The object file that the agent carries, brought into the kernel: maps made or found, programs verified.

use super::{
    KernelError,
    config::{self, KernelConfig, MapSizes},
    features::Features,
    hooks,
    pins::Pin,
};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned, programs};
use culvert_abi::{
    Dropped, Endpoint, Flow, Guard, GuardedPort, Leg, Noted, Receiver, Resolver, SameNodeEnded, SameNodeNumber,
    SameNodePair, SameNodePeer, SameNodeUse, Serving, layout, mix,
};
use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

pub(super) use super::features::{
    CONNECT4, CONNECT6, GETPEERNAME4, GETPEERNAME6, GETSOCKOPT, GUARD, LEG, RECVMSG4, RECVMSG6, SENDMSG4, SENDMSG6,
    SETSOCKOPT, SK_LOOKUP, SOCK_OPS,
};

static OBJECT: &[u8] = include_bytes_aligned!(env!("CULVERT_EBPF_OBJECT"));

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Pinned for one version and one choice of sizes.
const PINNED: [&str; 11] = [
    "ADDRESSES",
    "CONFIG",
    "COUNTS",
    "EXCLUDED",
    "EXCLUDED_PORTS",
    "FLOWS",
    "GUARDED_LINKS",
    "LISTENERS",
    "OPEN_FLOWS",
    "PODS",
    "USAGE",
];

/// Pinned beside the versions' folders: they outlive a change of the other maps. What is new from one version to the next must have
/// its own file, so its name has the size of a value, and a number for what the size does not show.
fn lasting(bpffs: &Path) -> [(&'static str, PathBuf); 12] {
    let same_node = |name: &str, size: usize| bpffs.join(format!("{name}-{}-{size}", SameNodePair::FORMAT));
    let guard = |name: &str, size: usize| bpffs.join(format!("{name}-{}-{size}", Guard::FORMAT));
    [
        (
            "SOCKETS",
            bpffs.join(format!("sockets-{}-{}", culvert_abi::VERSION, size_of::<Noted>())),
        ),
        ("GUARDS", guard("guards", size_of::<Guard>())),
        ("GUARDED_PORTS", guard("guarded-ports", size_of::<GuardedPort>())),
        ("DROPPED", guard("dropped", size_of::<Dropped>())),
        (
            "RESOLVERS",
            bpffs.join(format!(
                "resolvers-{}-{}",
                Resolver::FORMAT,
                size_of::<(Resolver, Endpoint)>()
            )),
        ),
        (
            "SAME_NODE",
            same_node("same-node", size_of::<(SameNodePair, SameNodePeer)>()),
        ),
        (
            "SAME_NODE_SERVICES",
            same_node("same-node-services", size_of::<(SameNodePair, Endpoint)>()),
        ),
        (
            "SAME_NODE_FLOWS",
            same_node("same-node-flows", size_of::<(Flow, u64)>()),
        ),
        (
            "SAME_NODE_USE",
            same_node("same-node-use", size_of::<(SameNodePair, SameNodeUse)>()),
        ),
        (
            "SAME_NODE_ENDED",
            same_node("same-node-ended", size_of::<SameNodeEnded>()),
        ),
        (
            "SAME_NODE_NUMBERS",
            same_node("same-node-numbers", SameNodeNumber::COUNT as usize),
        ),
        ("SERVING", serving(bpffs)),
    ]
}

/// As [`lasting`], where local legs are carried: connections that are carried need these maps to their end, whatever becomes of the
/// agent.
fn lasting_legs(bpffs: &Path) -> [(&'static str, PathBuf); 4] {
    let leg = |name: &str| bpffs.join(format!("{name}-{}-{}", Leg::FORMAT, size_of::<(Leg, Receiver)>()));
    [
        ("SENDERS", leg("senders")),
        ("RECEIVERS", leg("receivers")),
        ("WAITING", leg("waiting")),
        ("LEGS", leg("legs")),
    ]
}

/// Where the map is pinned that proxies write.
pub(super) fn serving(bpffs: &Path) -> PathBuf {
    bpffs.join(format!("serving-{}-{}", Serving::FORMAT, size_of::<Serving>()))
}

/// In an order in which the ones that tell most about a kernel come first.
const PROGRAMS: [&str; 14] = [
    CONNECT4,
    SOCK_OPS,
    CONNECT6,
    GETPEERNAME4,
    GETPEERNAME6,
    RECVMSG4,
    RECVMSG6,
    SENDMSG4,
    SENDMSG6,
    GETSOCKOPT,
    SETSOCKOPT,
    SK_LOOKUP,
    GUARD,
    LEG,
];

/// The folder of one version's pins below the agent's folder.
///
/// Programs of another version, or maps of another size, cannot share maps with these. They have a folder of their own,
/// keep capturing until every pod is enrolled anew, and go with [`super::Kernel::remove_other_versions`].
pub(super) fn folder(bpffs: &Path, sizes: &MapSizes) -> PathBuf {
    let MapSizes {
        pods,
        addresses,
        flows,
        // Of no map.
        flows_per_pod: _,
        exclusions,
    } = *sizes;
    let print = [pods, addresses, flows, exclusions].into_iter().fold(layout(), mix);
    bpffs.join(format!("{VERSION_FOLDER}{print:08x}"))
}

/// Below a version's folder.
pub(super) const MAPS_FOLDER: &str = "maps";

/// How the names of folders of pins start.
pub(super) const VERSION_FOLDER: &str = "v-";

/// What [`load`] has loaded.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// Why local legs cannot be carried, although that was asked for.
    pub(super) no_legs: Option<String>,
    pub(super) pins: Vec<Pin>,
}

/// Makes the maps, or opens those that are pinned, and loads the programs. Nothing is attached yet.
pub(super) fn load(config: &KernelConfig, folder: &Path) -> Result<Loaded, KernelError> {
    let maps = folder.join(MAPS_FOLDER);
    let making = |source| KernelError::system(format!("make {}", maps.display()), source);
    fs::create_dir_all(&maps).map_err(making)?;
    let kind = rustix::fs::statfs(&maps)
        .map_err(|errno| making(io::Error::from(errno)))?
        .f_type;
    if kind as u64 != BPF_FS_MAGIC {
        // Nothing was pinned: the folders are ours and empty.
        let _ = fs::remove_dir(&maps).and_then(|()| fs::remove_dir(folder));
        return Err(KernelError::FileSystem {
            path: config.bpffs.clone(),
            expected: "bpf",
        });
    }
    let (mut features, mut no_legs) = Features::of(config);
    loop {
        let mut ebpf = parse(config, Some(&maps), features, NO_POD)?;
        match load_programs(&mut ebpf) {
            Ok(()) => {
                let pins = pins(&config.bpffs, folder, features.legs.is_some())?;
                return Ok(Loaded { ebpf, no_legs, pins });
            }
            Err((program, error)) => {
                let without = features.without(program).ok_or(error)?;
                if features.legs.is_some() && without.legs.is_none() {
                    no_legs = Some(format!("the kernel refuses the program {program}"));
                }
                features = without;
            }
        }
    }
}

/// Loads the programs with maps of their own and lets them go again: whether this kernel takes them. Nothing is pinned or attached.
pub(super) fn verify(config: &KernelConfig) -> Result<(), KernelError> {
    let (mut features, _) = Features::of(config);
    loop {
        let mut ebpf = parse(config, None, features, NO_POD)?;
        match load_programs(&mut ebpf) {
            Ok(()) => return Ok(()),
            Err((program, error)) => features = features.without(program).ok_or(error)?,
        }
    }
}

/// Another copy of the guard, which takes every packet for one to this pod: for interfaces inside of it. It shares its maps with what
/// [`load`] has loaded before.
pub(super) fn guard_inside(config: &KernelConfig, folder: &Path, cookie: u64) -> Result<Ebpf, KernelError> {
    let mut ebpf = parse(config, Some(&folder.join(MAPS_FOLDER)), Features::default(), cookie)?;
    load_program(&mut ebpf, GUARD)?;
    Ok(ebpf)
}

/// Whether pins can be made in a folder: it, or the folder above it that is there, is on a bpffs.
pub(super) fn check_pins(folder: &Path) -> Result<(), KernelError> {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    let kind = rustix::fs::statfs(there)
        .map_err(|errno| KernelError::system(format!("look at {}", there.display()), io::Error::from(errno)))?
        .f_type;
    match kind as u64 == BPF_FS_MAGIC {
        true => Ok(()),
        false => Err(KernelError::FileSystem {
            path: folder.to_owned(),
            expected: "bpf",
        }),
    }
}

/// What the guard is told that finds its pod by the interface.
const NO_POD: u64 = 0;

/// With `maps`, maps are found or pinned in that folder.
fn parse(
    config: &KernelConfig,
    maps: Option<&Path>,
    features: Features,
    guarded_pod: u64,
) -> Result<Ebpf, KernelError> {
    let sizes = &config.sizes;
    let mptcp = u8::from(features.mptcp_helper);
    let cgroup = u8::from(features.cgroup_in_sock_ops);
    let set_retval = u8::from(features.set_retval);
    let has_legs = u8::from(features.legs.is_some());
    let offsets = features.legs.unwrap_or_default();
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("PODS", sizes.pods)
        .map_max_entries("ADDRESSES", sizes.addresses)
        .map_max_entries(
            "LISTENERS",
            sizes.addresses.saturating_mul(config::LISTENERS_PER_ADDRESS),
        )
        .map_max_entries("FLOWS", sizes.flows)
        // One more: see `maps::exclusion_keys`.
        .map_max_entries("EXCLUDED", sizes.exclusions.saturating_add(1))
        .map_max_entries("USAGE", sizes.pods.saturating_mul(config::USAGE_PER_POD))
        .map_max_entries("GUARDED_LINKS", sizes.guarded_links())
        .override_global("GUARDED_POD", &guarded_pod, true)
        .override_global("HAS_MPTCP_HELPER", &mptcp, true)
        .override_global("HAS_CGROUP_IN_SOCK_OPS", &cgroup, true)
        .override_global("HAS_SET_RETVAL", &set_retval, true)
        .override_global("HAS_LEGS", &has_legs, true)
        .override_global("SOCKET_OFFSETS", &offsets, true);
    if features.legs.is_some() {
        loader
            .map_max_entries("SENDERS", Leg::ENTRIES)
            .map_max_entries("RECEIVERS", Leg::ENTRIES)
            .map_max_entries("WAITING", Receiver::ENTRIES);
    }
    if let Some(maps) = maps {
        for name in PINNED {
            loader.map_pin_path(name, maps.join(name));
        }
        for (name, path) in lasting(&config.bpffs) {
            loader.map_pin_path(name, path);
        }
        let legs = features.legs.is_some().then(|| lasting_legs(&config.bpffs));
        for (name, path) in legs.into_iter().flatten() {
            loader.map_pin_path(name, path);
        }
    }
    loader
        .load(OBJECT)
        .map_err(|error| KernelError::load("load the kernel programs' maps".to_owned(), error))
}

/// The maps that are pinned, now that they are loaded.
fn pins(bpffs: &Path, folder: &Path, legs: bool) -> Result<Vec<Pin>, KernelError> {
    let maps = folder.join(MAPS_FOLDER);
    let lasting = lasting(bpffs).map(|(_, path)| path);
    let legs = legs.then(|| lasting_legs(bpffs).map(|(_, path)| path));
    let paths = PINNED.iter().map(|name| maps.join(name)).chain(lasting);
    let paths = paths.chain(legs.into_iter().flatten());
    let missing = |path: &Path| KernelError::Missing(format!("map pinned at {}", path.display()));
    paths
        .map(|path| Pin::open(path.clone())?.ok_or_else(|| missing(&path)))
        .collect()
}

fn load_programs(ebpf: &mut Ebpf) -> Result<(), (&'static str, KernelError)> {
    for name in PROGRAMS {
        load_program(ebpf, name).map_err(|error| (name, error))?;
    }
    Ok(())
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), KernelError> {
    use programs::Program;
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| KernelError::Missing(name.to_owned()))?;
    let loaded = match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSockopt(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        Program::SkMsg(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => return Err(KernelError::Missing(name.to_owned())),
    };
    let refused = |error| {
        let action = format!(
            "load the program {name} (it needs {}; this is {})",
            needs(name),
            hooks::release()
        );
        KernelError::load(action, error)
    };
    loaded.map_err(refused)
}

/// What a program needs, and since when Linux has it.
fn needs(program: &str) -> &'static str {
    match program {
        CONNECT4 | CONNECT6 => "cgroup/connect with bpf_get_netns_cookie, since Linux 5.7",
        GETPEERNAME4 | GETPEERNAME6 => "cgroup/getpeername, since Linux 5.8",
        GETSOCKOPT | SETSOCKOPT => "cgroup/getsockopt and setsockopt, since Linux 5.3",
        GUARD => "a classifier of tc with bpf_skb_load_bytes_relative, since Linux 4.18",
        LEG => "sk_msg with bpf_get_netns_cookie, since Linux 5.15",
        RECVMSG4 | RECVMSG6 => "cgroup/recvmsg, since Linux 5.2",
        SENDMSG4 | SENDMSG6 => "cgroup/sendmsg, since Linux 4.18",
        SK_LOOKUP => "sk_lookup, since Linux 5.9",
        SOCK_OPS => "sock_ops with bpf_get_netns_cookie, since Linux 5.15",
        _ => "what this kernel may lack",
    }
}

/// A loaded program.
pub(super) fn program<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, KernelError> {
    let program = ebpf
        .program(name)
        .ok_or_else(|| KernelError::Missing(name.to_owned()))?;
    let fd = program
        .fd()
        .map_err(|error| KernelError::load(format!("find the program {name}"), error))?;
    Ok(fd.as_fd())
}
