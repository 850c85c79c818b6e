//! The maps with their types.

use super::{
    KernelError,
    config::{Exclusions, LISTENERS_PER_ADDRESS, MapSizes},
};
use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, SockHash, lpm_trie::Key},
};
use culvert_abi::{Address, COUNTERS, Config, DNS_SLOTS, Endpoint, Listener, Owner, Pod, Resolver, Serving, Usage};
use ipnet::IpNet;
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::BorrowedFd,
};

/// Handles to the maps; those of the connections themselves belong to the programs.
pub(super) struct Maps {
    config: Array<MapData, Config>,
    pods: HashMap<MapData, u64, Pod>,
    addresses: HashMap<MapData, Address, Owner>,
    listeners: SockHash<MapData, Listener>,
    excluded: LpmTrie<MapData, Address, u32>,
    excluded_ports: Array<MapData, u64>,
    open_flows: Array<MapData, u64>,
    counts: PerCpuArray<MapData, u64>,
    usage: HashMap<MapData, u64, Usage>,
    resolvers: HashMap<MapData, Resolver, Endpoint>,
    serving: Array<MapData, Serving>,
    sizes: MapSizes,
    /// What `config` should hold; none before the first change.
    wished: Option<Config>,
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf, sizes: MapSizes) -> Result<Self, KernelError> {
        Ok(Self {
            config: take(ebpf, "CONFIG")?,
            pods: take(ebpf, "PODS")?,
            addresses: take(ebpf, "ADDRESSES")?,
            listeners: take(ebpf, "LISTENERS")?,
            excluded: take(ebpf, "EXCLUDED")?,
            excluded_ports: take(ebpf, "EXCLUDED_PORTS")?,
            open_flows: take(ebpf, "OPEN_FLOWS")?,
            counts: take(ebpf, "COUNTS")?,
            usage: take(ebpf, "USAGE")?,
            resolvers: take(ebpf, "RESOLVERS")?,
            serving: take(ebpf, "SERVING")?,
            sizes,
            wished: None,
        })
    }

    pub(super) fn set_proxies(&mut self, ids: &[u64]) -> Result<(), KernelError> {
        let mut proxies = [0; Config::PROXIES];
        for (slot, id) in proxies.iter_mut().zip(ids) {
            *slot = *id;
        }
        let before = self.config()?;
        self.set_config(Config { proxies, ..before })
    }

    /// Tells the programs how many flows there may be.
    pub(super) fn set_limits(&mut self) -> Result<(), KernelError> {
        let before = self.config()?;
        self.set_config(Config {
            flows: self.sizes.flows.into(),
            share: self.sizes.flows_per_pod.into(),
            ..before
        })
    }

    /// Sets the configuration again if it is not what it should be. True when that was needed.
    pub(super) fn restore_config(&mut self) -> Result<bool, KernelError> {
        let Some(wished) = self.wished else { return Ok(false) };
        let is_different = self.config()? != wished;
        if is_different {
            self.set_config(wished)?;
        }
        Ok(is_different)
    }

    /// The identifiers that are set.
    pub(super) fn proxies(&self) -> Result<Vec<u64>, KernelError> {
        Ok(self.config()?.proxies.into_iter().filter(|id| *id != 0).collect())
    }

    /// The node's own network namespace, and the cgroup of its pods.
    pub(super) fn set_node(&mut self, node: u64, pods: u64) -> Result<(), KernelError> {
        let before = self.config()?;
        self.set_config(Config { node, pods, ..before })
    }

    fn config(&self) -> Result<Config, KernelError> {
        self.config.get(&0, 0).map_err(|error| failed("CONFIG", error))
    }

    fn set_config(&mut self, config: Config) -> Result<(), KernelError> {
        self.config.set(0, config, 0).map_err(|error| failed("CONFIG", error))?;
        self.wished = Some(config);
        Ok(())
    }

    /// Until when a proxy is taken to serve.
    pub(super) fn serving(&self) -> Result<Serving, KernelError> {
        self.serving.get(&0, 0).map_err(|error| failed("SERVING", error))
    }

    pub(super) fn set_serving(&mut self, serving: Serving) -> Result<(), KernelError> {
        let set = self.serving.set(0, serving, 0);
        set.map_err(|error| failed("SERVING", error))
    }

    /// Makes the exclusions exactly these; those that stay are never absent.
    pub(super) fn set_exclusions(&mut self, exclusions: &Exclusions) -> Result<(), KernelError> {
        let wanted = exclusion_keys(&exclusions.cidrs);
        if wanted.iter().filter(|(_, value)| *value == EXCLUDED).count() > self.sizes.exclusions as usize {
            return Err(KernelError::Full {
                map: "EXCLUDED",
                size: self.sizes.exclusions,
            });
        }
        for (key, value) in &wanted {
            let full = KernelError::Full {
                map: "EXCLUDED",
                size: self.sizes.exclusions,
            };
            self.excluded
                .insert(key, value, 0)
                .map_err(|error| no_room(error, full))?;
        }
        let is_wanted = |found: &Key<Address>| {
            wanted
                .iter()
                .any(|(key, _)| (key.prefix_len(), key.data()) == (found.prefix_len(), found.data()))
        };
        let present: Vec<_> = self
            .excluded
            .keys()
            .collect::<Result<_, _>>()
            .map_err(|error| failed("EXCLUDED", error))?;
        for key in present.iter().filter(|key| !is_wanted(key)) {
            absent_is_fine("EXCLUDED", self.excluded.remove(key))?;
        }

        let mut words = [0_u64; 1024];
        for port in &exclusions.ports {
            words[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        for (index, word) in (0..).zip(words) {
            self.excluded_ports
                .set(index, word, 0)
                .map_err(|error| failed("EXCLUDED_PORTS", error))?;
        }
        Ok(())
    }

    pub(super) fn pod(&self, cookie: u64) -> Result<Option<Pod>, KernelError> {
        found("PODS", self.pods.get(&cookie, 0))
    }

    pub(super) fn set_pod(&mut self, cookie: u64, pod: Pod) -> Result<(), KernelError> {
        let full = KernelError::Full {
            map: "PODS",
            size: self.sizes.pods,
        };
        self.pods.insert(cookie, pod, 0).map_err(|error| no_room(error, full))
    }

    /// Opens the account of a pod, unless it has one.
    pub(super) fn open_account(&mut self, cookie: u64) -> Result<(), KernelError> {
        const NOEXIST: u64 = 1;
        for is_swept in [false, true] {
            match self.usage.insert(cookie, Usage::default(), NOEXIST) {
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                    return Ok(());
                }
                Err(MapError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(libc::E2BIG) && !is_swept =>
                {
                    self.sweep_accounts()?;
                }
                outcome => return outcome.map_err(|error| failed("USAGE", error)),
            }
        }
        Ok(())
    }

    /// Closes the account of a pod that is enrolled no longer, unless connections of it are still being opened: they would be
    /// missed if it came back.
    pub(super) fn close_account(&mut self, cookie: u64) -> Result<(), KernelError> {
        match self.usage(cookie)? {
            Some(usage) if usage.flows == 0 => absent_is_fine("USAGE", self.usage.remove(&cookie)),
            _ => Ok(()),
        }
    }

    /// Closes the accounts of all pods that are not enrolled.
    fn sweep_accounts(&mut self) -> Result<(), KernelError> {
        let enrolled = self.cookies()?;
        let all = self.usage.keys().collect::<Result<Vec<u64>, _>>();
        for cookie in all.map_err(|error| failed("USAGE", error))? {
            if !enrolled.contains(&cookie) {
                absent_is_fine("USAGE", self.usage.remove(&cookie))?;
            }
        }
        Ok(())
    }

    /// The account of a pod, if it has one.
    pub(super) fn usage(&self, cookie: u64) -> Result<Option<Usage>, KernelError> {
        found("USAGE", self.usage.get(&cookie, 0))
    }

    pub(super) fn remove_pod(&mut self, cookie: u64) -> Result<(), KernelError> {
        absent_is_fine("PODS", self.pods.remove(&cookie))
    }

    pub(super) fn cookies(&self) -> Result<Vec<u64>, KernelError> {
        self.pods
            .keys()
            .collect::<Result<_, _>>()
            .map_err(|error| failed("PODS", error))
    }

    /// Every address with the cookie of its pod.
    pub(super) fn owned(&self) -> Result<Vec<(Address, u64)>, KernelError> {
        let all = self
            .addresses
            .iter()
            .map(|entry| entry.map(|(address, owner)| (address, owner.cookie)));
        all.collect::<Result<_, _>>()
            .map_err(|error| failed("ADDRESSES", error))
    }

    pub(super) fn owner(&self, address: &Address) -> Result<Option<u64>, KernelError> {
        Ok(found("ADDRESSES", self.addresses.get(address, 0))?.map(|owner| owner.cookie))
    }

    pub(super) fn set_owner(&mut self, address: Address, cookie: u64) -> Result<(), KernelError> {
        let full = KernelError::Full {
            map: "ADDRESSES",
            size: self.sizes.addresses,
        };
        self.addresses
            .insert(address, Owner { cookie }, 0)
            .map_err(|error| no_room(error, full))
    }

    pub(super) fn remove_owner(&mut self, address: &Address) -> Result<(), KernelError> {
        absent_is_fine("ADDRESSES", self.addresses.remove(address))
    }

    pub(super) fn set_listener(&mut self, listener: Listener, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        let full = KernelError::Full {
            map: "LISTENERS",
            size: self.sizes.addresses * LISTENERS_PER_ADDRESS,
        };
        self.listeners
            .insert(listener, socket, 0)
            .map_err(|error| no_room(error, full))
    }

    pub(super) fn remove_listener(&mut self, listener: &Listener) -> Result<(), KernelError> {
        absent_is_fine("LISTENERS", self.listeners.remove(listener))
    }

    /// Those that are alive: the kernel removes the others.
    pub(super) fn listeners(&self) -> Result<HashSet<Listener>, KernelError> {
        self.listeners
            .keys()
            .collect::<Result<_, _>>()
            .map_err(|error| failed("LISTENERS", error))
    }

    /// Forgets which resolvers a pod asks.
    pub(super) fn forget_resolvers(&mut self, cookie: u64) -> Result<(), KernelError> {
        (0..DNS_SLOTS.into()).try_for_each(|slot| {
            let key = Resolver {
                cookie,
                slot,
                reserved: 0,
            };
            absent_is_fine("RESOLVERS", self.resolvers.remove(&key))
        })
    }

    fn resolvers(&self) -> Result<u64, KernelError> {
        let count = |all, key: Result<Resolver, MapError>| key.map(|_| all + 1);
        let counted = self.resolvers.keys().try_fold(0, count);
        counted.map_err(|error| failed("RESOLVERS", error))
    }

    pub(super) fn counters(&self) -> Result<Vec<(&'static str, &'static str, u64)>, KernelError> {
        let sum = |(index, (hook, outcome)): (u32, &(&'static str, &'static str))| {
            let values = self.counts.get(&index, 0).map_err(|error| failed("COUNTS", error))?;
            Ok((*hook, *outcome, values.iter().sum()))
        };
        (0..).zip(COUNTERS).map(sum).collect()
    }

    pub(super) fn occupancy(&self) -> Result<Vec<(&'static str, u64, u64)>, KernelError> {
        let flows = self
            .open_flows
            .get(&0, 0)
            .map_err(|error| failed("OPEN_FLOWS", error))?;
        let exclusions = self
            .excluded
            .iter()
            .filter(|entry| matches!(entry, Ok((_, EXCLUDED))))
            .count();
        let addresses = u64::from(self.sizes.addresses);
        Ok(vec![
            ("pods", self.cookies()?.len() as u64, self.sizes.pods.into()),
            ("addresses", self.owned()?.len() as u64, addresses),
            (
                "listeners",
                self.listeners()?.len() as u64,
                addresses * u64::from(LISTENERS_PER_ADDRESS),
            ),
            ("flows", flows, self.sizes.flows.into()),
            ("resolvers", self.resolvers()?, Resolver::ENTRIES.into()),
            ("exclusions", exclusions as u64, self.sizes.exclusions.into()),
        ])
    }
}

pub(super) fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, KernelError> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| KernelError::Missing(name.to_owned()))?;
    M::try_from(map).map_err(|error| failed(name, error))
}

