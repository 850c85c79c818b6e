//! What should be, compared with what is, on a beat and when a pin changes: programs, pins, entries of maps, listeners and
//! settings of pods. What differs is put right, counted and shown.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use culvert_net::sockopt::FORWARDING_PREFIX;

use super::{Reconciler, entry::Entry, plan::Phase};
use crate::{
    handover::ports,
    kernel::{Found, Kind},
};

/// Looks between two at the settings of pods' network namespaces, each of which must be entered.
const LOOKS_PER_SETTINGS: u32 = 5;

/// What was found wrong so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// How often something was put right, by what it was.
    pub repaired: BTreeMap<&'static str, u64>,
    /// The last of these.
    pub last: Option<Found>,
    /// What is wrong and could not be put right, as of the last look.
    pub failed: Vec<Found>,
}

impl Upkeep {
    fn repaired(&mut self, found: Found) {
        tracing::warn!(
            kind = found.kind.as_str(),
            what = found.what,
            "was not as it should be: repaired"
        );
        *self.repaired.entry(found.kind.as_str()).or_default() += 1;
        self.last = Some(found);
    }

    fn failed(&mut self, before: &[Found], found: Found) {
        if !before.contains(&found) {
            tracing::error!(
                kind = found.kind.as_str(),
                what = found.what,
                "is not as it should be, and cannot be repaired"
            );
        }
        self.failed.push(found);
    }
}

impl Reconciler {
    /// Compares everything with what is, and puts it right.
    pub(super) fn keep_up(&mut self) {
        let audit = self.kernel().audit();
        let before = std::mem::take(&mut self.upkeep.failed);
        for found in audit.repaired {
            self.upkeep.repaired(found);
        }
        for found in audit.failed {
            self.upkeep.failed(&before, found);
        }
        for (cookie, kind) in audit.pods {
            let by_cookie = |entry: &&Entry| entry.cookie() == Some(cookie);
            let Some(uid) = self.pods.values().find(by_cookie).map(|entry| entry.spec.uid.clone()) else {
                continue;
            };
            self.enrol_again(&uid, kind, &before);
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(LOOKS_PER_SETTINGS) {
            self.restore_settings();
        }
    }

    fn enrol_again(&mut self, uid: &Arc<str>, kind: Kind, before: &[Found]) {
        let Some(entry) = self.pods.get(uid) else { return };
        let is_listener = kind == Kind::Map
            && entry.cookie().is_some_and(|cookie| {
                let kernel = self.kernel();
                kernel.is_enrolled(cookie).unwrap_or(false) && !kernel.listening(cookie).unwrap_or(true)
            });
        let kind = if is_listener { Kind::Listener } else { kind };
        let what = format!("pod {}", entry.spec.name);
        match self.tell_kernel(uid) {
            Ok(()) => self.upkeep.repaired(Found { kind, what }),
            Err(problem) => self.upkeep.failed(
                before,
                Found {
                    kind,
                    what: format!("{what}: {problem}"),
                },
            ),
        }
    }

    /// Settings that the way in made, and that something in the pod may have undone.
    fn restore_settings(&mut self) {
        let captured = self.pods.values().filter(|entry| entry.phase == Phase::Captured);
        let changed: Vec<String> = captured
            .filter(|entry| !self.is_self_listening() && entry.listeners.is_some())
            .filter_map(|entry| {
                let place = entry.place.as_ref()?;
                let restored = place.netns.run(ports::restore);
                matches!(restored, Ok(Ok(true))).then(|| format!("pod {}", entry.spec.name))
            })
            .collect();
        for what in changed {
            let kind = Kind::Sysctl;
            self.upkeep.repaired(Found { kind, what });
        }
    }
}

/// Whether a proxy connects to applications of a pod from there.
pub(super) fn is_forwarding_source(address: IpAddr) -> bool {
    let (prefix, bits) = FORWARDING_PREFIX;
    match address {
        IpAddr::V6(address) => (address.to_bits() ^ prefix.to_bits()) >> (128 - u32::from(bits)) == 0,
        IpAddr::V4(_) => false,
    }
}
