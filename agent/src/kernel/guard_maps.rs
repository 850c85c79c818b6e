//! The guard's maps with their types.

use super::{
    KernelError,
    config::MapSizes,
    maps::{absent_is_fine, failed, found, no_room, take},
};
use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError},
};
use culvert_abi::{Dropped, Guard, GuardedLink, GuardedPort};
use std::collections::BTreeSet;

/// Handles to the maps. Of pods that are not guarded they hold nothing.
pub(super) struct GuardMaps {
    links: HashMap<MapData, u32, GuardedLink>,
    links_size: u32,
    guards: HashMap<MapData, u64, Guard>,
    ports: HashMap<MapData, GuardedPort, u32>,
    dropped: HashMap<MapData, u64, Dropped>,
}

/// Only where there is no entry (`BPF_NOEXIST`).
const NOEXIST: u64 = 1;

impl GuardMaps {
    pub(super) fn take(ebpf: &mut Ebpf, sizes: &MapSizes) -> Result<Self, KernelError> {
        Ok(Self {
            links: take(ebpf, "GUARDED_LINKS")?,
            links_size: sizes.guarded_links(),
            guards: take(ebpf, "GUARDS")?,
            ports: take(ebpf, "GUARDED_PORTS")?,
            dropped: take(ebpf, "DROPPED")?,
        })
    }

    /// Makes the entries of a pod that has none: strict as a whole. What is known already stays.
    pub(super) fn open(&mut self, cookie: u64) -> Result<(), KernelError> {
        let guard = Guard {
            flags: Guard::STRICT | Guard::WHOLE,
            reserved: 0,
            logged: 0,
        };
        new_or_there("DROPPED", self.dropped.insert(cookie, Dropped::NOTHING, NOEXIST))?;
        new_or_there("GUARDS", self.guards.insert(cookie, guard, NOEXIST))
    }

    pub(super) fn guard(&self, cookie: u64) -> Result<Option<Guard>, KernelError> {
        found("GUARDS", self.guards.get(&cookie, 0))
    }

    pub(super) fn set_guard(&mut self, cookie: u64, guard: Guard) -> Result<(), KernelError> {
        let inserted = self.guards.insert(cookie, guard, 0);
        inserted.map_err(|error| no_room(error, full("GUARDS", Guard::PODS)))
    }

    pub(super) fn dropped(&self, cookie: u64) -> Result<Option<Dropped>, KernelError> {
        found("DROPPED", self.dropped.get(&cookie, 0))
    }

    /// The exceptions of a pod.
    pub(super) fn ports(&self, cookie: u64) -> Result<BTreeSet<u16>, KernelError> {
        let all = self.ports.keys().collect::<Result<Vec<_>, _>>();
        let all = all.map_err(|error| failed("GUARDED_PORTS", error))?;
        // The agent writes no other numbers.
        let own = all
            .iter()
            .filter(|port| port.cookie == cookie)
            .map(|port| port.port as u16);
        Ok(own.collect())
    }

    pub(super) fn has_port(&self, cookie: u64, port: u16) -> Result<bool, KernelError> {
        Ok(found("GUARDED_PORTS", self.ports.get(&key(cookie, port), 0))?.is_some())
    }

    /// Makes the exceptions of a pod exactly these.
    pub(super) fn set_ports(&mut self, cookie: u64, wanted: &BTreeSet<u16>) -> Result<(), KernelError> {
        let there = self.ports(cookie)?;
        for port in there.difference(wanted) {
            absent_is_fine("GUARDED_PORTS", self.ports.remove(&key(cookie, *port)))?;
        }
        for port in wanted.difference(&there) {
            let inserted = self.ports.insert(key(cookie, *port), 1, 0);
            inserted.map_err(|error| no_room(error, full("GUARDED_PORTS", GuardedPort::ENTRIES)))?;
        }
        Ok(())
    }

    pub(super) fn owner(&self, link: u32) -> Result<Option<u64>, KernelError> {
        Ok(found("GUARDED_LINKS", self.links.get(&link, 0))?.map(|link| link.cookie))
    }

    pub(super) fn set_owner(&mut self, link: u32, cookie: u64) -> Result<(), KernelError> {
        let size = self.links_size;
        let inserted = self.links.insert(link, GuardedLink { cookie }, 0);
        inserted.map_err(|error| no_room(error, full("GUARDED_LINKS", size)))
    }

    pub(super) fn remove_owner(&mut self, link: u32) -> Result<(), KernelError> {
        absent_is_fine("GUARDED_LINKS", self.links.remove(&link))
    }

    /// The node's ends of a pod's links.
    pub(super) fn links_of(&self, cookie: u64) -> Result<Vec<u32>, KernelError> {
        let all = self.links.iter().collect::<Result<Vec<_>, _>>();
        let all = all.map_err(|error| failed("GUARDED_LINKS", error))?;
        let own = all.into_iter().filter(|(_, link)| link.cookie == cookie);
        Ok(own.map(|(index, _)| index).collect())
    }

    /// The pods that have entries.
    pub(super) fn cookies(&self) -> Result<Vec<u64>, KernelError> {
        let all = self.guards.keys().collect::<Result<_, _>>();
        all.map_err(|error| failed("GUARDS", error))
    }

    /// Removes the entries of a pod.
    pub(super) fn close(&mut self, cookie: u64) -> Result<(), KernelError> {
        for link in self.links_of(cookie)? {
            self.remove_owner(link)?;
        }
        absent_is_fine("GUARDS", self.guards.remove(&cookie))?;
        self.set_ports(cookie, &BTreeSet::new())?;
        absent_is_fine("DROPPED", self.dropped.remove(&cookie))
    }
}

fn key(cookie: u64, port: u16) -> GuardedPort {
    GuardedPort {
        cookie,
        port: port.into(),
        reserved: 0,
    }
}

fn new_or_there(map: &'static str, inserted: Result<(), MapError>) -> Result<(), KernelError> {
    match inserted {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        inserted => inserted.map_err(|error| failed(map, error)),
    }
}

fn full(map: &'static str, size: u32) -> KernelError {
    KernelError::Full { map, size }
}
