//! Guards: what is attached to pods' links, so that nobody gets past the tunnel to a strict port, whatever else ends.
//!
//! `guard_links` is how that is done. Which ports are strict is the proxy's word ([`Kernel::set_strictness`]). Until it is there, all are. It lies in maps that outlive
//! this process and its version, and so does the number of what was dropped.

use super::{Kernel, KernelConfig, KernelError, clsact, config::GuardHook, guard_maps::GuardMaps, names::Interface};
use aya::Ebpf;
use culvert_abi::{Dropped, Guard};
use culvert_net::Netns;
use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::SocketAddr,
};

/// To which ports of a pod no connection may be made without a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strictness {
    /// To those that are not exceptions.
    pub strict: bool,
    /// Ports for which the opposite holds.
    pub exceptions: BTreeSet<u16>,
}

/// How a pod is guarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardStatus {
    /// On how many interfaces.
    pub interfaces: usize,
    /// Which ports are strict; none where the pod is not guarded.
    pub strictness: Option<Strictness>,
    /// How many packets were dropped that would have opened a connection.
    pub dropped: u64,
    /// Why it is not guarded, or not on every interface.
    pub problem: Option<String>,
}

/// What a guard has dropped since this was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewlyDropped {
    /// The pod, by its name.
    pub pod: String,
    /// How many packets that would have opened a connection.
    pub count: u64,
    /// Where the last one came from, and to which port; none where that could not be read.
    pub last: Option<(SocketAddr, u16)>,
}

/// All that is known of guards.
pub(super) struct Guards {
    pub(super) maps: GuardMaps,
    /// Where the other ends of pods' links are, or why that is out of reach.
    pub(super) node: Result<Netns, String>,
    /// By tcx, as far as known.
    pub(super) by_tcx: bool,
    /// tcx must do.
    pub(super) only_tcx: bool,
    /// By cookie.
    pub(super) pods: HashMap<u64, Guarded>,
}

/// A pod that this process guards.
#[derive(Default)]
pub(super) struct Guarded {
    pub(super) at: Vec<Interface>,
    /// What was told of it.
    flags: Option<u32>,
    pub(super) problem: Option<String>,
}

impl Guards {
    pub(super) fn take(ebpf: &mut Ebpf, config: &KernelConfig) -> Result<Self, KernelError> {
        let hook = config.guard_hook;
        let node = Netns::open(&config.node_network).map_err(|error| explain(&error));
        if let Err(problem) = &node {
            tracing::error!(
                problem,
                "cannot look into the node's network namespace: pods' links are not guarded"
            );
        }
        Ok(Self {
            maps: GuardMaps::take(ebpf, &config.sizes)?,
            node,
            by_tcx: hook != GuardHook::Clsact,
            only_tcx: hook == GuardHook::Tcx,
            pods: HashMap::new(),
        })
    }

    /// The pods that any process has guarded and not let go.
    pub(super) fn known(&self) -> Result<Vec<u64>, KernelError> {
        self.maps.cookies()
    }

    /// Whether the maps hold what this process has told them of a pod.
    pub(super) fn is_as_told(&self, cookie: u64) -> Result<bool, KernelError> {
        let Some(guarded) = self.pods.get(&cookie) else {
            return Ok(true);
        };
        let is_there = self
            .maps
            .guard(cookie)?
            .is_some_and(|guard| guarded.flags.is_none_or(|flags| flags == guard.flags));
        for at in &guarded.at {
            if let Interface::Node(index) = at
                && self.maps.owner(*index)? != Some(cookie)
            {
                return Ok(false);
            }
        }
        Ok(is_there && self.maps.dropped(cookie)?.is_some())
    }

    /// The pods that have lost a filter of clsact.
    pub(super) fn lost_filters(&self) -> Vec<u64> {
        let Some(node) = self.node.as_ref().ok().filter(|_| !self.by_tcx) else {
            return Vec::new();
        };
        let has_lost = |guarded: &Guarded| {
            let mut on_node = guarded.at.iter().filter(|at| matches!(at, Interface::Node(_)));
            on_node.any(|at| !clsact::is_attached(at.index()).unwrap_or(true))
        };
        let look = || {
            let lost = self.pods.iter().filter(|(_, guarded)| has_lost(guarded));
            lost.map(|(cookie, _)| *cookie).collect()
        };
        node.run(look).unwrap_or_default()
    }