/// How long the prefix is below which IPv4 addresses are held.
const V4_BITS: u32 = 96;
/// The first of them.
const MAPPED: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();

/// The value of a range that is not captured.
const EXCLUDED: u32 = 1;
/// The value of IPv4 as a whole where only the way in which addresses are held puts it into an excluded range.
const CAPTURED: u32 = 0;

/// What the trie holds for these ranges: one entry for each, and one more where an IPv6 range covers `::ffff:0:0/96`, below
/// which IPv4 is held. Who leaves out all of IPv6 does not mean IPv4.
fn exclusion_keys(cidrs: &[IpNet]) -> Vec<(Key<Address>, u32)> {
    let mut keys: Vec<(Key<Address>, u32)> = cidrs.iter().map(|cidr| (key(cidr), EXCLUDED)).collect();
    let all_v4 = Key::new(V4_BITS, IpAddr::V6(MAPPED).into());
    let covers_v4 = |cidr: &IpNet| match cidr {
        IpNet::V4(_) => false,
        IpNet::V6(v6) => u32::from(v6.prefix_len()) < V4_BITS && v6.contains(&MAPPED),
    };
    let is_excluded = cidrs
        .iter()
        .any(|cidr| key(cidr).prefix_len() == V4_BITS && key(cidr).data() == all_v4.data());
    if cidrs.iter().any(covers_v4) && !is_excluded {
        keys.push((all_v4, CAPTURED));
    }
    keys
}

