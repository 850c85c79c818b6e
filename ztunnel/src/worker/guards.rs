//! Which ports of the node's pods are strict, for the agent, which guards the pods' links while no proxy looks.

use std::{collections::HashMap, sync::Arc};

use culvert_policy::Strictness;
use culvert_proto::zds::Guard;
use culvert_state::{Mesh, Pod};

/// What was said of each pod.
#[derive(Debug, Default)]
pub(super) struct Guards {
    pods: HashMap<Arc<str>, (Arc<Pod>, Option<Strictness>)>,
    /// Of the policies that were looked at.
    generation: u64,
}

impl Guards {
    /// A pod to speak of. Nothing has been said of it.
    pub(super) fn add(&mut self, pod: Arc<Pod>) {
        self.pods.insert(Arc::clone(&pod.uid), (pod, None));
    }

    pub(super) fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// What is to be said now.
    pub(super) fn news(&mut self, mesh: &Mesh) -> Vec<Guard> {
        let generation = mesh.policy_generation();
        let has_changed = std::mem::replace(&mut self.generation, generation) != generation;
        let mut news = Vec::new();
        for (pod, said) in self.pods.values_mut() {
            if said.is_some() && !has_changed {
                continue;
            }
            let Some(now) = mesh.strictness(pod) else { continue };
            if said.as_ref() != Some(&now) {
                news.push(Guard {
                    uid: pod.uid.to_string(),
                    strict: now.strict,
                    exceptions: now.exceptions.iter().copied().map(u32::from).collect(),
                });
                *said = Some(now);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use culvert_identity::SpiffeId;
    use culvert_policy::istio::{Mode, Mtls};
    use culvert_proto::security::Scope;
    use culvert_state::Store;
    use prost::Message as _;

    use super::*;

    #[test]
    fn what_is_known_is_said_once_and_again_when_it_changes() {
        let mut guards = Guards::default();
        guards.add(Arc::new(Pod {
            uid: "uid".into(),
            name: "a".into(),
            namespace: "shop".into(),
            identity: SpiffeId::new("cluster.local", "shop", "a").unwrap(),
            addresses: vec!["198.18.0.1".parse().unwrap()],
            node: "node1".into(),
        }));
        let mut store = Store::new("", "cluster.local", false);
        assert_eq!(guards.news(&store.snapshot()), [], "nothing is known yet");
        store.set_synced();
        let said = |strict: bool, exceptions: &[u32]| Guard {
            uid: "uid".into(),
            strict,
            exceptions: exceptions.to_vec(),
        };
        assert_eq!(guards.news(&store.snapshot()), [said(false, &[])]);
        assert_eq!(guards.news(&store.snapshot()), []);
        let mtls = Mtls {
            mode: Mode::Strict,
            exceptions: [80].into(),
        };
        let mut policy = mtls.policy("shop", "strict").unwrap();
        policy.scope = Scope::Namespace.into();
        store.put_policy("shop/strict", &policy.encode_to_vec()).unwrap();
        assert_eq!(guards.news(&store.snapshot()), [said(true, &[80])]);
        policy.dry_run = true;
        store.put_policy("shop/strict", &policy.encode_to_vec()).unwrap();
        assert_eq!(guards.news(&store.snapshot()), [said(false, &[])]);
        guards.remove("uid");
        store.remove_policy("shop/strict");
        assert_eq!(guards.news(&store.snapshot()), []);
    }
}
