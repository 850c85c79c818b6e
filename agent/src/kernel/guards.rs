//! What is known of guards: who is guarded where, which ports are strict, what was dropped.
//!
//! Which ports are strict is the proxy's word ([`Guards::set_strictness`]). Until it is there, all are. It lies in maps that outlive
//! this process and its version, and so does the number of what was dropped.

use super::{KernelConfig, KernelError, clsact, config::GuardHook, guard_maps::GuardMaps, names::Interface};
use aya::Ebpf;
use culvert_abi::Guard;
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
    maps: GuardMaps,
    /// Where the other ends of pods' links are, or why that is out of reach.
    node: Result<Netns, String>,
    hook: GuardHook,
    /// By cookie.
    pods: HashMap<u64, Guarded>,
}

/// A pod that this process guards.
#[derive(Default)]
struct Guarded {
    at: Vec<Interface>,
    /// What was told of it.
    told: Option<Strictness>,
    problem: Option<String>,
}

impl Guards {
    pub(super) fn take(ebpf: &mut Ebpf, config: &KernelConfig) -> Result<Self, KernelError> {
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
            hook: config.guard_hook,
            pods: HashMap::new(),
        })
    }

    /// The pods that any process has guarded and not let go.
    pub(super) fn known(&self) -> Result<Vec<u64>, KernelError> {
        self.maps.cookies()
    }

    /// How guards are attached, as far as known by now.
    pub(super) fn hook(&self) -> GuardHook {
        self.hook
    }

    /// The kernel has no tcx.
    pub(super) fn fall_back(&mut self) {
        tracing::info!("the kernel has no tcx: pods' links are guarded by filters of clsact");
        self.hook = GuardHook::Clsact;
    }

    /// The node's network namespace, if that is within reach.
    pub(super) fn node(&self) -> Result<&Netns, KernelError> {
        let out_of_reach = |problem: &String| KernelError::Invalid(format!("the node's network namespace: {problem}"));
        self.node.as_ref().map_err(out_of_reach)
    }

    /// Does something in the node's network namespace.
    pub(super) fn in_node<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let node = self.node().map_err(io::Error::other)?;
        node.run(work).map_err(io::Error::other)?
    }

    /// Makes the entries of a pod: strict as a whole, unless something is known of it.
    pub(super) fn open(&mut self, cookie: u64) -> Result<(), KernelError> {
        self.maps.open(cookie)
    }

    /// Lets the programs know whose link a link is, before they judge the first packet there.
    pub(super) fn claim(&mut self, link: u32, cookie: u64) -> Result<(), KernelError> {
        self.maps.set_owner(link, cookie)
    }

    /// The node's ends of links that are known to be a pod's.
    pub(super) fn claimed(&self, cookie: u64) -> Result<Vec<u32>, KernelError> {
        self.maps.links_of(cookie)
    }

    /// Makes the programs forget a link.
    pub(super) fn give_up(&mut self, link: u32) -> Result<(), KernelError> {
        self.maps.remove_owner(link)
    }

    /// Whether this process has guarded a pod there.
    pub(super) fn holds(&self, cookie: u64, at: Interface) -> bool {
        self.pods.get(&cookie).is_some_and(|guarded| guarded.at.contains(&at))
    }

    /// Notes where a pod is guarded now.
    pub(super) fn set_places(&mut self, cookie: u64, at: Vec<Interface>) {
        self.pods.entry(cookie).or_default().at = at;
    }

    /// Notes what is wrong with a pod's guard, and says what is new.
    pub(super) fn set_problem(&mut self, cookie: u64, pod: &str, problem: Option<String>) {
        let guarded = self.pods.entry(cookie).or_default();
        if let Some(problem) = problem.as_ref().filter(|new| guarded.problem.as_ref() != Some(*new)) {
            tracing::warn!(pod, problem, "the pod's link is not guarded");
        }
        guarded.problem = problem;
    }

    /// Forgets a pod whose links are not guarded any more.
    pub(super) fn close(&mut self, cookie: u64) -> Result<(), KernelError> {
        self.pods.remove(&cookie);
        self.maps.close(cookie)
    }

    /// Whether the maps hold what this process has told them of a pod. One that could not be guarded was told nothing.
    pub(super) fn is_as_told(&self, cookie: u64) -> Result<bool, KernelError> {
        let Some(guarded) = self.pods.get(&cookie).filter(|guarded| !guarded.at.is_empty()) else {
            return Ok(true);
        };
        let (Some(guard), Some(_)) = (self.maps.guard(cookie)?, self.maps.dropped(cookie)?) else {
            return Ok(false);
        };
        for at in &guarded.at {
            if let Interface::Node(index) = at
                && self.maps.owner(*index)? != Some(cookie)
            {
                return Ok(false);
            }
        }
        match &guarded.told {
            Some(told) => self.holds_strictness(cookie, guard, told),
            None => Ok(true),
        }
    }

    fn holds_strictness(&self, cookie: u64, guard: Guard, told: &Strictness) -> Result<bool, KernelError> {
        if guard.flags != told.flags() {
            return Ok(false);
        }
        for port in &told.exceptions {
            if !self.maps.has_port(cookie, *port)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// See [`Kernel::set_strictness`](super::Kernel::set_strictness).
    pub(super) fn set_strictness(&mut self, cookie: u64, told: &Strictness) -> Result<(), KernelError> {
        let known = self.known_strictness(cookie)?;
        let (Some(guarded), Some(guard)) = (self.pods.get_mut(&cookie), self.maps.guard(cookie)?) else {
            return Ok(());
        };
        guarded.told = Some(told.clone());
        if known.as_ref() == Some(told) {
            return Ok(());
        }
        // While the exceptions change, none counts: what is dropped meanwhile comes again in a second.
        for flags in [Strictness::UNKNOWN.flags(), told.flags()] {
            self.maps.set_guard(cookie, Guard { flags, ..guard })?;
            self.maps.set_ports(cookie, &told.exceptions)?;
        }
        Ok(())
    }

    /// How a pod is guarded.
    pub(super) fn status(&self, cookie: u64) -> Result<GuardStatus, KernelError> {
        let Some(guarded) = self.pods.get(&cookie) else {
            return Ok(GuardStatus::default());
        };
        let strictness = match &guarded.told {
            _ if guarded.at.is_empty() => None,
            Some(told) => Some(told.clone()),
            None => self.known_strictness(cookie)?,
        };
        Ok(GuardStatus {
            interfaces: guarded.at.len(),
            strictness,
            dropped: self.maps.dropped(cookie)?.map_or(0, |dropped| dropped.count),
            problem: guarded.problem.clone(),
        })
    }

    /// As the programs know it.
    fn known_strictness(&self, cookie: u64) -> Result<Option<Strictness>, KernelError> {
        let Some(Guard { flags, .. }) = self.maps.guard(cookie)? else {
            return Ok(None);
        };
        let exceptions = match flags & Guard::WHOLE {
            0 => self.maps.ports(cookie)?,
            _ => BTreeSet::new(),
        };
        let strict = flags & Guard::STRICT != 0;
        Ok(Some(Strictness { strict, exceptions }))
    }

    /// What was dropped and not told of yet, by cookie; the names are the caller's to add.
    pub(super) fn newly_dropped(&mut self) -> Result<Vec<(u64, NewlyDropped)>, KernelError> {
        let mut all = Vec::new();
        for cookie in self.pods.keys() {
            let (Some(guard), Some(dropped)) = (self.maps.guard(*cookie)?, self.maps.dropped(*cookie)?) else {
                continue;
            };
            if dropped.count == guard.logged {
                continue;
            }
            let logged = dropped.count;
            self.maps.set_guard(*cookie, Guard { logged, ..guard })?;
            // The programs write no more than 16 bits.
            let source = SocketAddr::new(dropped.source.into(), dropped.source_port as u16);
            let newly = NewlyDropped {
                pod: String::new(),
                count: logged.saturating_sub(guard.logged),
                last: (!dropped.source.is_none()).then_some((source, dropped.port as u16)),
            };
            all.push((*cookie, newly));
        }
        Ok(all)
    }

    /// The pods that have lost a filter of clsact.
    pub(super) fn lost_filters(&self) -> Vec<u64> {
        if self.hook != GuardHook::Clsact {
            return Vec::new();
        }
        let has_lost = |guarded: &Guarded| {
            let mut on_node = guarded.at.iter().filter(|at| matches!(at, Interface::Node(_)));
            on_node.any(|at| !clsact::is_attached(at.index()).unwrap_or(true))
        };
        let look = || {
            let lost = self.pods.iter().filter(|(_, guarded)| has_lost(guarded));
            Ok(lost.map(|(cookie, _)| *cookie).collect())
        };
        self.in_node(look).unwrap_or_default()
    }
}

impl Strictness {
    /// What holds for a pod of which nothing is known.
    const UNKNOWN: Self = Self {
        strict: true,
        exceptions: BTreeSet::new(),
    };

    fn flags(&self) -> u32 {
        let strict = if self.strict { Guard::STRICT } else { 0 };
        let whole = if self.exceptions.is_empty() { Guard::WHOLE } else { 0 };
        strict | whole
    }
}

/// An error with its causes.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