    pub(super) fn node(&self) -> Result<&Netns, KernelError> {
        let out_of_reach = |problem: &String| KernelError::Invalid(format!("the node's network namespace: {problem}"));
        self.node.as_ref().map_err(out_of_reach)
    }

    pub(super) fn in_node<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let node = self
            .node
            .as_ref()
            .map_err(|problem| io::Error::other(problem.clone()))?;
        node.run(work).map_err(io::Error::other)?
    }
}

impl Kernel {
    /// Says which ports of a guarded pod are strict. Nothing happens for a pod that is not guarded.
    ///
    /// # Errors
    /// A failing system call, more exceptions than there is room for. All ports are strict then.
    pub fn set_strictness(&mut self, cookie: u64, told: &Strictness) -> Result<(), KernelError> {
        let Guards { maps, pods, .. } = &mut self.guards;
        let (Some(guarded), Some(before)) = (pods.get_mut(&cookie), maps.guard(cookie)?) else {
            return Ok(());
        };
        let strict = if told.strict { Guard::STRICT } else { 0 };
        let whole = if told.exceptions.is_empty() { Guard::WHOLE } else { 0 };
        let flags = strict | whole;
        guarded.flags = Some(flags);
        if before.flags == flags && (whole != 0 || maps.ports(cookie)? == told.exceptions) {
            return Ok(());
        }
        // While the exceptions change, none counts: what is dropped meanwhile comes again in a second.
        for flags in [Guard::STRICT | Guard::WHOLE, flags] {
            maps.set_guard(cookie, Guard { flags, ..before })?;
            maps.set_ports(cookie, &told.exceptions)?;
        }
        Ok(())
    }

    /// How a pod is guarded.
    ///
    /// # Errors
    /// A failing system call.
    pub fn guard_status(&self, cookie: u64) -> Result<GuardStatus, KernelError> {
        let Some(guarded) = self.guards.pods.get(&cookie) else {
            return Ok(GuardStatus::default());
        };
        let maps = &self.guards.maps;
        let strictness = match maps.guard(cookie)? {
            Some(guard) => Some(Strictness {
                strict: guard.flags & Guard::STRICT != 0,
                exceptions: match guard.flags & Guard::WHOLE {
                    0 => maps.ports(cookie)?,
                    _ => BTreeSet::new(),
                },
            }),
            None => None,
        };
        Ok(GuardStatus {
            interfaces: guarded.at.len(),
            strictness: strictness.filter(|_| !guarded.at.is_empty()),
            dropped: maps.dropped(cookie)?.map_or(0, |dropped| dropped.count),
            problem: guarded.problem.clone(),
        })
    }

    /// What guards have dropped that this was not asked about yet, by this process or one before it.
    ///
    /// # Errors
    /// A failing system call.
    pub fn newly_dropped(&mut self) -> Result<Vec<NewlyDropped>, KernelError> {
        let Guards { maps, pods, .. } = &mut self.guards;
        let mut all = Vec::new();
        for cookie in pods.keys() {
            let (Some(guard), Some(dropped)) = (maps.guard(*cookie)?, maps.dropped(*cookie)?) else {
                continue;
            };
            let Dropped {
                count,
                source,
                source_port,
                port,
            } = dropped;
            if count == guard.logged {
                continue;
            }
            maps.set_guard(*cookie, Guard { logged: count, ..guard })?;
            // The programs write no more than 16 bits.
            let last = (!source.is_none()).then(|| (SocketAddr::new(source.into(), source_port as u16), port as u16));
            all.push(NewlyDropped {
                pod: self.names.get(*cookie),
                count: count.saturating_sub(guard.logged),
                last,
            });
        }
        Ok(all)
    }
}

/// An error with its causes.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
