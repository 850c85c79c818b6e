//! Addresses that the mesh chooses for hosts of ServiceEntries that have none, so that a name can lead to them: those of Istio's
//! ranges, one of each family for each host that is no wildcard.
//!
//! The leader keeps what was chosen in the object's status, in Istio's form, and what is there holds, whoever wrote it. What is
//! not there yet is chosen by all replicas alike: a hash of namespace, name and host is the first candidate, and where somebody
//! has that, the next. So a status that is lost, or never was since objects come from files, brings the same address again,
//! unless another host has come to the same hash in between.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use aws_lc_rs::digest;
use culvert_objects::{Held as _, ObjectName, Objects, ServiceEntry};
use k8s_openapi::jiff::Timestamp;

/// Istio's ranges: 240.240.0.0/16, of which the first and the last are left out, and 2001:2::/48, the lower half of whose
/// addresses is used.
const V4: u32 = 0xf0f0_0000;
const V4_HOSTS: u32 = 0xfffe;
const V6: u128 = 0x2001_0002_0000_0000_0000_0000_0000_0000;

/// On an entry: `false` keeps its hosts without addresses of the mesh's choice.
const ALLOCATES: &str = "networking.istio.io/enable-autoallocate-ip";

/// An address of each family; none where the range is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// What an entry asks for, and what it takes from the ranges by itself.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    created: Option<Timestamp>,
    hosts: Box<[Box<str>]>,
    had: Box<[(Box<str>, IpAddr)]>,
    fixed: Box<[IpAddr]>,
}

/// What was chosen for the hosts of an entry, in the order in which it names them.
type Chosen = Box<[(Box<str>, Pair)]>;

/// What was chosen for whom. A copy shares it.
#[derive(Clone, Debug, Default)]
pub struct Allocations(Arc<BTreeMap<ObjectName, Chosen>>);

/// Follows the entries and chooses.
#[derive(Debug, Default)]
pub(super) struct Allocator {
    wishes: BTreeMap<ObjectName, Wish>,
    allocations: Allocations,
}

impl Allocations {
    /// The addresses of an entry's hosts, as its status should have them; none where it asks for none.
    pub fn of(&self, name: &ObjectName) -> impl Iterator<Item = (&str, IpAddr)> {
        let chosen = self.0.get(name).map_or(&[][..], |chosen| chosen);
        chosen
            .iter()
            .flat_map(|(host, pair)| pair.addresses().map(move |address| (&**host, address)))
    }

    /// For whose hosts something else was chosen then.
    pub fn changed(&self, then: &Self) -> BTreeSet<ObjectName> {
        if Arc::ptr_eq(&self.0, &then.0) {
            return BTreeSet::new();
        }
        let names = self.0.keys().chain(then.0.keys());
        let differs = |name: &&ObjectName| self.0.get(*name) != then.0.get(*name);
        names.filter(differs).cloned().collect()
    }
}

impl Allocator {
    /// What is chosen now.
    pub(super) fn allocations(&self) -> &Allocations {
        &self.allocations
    }

    /// Takes these entries in as they are now, and returns those for whose hosts something else was chosen.
    ///
    /// It costs a look at all entries, since one that comes may have been chosen what another would be chosen; but nothing where an
    /// entry changed in what does not matter here, or has been told in its status what was chosen.
    pub(super) fn update(&mut self, changed: &BTreeSet<ObjectName>, objects: &Objects) -> BTreeSet<ObjectName> {
        let mut is_other = false;
        for name in changed {
            let wish = ServiceEntry::map(objects).get(name).and_then(|entry| Wish::of(entry));
            let before = self.wishes.get(name);
            if before == wish.as_ref() {
                continue;
            }
            let is_told = |(before, wish): (&Wish, &Wish)| {
                let of_entry = self.allocations.of(name);
                let had = wish.had.iter().map(|(host, address)| (&**host, *address));
                before.asks_as(wish) && had.eq(of_entry)
            };
            is_other |= !before.zip(wish.as_ref()).is_some_and(is_told);
            match wish {
                Some(wish) => drop(self.wishes.insert(name.clone(), wish)),
                None => drop(self.wishes.remove(name)),
            }
        }
        if !is_other {
            return BTreeSet::new();
        }
        let before = self.allocations.clone();
        self.allocations = Allocations(Arc::new(choose(&self.wishes)));
        before.changed(&self.allocations)
    }
}

