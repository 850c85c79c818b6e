//! Which connections go past the proxy, as the kernel programs know it: see `ebpf/src/same_node.rs`.

use super::{
    Kernel, KernelError, SameNodeEntries, SameNodePods,
    maps::{absent_is_fine, failed},
    sock_diag,
};
use culvert_abi::{Endpoint, Flow, Pod, SameNodeEnded, SameNodeNumber, SameNodePair, SameNodePeer, SameNodeUse};
use culvert_net::serving::monotonic;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

/// How long pairs hold after they were last confirmed.
const LEASE: Duration = Duration::from_secs(2);

/// A connection that goes past the proxy.
#[derive(Clone, Copy, Debug)]
pub struct SameNodeOpen {
    /// As its client sees it.
    pub flow: Flow,
    /// Since its SYN.
    pub age: Duration,
}

impl SameNodeOpen {
    /// The client's address, and the one that it is connected to.
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        ends(&self.flow)
    }
}

/// The addresses of a connection: the client's, and the one that it is connected to.
pub(crate) fn ends(flow: &Flow) -> (SocketAddr, SocketAddr) {
    let end = |address, port: u16| {
        SocketAddr::from(Endpoint {
            address,
            port: port.into(),
        })
    };
    (end(flow.local, flow.local_port), end(flow.remote, flow.remote_port))
}

impl Kernel {
    /// Makes the pairs whose connections go past the proxy exactly these, and the addresses of services that lead to them. Those that go,
    /// go first and whatever else fails.
    ///
    /// # Errors
    /// A failing system call, a full map, a kernel that cannot close connections (no pair is entered then).
    pub fn set_same_node(&mut self, wanted: &SameNodeEntries) -> Result<(), KernelError> {
        let pairs = &wanted.pairs;
        let outdated = |(pair, peer): (&SameNodePair, &SameNodePeer)| (pairs.get(pair) != Some(peer)).then_some(*pair);
        let gone: Vec<SameNodePair> = self.same_node.entered.iter().filter_map(outdated).collect();
        let mut touched: HashSet<u64> = HashSet::new();
        let mut outcome = self.same_node.keep_services(wanted);
        for pair in &gone {
            let server = self.same_node.entered.get(pair).map(|peer| peer.server);
            touched.extend([pair.client].into_iter().chain(server));
            outcome = outcome.and(self.same_node.remove(pair));
        }
        if let Err(error) = outcome {
            // Then they hold no longer all together.
            self.same_node.set(SameNodeNumber::Until, 0)?;
            return Err(error);
        }
        let new = pairs
            .iter()
            .filter(|(pair, _)| !self.same_node.entered.contains_key(*pair));
        let new: Vec<_> = new.map(|(pair, peer)| (*pair, *peer)).collect();
        let mut entered = match new.is_empty() {
            true => Ok(()),
            false => self.same_node_support(),
        };
        for (pair, peer) in new {
            if entered.is_err() {
                break;
            }
            entered = self.same_node.enter(pair, peer);
            touched.extend([pair.client, peer.server]);
        }
        entered = entered.and_then(|()| self.same_node.enter_services(wanted));
        for cookie in touched {
            self.flag_same_node(cookie)?;
        }
        if entered.is_ok() && !self.same_node.entered.is_empty() {
            self.confirm_same_node()?;
        }
        entered
    }

    /// Says that somebody is there who takes pairs back: to be called at least once a second while there are any.
    ///
    /// # Errors
    /// A failing system call.
    pub fn confirm_same_node(&mut self) -> Result<(), KernelError> {
        let until = monotonic() + LEASE.as_nanos() as u64;
        self.same_node.set(SameNodeNumber::Until, until)
    }

    /// The connections that go past the proxy, as their clients see them.
    ///
    /// # Errors
    /// A failing system call.
    pub fn same_node_flows(&mut self) -> Result<Vec<Flow>, KernelError> {
        let flows = self.same_node.flows.keys().collect::<Result<Vec<_>, _>>();
        let flows = flows.map_err(|error| failed("SAME_NODE_FLOWS", error))?;
        // What was opened or has ended just now is missed until the next time.
        self.same_node.set(SameNodeNumber::Open, flows.len() as u64)?;
        Ok(flows)
    }

