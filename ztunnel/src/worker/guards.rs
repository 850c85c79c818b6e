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
