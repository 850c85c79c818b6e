//! The pods that the agent has handed over: their namespaces, listening sockets, and new sockets inside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

use culvert_net::{NetError, Netns, Visitor, dns, sockopt};
use culvert_proto::zds::{AddWorkload, Guard, SocketRole, workload_request::Payload};

use crate::wire::PodAdded;

/// Sockets that a pod gets before anybody has connected.
pub(super) const INITIAL_SOCKETS: u32 = 32;

/// Why a message of the agent, or a request for sockets, cannot be followed. The text goes back in the Ack.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    #[error("pod {0}: the message names no pod info")]
    NoInfo(String),
    #[error(
        "pod {uid}: {descriptors} descriptors came with {sockets} listening sockets; one more is needed, the namespace"
    )]
    Descriptors {
        uid: String,
        descriptors: usize,
        sockets: usize,
    },
    #[error("pod {0}: no listening sockets; this proxy speaks CULVERT_V1 and opens none by itself")]
    NoSockets(String),
    #[error("pod {0}: an address that is not four or sixteen bytes long")]
    Address(String),
    #[error("pod {0}: this proxy does not have it")]
    Unknown(String),
    #[error("pod {uid}: {source}")]
    Namespace { uid: String, source: NetError },
    #[error("pod {uid}: {source}")]
    Socket { uid: String, source: std::io::Error },
}

/// What the worker must be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// These of the pod's listeners are new.
    Added {
        uid: String,
        listeners: std::ops::Range<usize>,
    },
    Removed {
        uid: String,
    },
}

/// A pod and what is open in it.
pub(super) struct Pod {
    description: PodAdded,
    netns: Netns,
    listeners: Vec<OwnedFd>,
    /// Which of its ports are strict, as the worker said last; kept for the next agent.
    guard: Option<Guard>,
}

impl Pod {
    pub(super) fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    pub(super) fn description(&self) -> &PodAdded {
        &self.description
    }

    pub(super) fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        crate::wire::borrow(&self.listeners)
    }

    /// The description with the roles of some listeners alone.
    pub(super) fn description_of(&self, listeners: &std::ops::Range<usize>) -> PodAdded {
        PodAdded {
            roles: self.description.roles[listeners.clone()].to_vec(),
            ..self.description.clone()
        }
    }

    pub(super) fn listeners_in(&self, listeners: &std::ops::Range<usize>) -> Vec<BorrowedFd<'_>> {
        crate::wire::borrow(&self.listeners[listeners.clone()])
    }
}

/// All pods, by uid.
#[derive(Default)]
pub(super) struct Pods {
    pods: BTreeMap<String, Pod>,
    /// Pods that the agent has named since it connected; none once its snapshot is complete.
    named: Option<BTreeSet<String>>,
    /// Makes sockets in them, from the first that is asked for; none where it cannot be had.
    visitor: OnceLock<Option<Visitor>>,
}

