//! Addresses for services that have none, where no API server gives them one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

use crate::defaults::family_name;
use crate::kinds::Objects;
use crate::name::ObjectName;

/// Defaults that belong to the cluster as a whole.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Ranges from which services without an address get one, at most one for each family. Empty: they get none.
    pub service_cidrs: Vec<IpNet>,
}

/// Hands out addresses to services that have none, and remembers them, so that a service keeps its address while
/// others come and go.
#[derive(Debug, Default)]
pub(crate) struct Allocator {
    given: HashMap<ObjectName, Vec<IpAddr>>,
}

impl Allocator {
    /// Fills in the addresses of all services of `objects` that should have one.
    pub(crate) fn fill(&mut self, defaults: &Defaults, objects: &mut Objects) {
        if defaults.service_cidrs.is_empty() {
            return;
        }
        let mut used: HashSet<IpAddr> = HashSet::new();
        let mut wanting = BTreeSet::new();
        for (name, service) in &objects.services {
            let Some(spec) = &service.spec else { continue };
            let given = spec.cluster_ips.iter().flatten();
            used.extend(given.filter_map(|ip| ip.parse::<IpAddr>().ok()));
            if spec.type_.as_deref() != Some("ExternalName") && spec.cluster_ip.as_deref().is_none_or(str::is_empty) {
                wanting.insert(name.clone());
            }
        }
        self.given.retain(|name, _| wanting.contains(name));
        self.given
            .retain(|_, addresses| addresses.iter().all(|a| !used.contains(a)));
        used.extend(self.given.values().flatten());
        for name in wanting {
            let addresses = match self.given.get(&name) {
                Some(addresses) => addresses.clone(),
                None => objects
                    .services
                    .get(&name)
                    .map(|s| choose(defaults, s, &name, &used))
                    .unwrap_or_default(),
            };
            used.extend(&addresses);
            self.given.insert(name.clone(), addresses.clone());
            if let (Some(service), Some(first)) = (objects.services.get_mut(&name), addresses.first()) {
                let spec = Arc::make_mut(service).spec.get_or_insert_default();
                spec.cluster_ip = Some(first.to_string());
                spec.cluster_ips = Some(addresses.iter().map(IpAddr::to_string).collect());
            }
        }
    }
}

/// One address for each family of the service, from a place in the range that follows from the name alone unless it is
/// taken: so that a restarted controller gives the same.
fn choose(defaults: &Defaults, service: &Service, name: &ObjectName, used: &HashSet<IpAddr>) -> Vec<IpAddr> {
    let families = service
        .spec
        .as_ref()
        .and_then(|s| s.ip_families.clone())
        .unwrap_or_default();
    let mut chosen = Vec::new();
    for family in families {
        let Some(range) = defaults.service_cidrs.iter().find(|c| family_name(c.addr()) == family) else {
            continue;
        };
        let bits = (range.max_prefix_len() - range.prefix_len()).min(32);
        let size = 1_u64 << bits;
        // The first address is the network's, the last may be a broadcast address.
        let usable = size.saturating_sub(2).max(1);
        let start = fnv(name.to_string().as_bytes());
        let found = (0..usable)
            .map(|step| nth(range, 1 + (start.wrapping_add(step)) % usable))
            .find(|a| !used.contains(a));
        chosen.extend(found);
    }
    chosen
}

fn nth(range: &IpNet, n: u64) -> IpAddr {
    match range.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().wrapping_add(n as u32)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits().wrapping_add(u128::from(n))).into(),
    }
}

/// FNV-1a: the same on every machine and in every version, unlike the standard library's hasher.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
