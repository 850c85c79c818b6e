//! The names of attachments: what is attached where, as their pins' file names tell the next agent.

use super::sys::Hook;

const POD: &str = "pod-";
const GUARD: &str = "guard-";
const GETSOCKOPT: &str = "getsockopt-";
const SETSOCKOPT: &str = "setsockopt-";

/// A pin's name, without the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// One on the node, by the program's name.
    Node(&'static str),
    /// `sk_lookup` of the pod with this cookie.
    Pod(u64),
    /// The guard on one of a pod's links.
    Guard(GuardName),
    /// `getsockopt` on the cgroup with this identifier.
    Getsockopt(u64),
    /// `setsockopt` on the cgroup with this identifier.
    Setsockopt(u64),
}

/// Which guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GuardName {
    /// The cookie of the pod.
    pub(super) cookie: u64,
    pub(super) at: Interface,
}

/// Where a guard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    /// The node's end of the pod's link, by its index.
    Node(u32),
    /// An interface inside the pod, by its index.
    Pod(u32),
}

impl Interface {
    /// Where a packet to the pod passes.
    pub(super) fn hook(self) -> Hook {
        match self {
            Self::Node(_) => Hook::TcxEgress,
            Self::Pod(_) => Hook::TcxIngress,
        }
    }

    pub(super) fn index(self) -> u32 {
        let (Self::Node(index) | Self::Pod(index)) = self;
        index
    }

    fn side(self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Pod(_) => "pod",
        }
    }
}

impl Name {
    pub(super) fn file(&self) -> String {
        match self {
            Self::Node(program) => (*program).to_owned(),
            Self::Pod(cookie) => format!("{POD}{cookie}"),
            Self::Guard(GuardName { cookie, at }) => format!("{GUARD}{cookie}-{}-{}", at.side(), at.index()),
            Self::Getsockopt(id) => format!("{GETSOCKOPT}{id}"),
            Self::Setsockopt(id) => format!("{SETSOCKOPT}{id}"),
        }
    }

    pub(super) fn of_pod(file: &str) -> Option<Self> {
        Some(Self::Pod(file.strip_prefix(POD)?.parse().ok()?))
    }

    pub(super) fn of_guard(file: &str) -> Option<GuardName> {
        let mut parts = file.strip_prefix(GUARD)?.split('-');
        let (cookie, side, index) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?.parse().ok()?);
        let at = [Interface::Node(index), Interface::Pod(index)]
            .into_iter()
            .find(|at| at.side() == side)?;
        Some(GuardName { cookie, at })
    }

    pub(super) fn of_sockopt(file: &str) -> Option<Self> {
        let number = |prefix| file.strip_prefix(prefix).and_then(|text| text.parse().ok());
        let get = number(GETSOCKOPT).map(Self::Getsockopt);
        get.or_else(|| number(SETSOCKOPT).map(Self::Setsockopt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_found_again_by_the_name_of_its_pin() {
        for at in [Interface::Node(17), Interface::Pod(2)] {
            let guard = GuardName { cookie: 4711, at };
            assert_eq!(Name::of_guard(&Name::Guard(guard).file()), Some(guard));
        }
        for other in [
            "guard-",
            "guard-4711",
            "guard-4711-moon-2",
            "guard-4711-node-x",
            "pod-4711",
        ] {
            assert_eq!(Name::of_guard(other), None, "{other}");
        }
    }
}
