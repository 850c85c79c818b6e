//! What must be done so that the pods that are become the pods that should be. No I/O.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use crate::source::PodSpec;

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Something went wrong; it is tried again.
    Failed,
    /// On its way in: not captured yet.
    Entering,
    /// Captured.
    Captured,
    /// On its way out: outbound capture is off, or all of it.
    Leaving,
}

/// A pod that is being, or has been, enrolled.
pub(super) trait Known {
    fn spec(&self) -> &PodSpec;
    fn phase(&self) -> Phase;
}

/// One step. They are to be taken in the order given: who leaves makes room for who comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Forget the pod at once: its place is taken, or there is nothing to be gentle with.
    Remove(Arc<str>),
    /// Begin to let the pod out.
    Leave(Arc<str>),
    /// Bring the pod in.
    Enter(PodSpec),
    /// Something about a pod that is in has changed, but not its network namespace.
    Update(PodSpec),
    /// Keep a pod that was on its way out.
    Return(PodSpec),
}

/// A pod that cannot come in as things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) spec: PodSpec,
    pub(super) problem: String,
}

/// See [`plan`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) refused: Vec<Refusal>,
}

/// Compares. Where two pods claim the same uid, address or namespace, the one that has it keeps it; between newcomers the
/// first by name gets it. The other is refused.
pub(super) fn plan<K: Known>(wanted: &[PodSpec], known: &BTreeMap<Arc<str>, K>) -> Plan {
    let mut claims = Claims::default();
    let mut refused = Vec::new();
    let mut accepted = Vec::new();
    let mut order: Vec<&PodSpec> = wanted.iter().collect();
    order.sort_by_key(|spec| (!is_in(known.get(&spec.uid), spec), &spec.name));
    for spec in order {
        match claims.claim(spec) {
            Ok(()) => accepted.push(spec),
            Err(problem) => refused.push(Refusal {
                spec: spec.clone(),
                problem,
            }),
        }
    }

    let (mut removals, mut leaves, mut arrivals) = (Vec::new(), Vec::new(), Vec::new());
    let kept: HashSet<&str> = accepted.iter().map(|spec| &*spec.uid).collect();
    for (uid, pod) in known {
        let is_taken = claims.overlap(pod.spec());
        match pod.phase() {
            _ if kept.contains(&**uid) => {}
            Phase::Failed => removals.push(Action::Remove(uid.clone())),
            _ if is_taken => removals.push(Action::Remove(uid.clone())),
            Phase::Entering | Phase::Captured => leaves.push(Action::Leave(uid.clone())),
            Phase::Leaving => {}
        }
    }
    for spec in accepted {
        let Some(pod) = known.get(&spec.uid) else {
            arrivals.push(Action::Enter(spec.clone()));
            continue;
        };
        match pod.phase() {
            Phase::Failed => arrivals.push(Action::Enter(spec.clone())),
            _ if pod.spec().netns != spec.netns => {
                removals.push(Action::Remove(spec.uid.clone()));
                arrivals.push(Action::Enter(spec.clone()));
            }
            Phase::Leaving => arrivals.push(Action::Return(spec.clone())),
            Phase::Entering | Phase::Captured if pod.spec() == spec => {}
            Phase::Entering | Phase::Captured => arrivals.push(Action::Update(spec.clone())),
        }
    }
    Plan {
        actions: [removals, leaves, arrivals].concat(),
        refused,
    }
}

/// Whether what the pod claims now is what it already has.
fn is_in<K: Known>(known: Option<&K>, spec: &PodSpec) -> bool {
    known.is_some_and(|pod| {
        let has = pod.spec();
        matches!(pod.phase(), Phase::Entering | Phase::Captured)
            && has.netns == spec.netns
            && spec.addresses.iter().all(|address| has.addresses.contains(address))
            && has.name == spec.name
    })
}

/// Who has what.
#[derive(Default)]
struct Claims<'a> {
    uids: HashMap<&'a str, &'a PodSpec>,
    addresses: HashMap<IpAddr, &'a PodSpec>,
    namespaces: HashMap<&'a Path, &'a PodSpec>,
}

impl<'a> Claims<'a> {
    fn claim(&mut self, spec: &'a PodSpec) -> Result<(), String> {
        if let Some(other) = self.uids.get(&*spec.uid) {
            return Err(format!("uid {} is that of pod {} already", spec.uid, other.name));
        }
        if let Some((address, other)) = spec
            .addresses
            .iter()
            .find_map(|address| self.addresses.get_key_value(address))
        {
            return Err(format!("address {address} belongs to pod {} already", other.name));
        }
        if let Some(other) = self.namespaces.get(spec.netns.as_path()) {
            return Err(format!(
                "network namespace {} is that of pod {} already",
                spec.netns.display(),
                other.name
            ));
        }
        self.uids.insert(&spec.uid, spec);
        self.addresses
            .extend(spec.addresses.iter().map(|address| (*address, spec)));
        self.namespaces.insert(&spec.netns, spec);
        Ok(())
    }

    fn overlap(&self, spec: &PodSpec) -> bool {
        self.namespaces.contains_key(spec.netns.as_path())
            || spec
                .addresses
                .iter()
                .any(|address| self.addresses.contains_key(address))
    }
}

#[cfg(test)]
mod tests;
