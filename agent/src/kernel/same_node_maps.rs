//! The maps about connections that go past the proxy, with their types.

use super::{
    KernelError, SameNodeEntries,
    maps::{absent_is_fine, failed, found, no_room, take},
    same_node_totals::Totals,
};
use aya::{
    Ebpf,
    maps::{Array, HashMap as Map, MapData, MapError, RingBuf},
};
use culvert_abi::{Endpoint, Flow, Pod, SameNodeEnded, SameNodeNumber, SameNodePair, SameNodePeer, SameNodeUse};
use std::collections::HashMap;

/// Only where there is no entry (`BPF_NOEXIST`).
const NOEXIST: u64 = 1;

/// How many connections are taken from the ring at once.
const MOST: usize = SameNodeEnded::RING as usize / size_of::<SameNodeEnded>();

/// The maps, and what this process has entered.
pub(super) struct SameNode {
    pub(super) pairs: Map<MapData, SameNodePair, SameNodePeer>,
    pub(super) flows: Map<MapData, Flow, u64>,
    pub(super) usage: Map<MapData, SameNodePair, SameNodeUse>,
    pub(super) numbers: Array<MapData, u64>,
    ended: RingBuf<MapData>,
    services: Map<MapData, SameNodePair, Endpoint>,
    pub(super) entered: HashMap<SameNodePair, SameNodePeer>,
    led: HashMap<SameNodePair, Endpoint>,
    /// As of the last look at `usage`.
    pub(super) totals: Totals,
    /// Why no pair can be entered; none before that was looked at.
    pub(super) support: Option<Result<(), String>>,
}