impl Pods {
    /// A new connection to the agent: what it does not name until its snapshot is complete no longer exists.
    pub(super) fn begin_snapshot(&mut self) {
        self.named = Some(BTreeSet::new());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    pub(super) fn uids(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Pod> {
        self.pods.get(uid)
    }

    /// Follows one message of the agent.
    pub(super) fn apply(&mut self, payload: Payload, descriptors: Vec<OwnedFd>) -> Result<Vec<Change>, PodError> {
        match payload {
            Payload::Add(add) => {
                let uid = add.uid.clone();
                let changes = self.add(add, descriptors)?;
                self.name(uid);
                Ok(changes)
            }
            Payload::Keep(keep) => {
                if !self.pods.contains_key(&keep.uid) {
                    return Err(PodError::Unknown(keep.uid));
                }
                self.name(keep.uid);
                Ok(vec![])
            }
            // The monitor's, not a pod's.
            Payload::Successor(_)
            | Payload::Serving(_)
            | Payload::SameNode(_)
            | Payload::SameNodeUnused(_)
            | Payload::SameNodeEnded(_) => Ok(vec![]),
            Payload::Del(del) => match self.pods.remove(&del.uid) {
                Some(_) => Ok(vec![Change::Removed { uid: del.uid }]),
                None => Ok(vec![]),
            },
            Payload::SnapshotSent(_) => {
                let Some(named) = self.named.take() else {
                    return Ok(vec![]);
                };
                let gone: Vec<String> = self.pods.keys().filter(|uid| !named.contains(*uid)).cloned().collect();
                self.pods.retain(|uid, _| named.contains(uid));
                Ok(gone.into_iter().map(|uid| Change::Removed { uid }).collect())
            }
        }
    }

    fn name(&mut self, uid: String) {
        if let Some(named) = &mut self.named {
            named.insert(uid);
        }
    }

    fn add(&mut self, add: AddWorkload, descriptors: Vec<OwnedFd>) -> Result<Vec<Change>, PodError> {
        let uid = add.uid;
        let Some(info) = add.workload_info else {
            return Err(PodError::NoInfo(uid));
        };
        if add.sockets.is_empty() || add.sockets.contains(&(SocketRole::Unspecified as i32)) {
            return Err(PodError::NoSockets(uid));
        }
        if descriptors.len() != add.sockets.len() + 1 {
            return Err(PodError::Descriptors {
                uid,
                descriptors: descriptors.len(),
                sockets: add.sockets.len(),
            });
        }
        if add.addresses.iter().any(|address| !matches!(address.len(), 4 | 16)) {
            return Err(PodError::Address(uid));
        }
        let mut descriptors = descriptors.into_iter();
        let netns = match descriptors.next() {
            Some(netns) => Netns::from_fd(netns).map_err(|source| PodError::Namespace {
                uid: uid.clone(),
                source,
            })?,
            None => return Err(PodError::NoSockets(uid)),
        };
        let (mut roles, mut listeners, mut guard) = (Vec::new(), Vec::new(), None);
        let mut changes = Vec::new();
        // The agent restarted and made new listeners: connections may still wait in the earlier ones, so they stay.
        if let Some(earlier) = self.pods.remove(&uid) {
            let is_same = netns
                .inode()
                .is_ok_and(|new| earlier.netns.inode().is_ok_and(|old| old == new));
            if is_same {
                (roles, listeners, guard) = (earlier.description.roles, earlier.listeners, earlier.guard);
            } else {
                // Another pod under the same uid: the worker must not use the sockets that it has in the old namespace.
                changes.push(Change::Removed { uid: uid.clone() });
            }
        }
        let first = listeners.len();
        roles.extend(add.sockets);
        listeners.extend(descriptors);
        let description = PodAdded {
            uid: uid.clone(),
            name: info.name,
            namespace: info.namespace,
            service_account: info.service_account,
            addresses: add.addresses,
            roles,
        };
        changes.push(Change::Added {
            uid: uid.clone(),
            listeners: first..listeners.len(),
        });
        self.pods.insert(
            uid,
            Pod {
                description,
                netns,
                listeners,
                guard,
            },
        );
        Ok(changes)
    }

    /// Notes which ports of a pod are strict. Returns it if the agent has not been told.
    pub(super) fn set_guard(&mut self, guard: Guard) -> Option<Guard> {
        let pod = self.pods.get_mut(&guard.uid)?;
        let is_news = pod.guard.as_ref() != Some(&guard);
        pod.guard = Some(guard.clone());
        is_news.then_some(guard)
    }

    /// Makes unconnected sockets inside a pod; none when the pod is gone.
    pub(super) fn make_sockets(&self, uid: &str, count: u32) -> Result<Vec<OwnedFd>, PodError> {
        self.make(uid, move || {
            let has_prefix = sockopt::has_forwarding_prefix();
            let sockets = sockopt::tcp_stream_sockets(count)?;
            if has_prefix {
                for socket in &sockets {
                    sockopt::allow_forwarding_prefix(socket.as_fd())?;
                }
            }
            Ok(sockets)
        })
    }

    /// Makes sockets inside a pod to ask its resolvers with; none when the pod is gone.
    pub(super) fn make_datagrams(&self, uid: &str, count: u32) -> Result<Vec<OwnedFd>, PodError> {
        self.make(uid, move || (0..count).map(|_| dns::upstream_socket()).collect())
    }

    fn make(
        &self,
        uid: &str,
        make: impl Fn() -> std::io::Result<Vec<OwnedFd>> + Copy + Send + 'static,
    ) -> Result<Vec<OwnedFd>, PodError> {
        let Some(pod) = self.pods.get(uid) else {
            return Ok(vec![]);
        };
        let visitor = self.visitor.get_or_init(|| Visitor::start().ok());
        let made = match visitor.as_ref().map(|visitor| visitor.run(&pod.netns, make)) {
            // A thread for this time alone does it as well.
            None | Some(Err(NetError::Thread(_))) => pod.netns.run(make),
            Some(made) => made,
        };
        made.map_err(|source| PodError::Namespace {
            uid: uid.to_owned(),
            source,
        })?
        .map_err(|source| PodError::Socket {
            uid: uid.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use culvert_proto::zds::{DelWorkload, KeepWorkload, SnapshotSent, WorkloadInfo};

    use super::*;

    fn add(uid: &str, sockets: usize) -> (Payload, Vec<OwnedFd>) {
        let mut descriptors = vec![std::fs::File::open("/proc/self/ns/net").unwrap().into()];
        descriptors.extend((0..sockets).map(|_| OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap())));
        let payload = Payload::Add(AddWorkload {
            uid: uid.into(),
            workload_info: Some(WorkloadInfo {
                name: uid.into(),
                namespace: "ns".into(),
                service_account: "sa".into(),
            }),
            sockets: vec![SocketRole::Outbound as i32; sockets],
            addresses: vec![vec![198, 18, 0, 1]],
        });
        (payload, descriptors)
    }

    fn keep(uid: &str) -> Payload {
        Payload::Keep(KeepWorkload { uid: uid.into() })
    }

    #[test]
    fn a_snapshot_drops_the_pods_that_it_does_not_name() {
        let mut pods = Pods::default();
        for uid in ["a", "b"] {
            let (payload, descriptors) = add(uid, 1);
            pods.apply(payload, descriptors).unwrap();
        }
        pods.begin_snapshot();
        pods.apply(keep("b"), vec![]).unwrap();
        let changes = pods.apply(Payload::SnapshotSent(SnapshotSent {}), vec![]).unwrap();
        assert_eq!(changes, [Change::Removed { uid: "a".into() }]);
        assert_eq!(pods.uids(), ["b"]);
    }

    #[test]
    fn listeners_of_a_restarted_agent_join_the_earlier_ones() {
        let mut pods = Pods::default();
        for expected in [0..2, 2..4] {
            let (payload, descriptors) = add("a", 2);
            let changes = pods.apply(payload, descriptors).unwrap();
            assert_eq!(
                changes,
                [Change::Added {
                    uid: "a".into(),
                    listeners: expected
                }]
            );
        }
        assert_eq!(
            pods.get("a").unwrap().listeners().len(),
            4,
            "the earlier listeners must stay open"
        );
    }

    #[test]
    fn which_ports_are_strict_is_kept_for_the_next_agent_and_said_once() {
        let mut pods = Pods::default();
        let guard = |strict| Guard {
            uid: "a".into(),
            strict,
            exceptions: vec![],
        };
        assert_eq!(pods.set_guard(guard(true)), None, "of a pod that is not here");
        let (payload, descriptors) = add("a", 1);
        pods.apply(payload, descriptors).unwrap();
        assert_eq!(pods.set_guard(guard(true)), Some(guard(true)));
        // The next worker says it again; the next agent sends the pod again.
        assert_eq!(pods.set_guard(guard(true)), None);
        let (payload, descriptors) = add("a", 1);
        pods.apply(payload, descriptors).unwrap();
        assert_eq!(pods.get("a").unwrap().guard(), Some(&guard(true)));
        assert_eq!(pods.set_guard(guard(false)), Some(guard(false)));
    }

    #[test]
    fn sockets_of_one_namespace_are_not_used_for_a_pod_in_another() {
        let mut pods = Pods::default();
        let (payload, descriptors) = add("a", 2);
        pods.apply(payload, descriptors).unwrap();
        let (payload, mut descriptors) = add("a", 1);
        let elsewhere = std::thread::spawn(|| {
            // SAFETY: a thread of its own, which shares no descriptor table or file system state that this changes.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        descriptors[0] = elsewhere.join().unwrap().into();
        let added = Change::Added {
            uid: "a".into(),
            listeners: 0..1,
        };
        assert_eq!(
            pods.apply(payload, descriptors).unwrap(),
            [Change::Removed { uid: "a".into() }, added]
        );
    }

    #[test]
    fn bad_messages_name_the_pod_and_change_nothing() {
        let mut pods = Pods::default();
        let (payload, mut descriptors) = add("short", 2);
        descriptors.pop();
        let error = pods.apply(payload, descriptors).unwrap_err();
        assert!(error.to_string().contains("short"), "{error}");

        let (payload, mut descriptors) = add("not-a-namespace", 1);
        descriptors[0] = std::fs::File::open("/dev/null").unwrap().into();
        assert!(matches!(
            pods.apply(payload, descriptors),
            Err(PodError::Namespace { .. })
        ));

        let (payload, descriptors) = add("bare", 0);
        assert!(matches!(pods.apply(payload, descriptors), Err(PodError::NoSockets(_))));
        assert!(matches!(
            pods.apply(keep("stranger"), vec![]),
            Err(PodError::Unknown(_))
        ));
        assert_eq!(
            pods.apply(Payload::Del(DelWorkload { uid: "stranger".into() }), vec![])
                .unwrap(),
            []
        );
        assert!(pods.uids().is_empty(), "nothing may have been taken in");
    }
}
