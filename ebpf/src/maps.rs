//! The maps. The agent sizes them when it loads the programs (the numbers here are placeholders), pins them, and fills
//! all but `FLOWS`, `OPEN_FLOWS`, `RESOLVERS`, `SAME_NODE_ENDED`, `SAME_NODE_FLOWS` and `SOCKETS`; of `USAGE` and `SAME_NODE_USE` it makes the entries.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SockHash},
};
use culvert_abi::{
    Address, COUNTERS, Config, Dropped, Endpoint, Flow, Guard, GuardedLink, GuardedPort, Leg, Listener, Noted, Owner,
    Pod, Receiver, Resolver, SameNodeEnded, SameNodeNumber, SameNodePair, SameNodePeer, SameNodeUse, Serving,
    SocketOffsets, Usage,
};

/// One element: who the proxies are.
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

/// Enrolled pods by the cookie of their network namespace.
#[map]
pub static PODS: HashMap<u64, Pod> = HashMap::with_max_entries(1, 0);

/// Addresses of enrolled pods. `sk_lookup` programs are not allowed to ask for the namespace's cookie.
#[map]
pub static ADDRESSES: HashMap<Address, Owner> = HashMap::with_max_entries(1, 0);

/// The proxy's listening sockets inside pods. The kernel removes one that is closed.
#[map]
pub static LISTENERS: SockHash<Listener> = SockHash::with_max_entries(1, 0);

/// Destinations that are never captured (1); and, where such a range has IPv4 within it by the way in which addresses are
/// held and not by its meaning, that IPv4 is captured (0).
#[map]
pub static EXCLUDED: LpmTrie<Address, u32> = LpmTrie::with_max_entries(1, 0);

/// Ports that are never captured: a bit for each, 64 in an element.
#[map]
pub static EXCLUDED_PORTS: Array<u64> = Array::with_max_entries(1024, 0);

/// What opening sockets have to tell the sockets that accept them.
#[map]
pub static FLOWS: HashMap<Flow, Noted> = HashMap::with_max_entries(1, 0);

/// One element: how many entries `FLOWS` has. The kernel offers no way to ask.
#[map]
pub static OPEN_FLOWS: Array<u64> = Array::with_max_entries(1, 0);

/// What each enrolled pod has under way, by the cookie of its network namespace.
#[map]
pub static USAGE: HashMap<u64, Usage> = HashMap::with_max_entries(1, 0);

/// The node's ends of pods' links, by index.
#[map]
pub static GUARDED_LINKS: HashMap<u32, GuardedLink> = HashMap::with_max_entries(1, 0);

/// How the guarded pods are guarded, by the cookie of their network namespace. This map and the next two are of a fixed size, because
/// they outlive a change of the others'; memory is taken for what they hold alone.
#[map]
pub static GUARDS: HashMap<u64, Guard> = HashMap::with_max_entries(Guard::PODS, BPF_F_NO_PREALLOC);

/// Exceptions from the former.
#[map]
pub static GUARDED_PORTS: HashMap<GuardedPort, u32> =
    HashMap::with_max_entries(GuardedPort::ENTRIES, BPF_F_NO_PREALLOC);

/// What the guards have dropped, by the cookie of the pod's network namespace.
#[map]
pub static DROPPED: HashMap<u64, Dropped> = HashMap::with_max_entries(Guard::PODS, BPF_F_NO_PREALLOC);

/// Which resolver has which slot of a pod; entries are made by the programs. Of a fixed size for the same reason.
#[map]
pub static RESOLVERS: HashMap<Resolver, Endpoint> = HashMap::with_max_entries(Resolver::ENTRIES, BPF_F_NO_PREALLOC);

/// One element: until when a proxy is taken to serve. Proxies write it through memory that they share with it.
#[map]
pub static SERVING: Array<Serving> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Pairs of pods whose connections go past the proxy. This map and the next five are of a fixed size, because they outlive a change of
/// the others'; memory is taken for what they hold alone.
#[map]
pub static SAME_NODE: HashMap<SameNodePair, SameNodePeer> =
    HashMap::with_max_entries(SameNodePair::ENTRIES, BPF_F_NO_PREALLOC);