impl SameNode {
    /// What an earlier process has entered is taken back: nobody has confirmed it.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let mut taken = Self {
            pairs: take(ebpf, "SAME_NODE")?,
            flows: take(ebpf, "SAME_NODE_FLOWS")?,
            usage: take(ebpf, "SAME_NODE_USE")?,
            numbers: take(ebpf, "SAME_NODE_NUMBERS")?,
            ended: take(ebpf, "SAME_NODE_ENDED")?,
            services: take(ebpf, "SAME_NODE_SERVICES")?,
            entered: HashMap::new(),
            led: HashMap::new(),
            totals: Totals::default(),
            support: None,
        };
        taken.set(SameNodeNumber::Until, 0)?;
        let left = taken.pairs.keys().collect::<Result<Vec<_>, _>>();
        for pair in left.map_err(|error| failed("SAME_NODE", error))? {
            absent_is_fine("SAME_NODE", taken.pairs.remove(&pair))?;
        }
        let left = taken.services.keys().collect::<Result<Vec<_>, _>>();
        for service in left.map_err(|error| failed("SAME_NODE_SERVICES", error))? {
            absent_is_fine("SAME_NODE_SERVICES", taken.services.remove(&service))?;
        }
        Ok(taken)
    }

    /// What is entered.
    pub(super) fn entries(&self) -> SameNodeEntries {
        let mut entries = SameNodeEntries::default();
        entries.pairs.clone_from(&self.entered);
        for (service, destination) in &self.led {
            entries.add_service(*service, *destination);
        }
        entries
    }

    /// Removes the addresses of services that lead elsewhere now, or nowhere.
    pub(super) fn keep_services(&mut self, wanted: &SameNodeEntries) -> Result<(), KernelError> {
        let gone = self
            .led
            .iter()
            .filter(|(service, to)| wanted.service(service) != Some(**to));
        for service in gone.map(|(service, _)| *service).collect::<Vec<_>>() {
            absent_is_fine("SAME_NODE_SERVICES", self.services.remove(&service))?;
            self.led.remove(&service);
        }
        Ok(())
    }

    /// Enters those that are not entered yet.
    pub(super) fn enter_services(&mut self, wanted: &SameNodeEntries) -> Result<(), KernelError> {
        let full = || KernelError::Full {
            map: "SAME_NODE_SERVICES",
            size: SameNodePair::ENTRIES,
        };
        for (service, destination) in wanted.services() {
            if !self.led.contains_key(&service) {
                let entered = self.services.insert(service, destination, 0);
                entered.map_err(|error| no_room(error, full()))?;
                self.led.insert(service, destination);
            }
        }
        Ok(())
    }

    /// The flags of a pod, as far as they are about this.
    pub(super) fn flags(&self, cookie: u64) -> u32 {
        let is_client = self.entered.keys().any(|pair| pair.client == cookie);
        let is_server = self.entered.values().any(|peer| peer.server == cookie);
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        flag(is_client, Pod::SAME_NODE_CLIENT) | flag(is_server, Pod::SAME_NODE_SERVER)
    }

    pub(super) fn set(&mut self, which: SameNodeNumber, number: u64) -> Result<(), KernelError> {
        let set = self.numbers.set(which as u32, number, 0);
        set.map_err(|error| failed("SAME_NODE_NUMBERS", error))
    }

    pub(super) fn enter(&mut self, pair: SameNodePair, peer: SameNodePeer) -> Result<(), KernelError> {
        let full = |map| KernelError::Full {
            map,
            size: SameNodePair::ENTRIES,
        };
        for is_swept in [false, true] {
            match self.usage.insert(pair, SameNodeUse::default(), NOEXIST) {
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => break,
                Err(_) if !is_swept => self.count()?,
                outcome => {
                    outcome.map_err(|error| no_room(error, full("SAME_NODE_USE")))?;
                    break;
                }
            }
        }
        let entered = self.pairs.insert(pair, peer, 0);
        entered.map_err(|error| no_room(error, full("SAME_NODE")))?;
        self.entered.insert(pair, peer);
        self.totals.enter(pair, peer.server);
        Ok(())
    }

    /// Adds what has gone by each pair to the totals. Pairs that are gone and have nothing open any more are forgotten.
    pub(super) fn count(&mut self) -> Result<(), KernelError> {
        let pairs = self.usage.keys().collect::<Result<Vec<_>, _>>();
        for pair in pairs.map_err(|error| failed("SAME_NODE_USE", error))? {
            let Some(usage) = found("SAME_NODE_USE", self.usage.get(&pair, 0))? else {
                continue;
            };
            self.totals.count(&pair, &usage);
            if !self.entered.contains_key(&pair) && usage.closed >= usage.opened {
                absent_is_fine("SAME_NODE_USE", self.usage.remove(&pair))?;
                self.totals.forget(&pair);
            }
        }
        Ok(())
    }

    /// How many connections were opened by each pair that is entered, as of the last count.
    pub(super) fn opened(&self) -> HashMap<SameNodePair, u64> {
        let opened = self.entered.keys().map(|pair| (*pair, self.totals.opened(pair)));
        opened.collect()
    }

    /// In one step: there is no moment without an entry.
    pub(super) fn end(&mut self, pair: &SameNodePair, is_ending: bool) -> Result<(), KernelError> {
        let Some(peer) = self.entered.get(pair) else {
            return Ok(());
        };
        let peer = if is_ending { peer.ending() } else { *peer };
        let changed = self.pairs.insert(pair, peer, 0);
        changed.map_err(|error| failed("SAME_NODE", error))
    }

    /// The connections that have ended since the last call, also while no agent was there.
    pub(super) fn ended(&mut self) -> Vec<SameNodeEnded> {
        let mut ended = Vec::new();
        // No more than the ring holds: more may come meanwhile.
        while let Some(entry) = (ended.len() < MOST).then(|| self.ended.next()).flatten() {
            if entry.len() >= size_of::<SameNodeEnded>() {
                // SAFETY: the programs have written one, of plain data, and it is long enough.
                ended.push(unsafe { entry.as_ptr().cast::<SameNodeEnded>().read_unaligned() });
            }
        }
        ended
    }

    pub(super) fn remove(&mut self, pair: &SameNodePair) -> Result<(), KernelError> {
        absent_is_fine("SAME_NODE", self.pairs.remove(pair))?;
        self.entered.remove(pair);
        Ok(())
    }
}