fn key(cidr: &IpNet) -> Key<Address> {
    let mapped = if cidr.network().is_ipv4() { V4_BITS } else { 0 };
    Key::new(mapped + u32::from(cidr.prefix_len()), cidr.network().into())
}

pub(super) fn failed(map: &str, error: MapError) -> KernelError {
    KernelError::load(format!("use the map {map}"), error)
}

pub(super) fn found<T>(map: &str, result: Result<T, MapError>) -> Result<Option<T>, KernelError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(failed(map, error)),
    }
}

pub(super) fn absent_is_fine(map: &str, result: Result<(), MapError>) -> Result<(), KernelError> {
    match errno(&result) {
        Some(libc::ENOENT) => Ok(()),
        _ => result.map_err(|error| failed(map, error)),
    }
}

/// `full` when that is what the kernel means.
pub(super) fn no_room(error: MapError, full: KernelError) -> KernelError {
    let KernelError::Full { map, .. } = full else {
        return full;
    };
    let result = Err(error);
    match (errno(&result), result) {
        // Hash maps and socket maps say E2BIG; tries say ENOSPC.
        (Some(libc::E2BIG | libc::ENOSPC), _) | (_, Ok(())) => full,
        (_, Err(error)) => failed(map, error),
    }
}

fn errno(result: &Result<(), MapError>) -> Option<i32> {
    match result {
        Err(MapError::SyscallError(error)) => error.io_error.raw_os_error(),
        Err(MapError::KeyNotFound) => Some(libc::ENOENT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the trie answers for an address.
    fn lookup(keys: &[(Key<Address>, u32)], address: &str) -> Option<u32> {
        let address: IpAddr = address.parse().unwrap();
        let bits = |address: Address| u128::from_be_bytes(address.octets());
        let matches = |key: &Key<Address>| {
            let shift = 128 - key.prefix_len();
            let cut = |address| bits(address).checked_shr(shift).unwrap_or(0);
            cut(key.data()) == cut(address.into())
        };
        let longest = keys
            .iter()
            .filter(|(key, _)| matches(key))
            .max_by_key(|(key, _)| key.prefix_len());
        longest.map(|(_, value)| *value)
    }

    #[test]
    fn a_range_of_ipv6_never_means_ipv4() {
        let keys = |cidrs: &[&str]| {
            let cidrs: Vec<IpNet> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
            exclusion_keys(&cidrs)
        };
        for range in ["::/0", "::/1", "::/80"] {
            let keys = keys(&[range]);
            assert_eq!(lookup(&keys, "198.18.0.1"), Some(CAPTURED), "{range}");
            assert_eq!(lookup(&keys, "::5"), Some(EXCLUDED), "{range}");
        }
        assert_eq!(lookup(&keys(&["::/0"]), "fd00:c01e::1"), Some(EXCLUDED));
        assert_eq!(lookup(&keys(&["fd00::/8"]), "198.18.0.1"), None);
        let both = keys(&["::/0", "198.18.0.0/16"]);
        assert_eq!(lookup(&both, "198.18.0.1"), Some(EXCLUDED));
        assert_eq!(lookup(&both, "198.19.0.1"), Some(CAPTURED));
        for everything in [["::/0", "0.0.0.0/0"], ["0.0.0.0/0", "::/0"]] {
            assert_eq!(lookup(&keys(&everything), "198.19.0.1"), Some(EXCLUDED));
        }
        assert_eq!(lookup(&keys(&["::ffff:198.18.0.0/112"]), "198.18.0.1"), Some(EXCLUDED));
    }
}