/// Addresses of services by which clients reach such pairs: the destination of one. Without that pair an entry means nothing.
#[map]
pub static SAME_NODE_SERVICES: HashMap<SameNodePair, Endpoint> =
    HashMap::with_max_entries(SameNodePair::ENTRIES, BPF_F_NO_PREALLOC);

/// Connections that do, from the SYN to the end, as their clients' sockets see them; by the programs. The value is when the SYN went
/// out, in nanoseconds since the machine started.
#[map]
pub static SAME_NODE_FLOWS: HashMap<Flow, u64> = HashMap::with_max_entries(SameNodeNumber::ROOM, BPF_F_NO_PREALLOC);

/// What has gone by these pairs.
#[map]
pub static SAME_NODE_USE: HashMap<SameNodePair, SameNodeUse> =
    HashMap::with_max_entries(2 * SameNodePair::ENTRIES, BPF_F_NO_PREALLOC);

/// Those that have ended, for the agent. It looks from time to time: nobody is woken.
#[map]
pub static SAME_NODE_ENDED: RingBuf = RingBuf::with_byte_size(SameNodeEnded::RING, 0);

/// By `culvert_abi::SameNodeNumber`.
#[map]
pub static SAME_NODE_NUMBERS: Array<u64> = Array::with_max_entries(SameNodeNumber::COUNT, 0);

/// What sockets remember; freed with them.
#[btf_map]
pub static SOCKETS: SkStorage<Noted> = SkStorage::new();

/// Applications' sockets of legs that the kernel may carry, by their cookies: the program `culvert_leg` looks at what they send. This
/// map and the next two are made as large as they need only where the agent is told so.
#[map]
pub static SENDERS: SockHash<u64> = SockHash::with_max_entries(1, 0);

/// The proxy's sockets of such legs, by their cookies. A map of its own, because nothing is to look at what these send.
#[map]
pub static RECEIVERS: SockHash<u64> = SockHash::with_max_entries(1, 0);

/// The proxy's sockets that are to be joined with an application's, by the connection as that one sees it.
#[map]
pub static WAITING: LruHashMap<Flow, Receiver> = LruHashMap::with_max_entries(1, 0);

/// What applications' sockets know of their legs; freed with them.
#[btf_map]
pub static LEGS: SkStorage<Leg> = SkStorage::new();

/// By `culvert_abi::Counter`.
#[map]
pub static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS.len() as u32, 0);

/// One element: when a denial of no known pod was last logged, in nanoseconds since the machine started.
#[map]
pub static LAST_LOG: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Whether this kernel has `bpf_skc_to_mptcp_sock` (since 5.19). The verifier drops the call when this is 0.
#[unsafe(no_mangle)]
pub static HAS_MPTCP_HELPER: Global<u8> = Global::new(1);

/// Whether `sock_ops` programs may ask for the current cgroup here. Without it, proxies that listen by themselves are
/// not noticed.
#[unsafe(no_mangle)]
pub static HAS_CGROUP_IN_SOCK_OPS: Global<u8> = Global::new(1);

/// Whether programs may choose with which error a system call fails (since 5.18).
#[unsafe(no_mangle)]
pub static HAS_SET_RETVAL: Global<u8> = Global::new(1);

/// The cookie of the pod whose guard this copy of the program is, where it is attached inside the pod: interfaces there have the same
/// indices as in any other pod. Zero where the interface tells.
#[unsafe(no_mangle)]
pub static GUARDED_POD: Global<u64> = Global::new(0);

/// Whether local legs are carried at all. The verifier drops all about them when this is 0.
#[unsafe(no_mangle)]
pub static HAS_LEGS: Global<u8> = Global::new(0);

/// Where this kernel has what has to be looked at for that.
#[unsafe(no_mangle)]
pub static SOCKET_OFFSETS: Global<SocketOffsets> = Global::new(SocketOffsets {
    unread: 0,
    sequence: 0,
    above: 0,
});