    /// The same, with when each began.
    ///
    /// # Errors
    /// A failing system call.
    pub fn same_node_open(&self) -> Result<Vec<SameNodeOpen>, KernelError> {
        let now = monotonic();
        let open = self.same_node.flows.iter().map(|entry| {
            let (flow, began) = entry?;
            Ok(SameNodeOpen {
                flow,
                age: Duration::from_nanos(now.saturating_sub(began)),
            })
        });
        open.collect::<Result<_, _>>()
            .map_err(|error| failed("SAME_NODE_FLOWS", error))
    }

    /// Forgets connections that have ended without the programs' notice.
    ///
    /// # Errors
    /// A failing system call.
    pub fn forget_same_node_flows(&mut self, flows: &[Flow]) -> Result<(), KernelError> {
        let mut flows = flows.iter();
        flows.try_for_each(|flow| absent_is_fine("SAME_NODE_FLOWS", self.same_node.flows.remove(flow)))
    }

    /// What has gone past the proxy between pods that are captured.
    ///
    /// # Errors
    /// A failing system call.
    pub fn same_node_use(&mut self) -> Result<Vec<(SameNodePods, SameNodeUse)>, KernelError> {
        self.same_node.count()?;
        Ok(self.same_node.totals.all())
    }

    /// How many connections were opened by each pair that is entered, ever.
    ///
    /// # Errors
    /// A failing system call.
    pub fn same_node_opened(&mut self) -> Result<HashMap<SameNodePair, u64>, KernelError> {
        self.same_node.count()?;
        Ok(self.same_node.opened())
    }

    /// Lets nothing new be opened by a pair, or again. What is being opened is let in.
    ///
    /// # Errors
    /// A failing system call. A pair that is not entered is no error.
    pub fn end_same_node(&mut self, pair: &SameNodePair, is_ending: bool) -> Result<(), KernelError> {
        self.same_node.end(pair, is_ending)
    }

    /// The connections past the proxy that have ended since the last call.
    pub fn same_node_ended(&mut self) -> Vec<SameNodeEnded> {
        self.same_node.ended()
    }

    /// How many pairs there are, and why there can be none.
    pub fn same_node_pairs(&self) -> (usize, Option<&str>) {
        let problem = self.same_node.support.as_ref().and_then(|known| known.as_ref().err());
        (self.same_node.entered.len(), problem.map(String::as_str))
    }

    /// Takes back all pairs of a pod that is captured no longer, and forgets what went by them.
    pub(super) fn part_same_node(&mut self, cookie: u64) -> Result<(), KernelError> {
        self.same_node.totals.part(cookie);
        let left = self.same_node.entries().without(cookie);
        match left.pairs.len() == self.same_node.entered.len() {
            true => Ok(()),
            false => self.set_same_node(&left),
        }
    }

    /// A pair whose open connections nobody can close is none.
    fn same_node_support(&mut self) -> Result<(), KernelError> {
        let known = self.same_node.support.get_or_insert_with(|| {
            sock_diag::can_destroy()
                .map_err(|error| format!("connections cannot be closed, should policies change: {error}"))
        });
        known.clone().map_err(KernelError::Invalid)
    }

    fn flag_same_node(&mut self, cookie: u64) -> Result<(), KernelError> {
        let Some(mut pod) = self.maps.pod(cookie)? else {
            return Ok(());
        };
        let flags = pod.flags & !(Pod::SAME_NODE_CLIENT | Pod::SAME_NODE_SERVER) | self.same_node.flags(cookie);
        if pod.flags == flags {
            return Ok(());
        }
        pod.flags = flags;
        if let Some(told) = self.told.get_mut(&cookie) {
            told.entry.flags = flags;
        }
        self.maps.set_pod(cookie, pod)
    }
}