impl Wish {
    fn of(entry: &ServiceEntry) -> Option<Self> {
        let is_unwanted = entry
            .labels
            .get(ALLOCATES)
            .is_some_and(|word| word.eq_ignore_ascii_case("false"));
        let asks =
            !is_unwanted && entry.addresses.is_empty() && entry.resolution.has_endpoints() && !entry.export.is_nobody();
        let named = entry.hosts.iter().map(|(_, host)| host);
        let hosts = named.filter(|host| asks && !host.starts_with("*.")).cloned().collect();
        let single = entry
            .addresses
            .iter()
            .filter(|(_, range)| range.prefix_len() == range.max_prefix_len());
        let wish = Self {
            created: entry.created.as_ref().map(|created| created.0),
            hosts,
            had: if asks { entry.allocated.clone() } else { Box::default() },
            fixed: single.map(|(_, range)| range.addr()).filter(is_of_ranges).collect(),
        };
        (!wish.hosts.is_empty() || !wish.fixed.is_empty()).then_some(wish)
    }

    /// Whether it asks for the same, whatever it has.
    fn asks_as(&self, other: &Self) -> bool {
        (&self.created, &self.hosts, &self.fixed) == (&other.created, &other.hosts, &other.fixed)
    }

    /// What its status has for a host, of those addresses that may be chosen.
    fn had<'w>(&'w self, host: &'w str) -> impl Iterator<Item = IpAddr> + 'w {
        let of_host = self.had.iter().filter(move |(known, _)| **known == *host);
        of_host.map(|(_, address)| *address).filter(is_of_ranges)
    }
}

impl Pair {
    fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.v6.map(IpAddr::from);
        self.v4.map(IpAddr::from).into_iter().chain(v6)
    }

    /// Takes an address in if it has none of its family.
    fn take(&mut self, address: IpAddr, taken: &mut HashSet<IpAddr>) {
        let is_vacant = match address {
            IpAddr::V4(_) => self.v4.is_none(),
            IpAddr::V6(_) => self.v6.is_none(),
        };
        if is_vacant && taken.insert(address) {
            match address {
                IpAddr::V4(v4) => self.v4 = Some(v4),
                IpAddr::V6(v6) => self.v6 = Some(v6),
            }
        }
    }
}

/// What is chosen for all: what they have first, of two with one address the older entry's; then the rest in the order of
/// their names.
fn choose(wishes: &BTreeMap<ObjectName, Wish>) -> BTreeMap<ObjectName, Chosen> {
    let mut taken: HashSet<IpAddr> = wishes.values().flat_map(|wish| wish.fixed.iter().copied()).collect();
    let mut by_age: Vec<(&ObjectName, &Wish)> = wishes.iter().filter(|(_, wish)| !wish.hosts.is_empty()).collect();
    by_age.sort_by_key(|(name, wish)| (wish.created, *name));
    let mut chosen: BTreeMap<ObjectName, Chosen> = BTreeMap::new();
    for (name, wish) in by_age {
        let kept = wish.hosts.iter().map(|host| {
            let mut pair = Pair::default();
            wish.had(host).for_each(|address| pair.take(address, &mut taken));
            (host.clone(), pair)
        });
        chosen.insert(name.clone(), kept.collect());
    }
    for (name, hosts) in &mut chosen {
        for (host, pair) in hosts.iter_mut() {
            if pair.v4.is_some() && pair.v6.is_some() {
                continue;
            }
            let (v4, v6) = first(name, host);
            let mut v4 = (0..V4_HOSTS).map(|step| at_v4((v4 + step) % V4_HOSTS));
            let mut v6 = (0..=u64::MAX).map(|step| at_v6(v6.wrapping_add(step)));
            let is_free = |address: &IpAddr| !taken.contains(address);
            let free = [v4.find(is_free), v6.find(is_free)];
            free.into_iter()
                .flatten()
                .for_each(|address| pair.take(address, &mut taken));
        }
    }
    chosen
}

/// The first candidates of a host, by their places in the ranges.
fn first(name: &ObjectName, host: &str) -> (u32, u64) {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [&*name.namespace, &*name.name, host] {
        context.update(part.as_bytes());
        context.update(b"/");
    }
    let hash = context.finish();
    let mut bytes = [[0; 8]; 2];
    for (place, chunk) in bytes.iter_mut().zip(hash.as_ref().chunks_exact(8)) {
        place.copy_from_slice(chunk);
    }
    let [v4, v6] = bytes.map(u64::from_be_bytes);
    ((v4 % u64::from(V4_HOSTS)) as u32, v6)
}

fn at_v4(place: u32) -> IpAddr {
    Ipv4Addr::from(V4 + 1 + place).into()
}

fn at_v6(place: u64) -> IpAddr {
    Ipv6Addr::from(V6 | u128::from(place)).into()
}

/// Whether the address is one that may be chosen.
fn is_of_ranges(address: &IpAddr) -> bool {
    match *address {
        IpAddr::V4(v4) => (V4 + 1..=V4 + V4_HOSTS).contains(&v4.into()),
        // All of the range: others may choose from the rest of it.
        IpAddr::V6(v6) => u128::from(v6) >> 80 == V6 >> 80,
    }
}

#[cfg(test)]
mod tests;
