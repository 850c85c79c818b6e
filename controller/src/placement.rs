//! Which identities run on which node, kept up to date by what changed between two states: it is asked for every
//! certificate.

use std::sync::Arc;

use culvert_objects::{Kind, Objects, PersistentMap, Pod, service_account};

/// Pods by node and identity. A copy shares all of it.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// How many pods there are of each.
    pods: PersistentMap<Place, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    node: Arc<str>,
    namespace: Arc<str>,
    account: Arc<str>,
}

impl Placement {
    /// Takes a new state of the objects in. Objects are compared by pointer, as [`Objects::changed`] does.
    pub fn update(&mut self, before: &Objects, now: &Objects) {
        for name in before.changed(Kind::Pod, now) {
            let place = |objects: &Objects| objects.pods.get(&name).and_then(|pod| Place::of(pod));
            let (was, is) = (place(before), place(now));
            if was == is {
                continue;
            }
            if let Some(place) = was {
                self.leave(&place);
            }
            if let Some(place) = is {
                self.join(place);
            }
        }
    }

    /// Whether a pod of this service account is bound to the node, has a network of its own, and is not over.
    pub fn runs(&self, node: &str, namespace: &str, account: &str) -> bool {
        self.pods.contains_key(&Place {
            node: node.into(),
            namespace: namespace.into(),
            account: account.into(),
        })
    }

    fn join(&mut self, place: Place) {
        match self.pods.get_mut(&place) {
            Some(pods) => *pods += 1,
            None => drop(self.pods.insert(place, 1)),
        }
    }

    fn leave(&mut self, place: &Place) {
        match self.pods.get_mut(place) {
            Some(pods) if *pods > 1 => *pods -= 1,
            _ => drop(self.pods.remove(place)),
        }
    }
}

impl Place {
    /// Where a pod may speak for its identity. A pod on its node's network cannot be told from the node.
    fn of(pod: &Pod) -> Option<Self> {
        let is_placed = !pod.node.is_empty() && !pod.has_ended && !pod.is_host_network;
        is_placed.then(|| Self {
            node: Arc::clone(&pod.node),
            namespace: Arc::clone(&pod.name.namespace),
            account: match service_account(pod) {
                account if *account == *pod.service_account => Arc::clone(&pod.service_account),
                account => account.into(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use culvert_objects::{Assembly, Object, ObjectName};
    use proptest::prelude::*;

    use super::*;

    const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

    fn pod(name: u32, node: u32, account: u32, ended: bool) -> Object {
        let yaml = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{name}, namespace: shop}}\nspec: {{nodeName: n{node}, \
             serviceAccountName: a{account}}}\nstatus: {{phase: {}}}\n",
            if ended { "Failed" } else { "Running" }
        );
        culvert_objects::parse(&yaml, false).documents.pop().unwrap().object
    }

    proptest! {
        /// What a scan of all pods would find, after whatever changes.
        #[test]
        fn the_index_says_what_a_scan_of_all_pods_would(
            steps in proptest::collection::vec((0_u32..6, 0_u32..3, 0_u32..2, any::<bool>(), any::<bool>()), 1..40),
        ) {
            let mut assembly = Assembly::default();
            assembly.apply(culvert_objects::parse(SHOP, false).documents.pop().unwrap().object);
            let mut before = Objects::default();
            let mut placement = Placement::default();
            for (name, node, account, ended, there) in steps {
                if there {
                    assembly.apply(pod(name, node, account, ended));
                } else {
                    assembly.remove(Kind::Pod, &ObjectName::new("shop", format!("p{name}")));
                }
                let now = assembly.settle().0.clone();
                placement.update(&before, &now);
                for node in 0..3 {
                    for account in 0..2 {
                        let (node, account) = (format!("n{node}"), format!("a{account}"));
                        let mut pods = now.pods.values();
                        let scanned = pods.any(|p| *p.node == *node && *p.service_account == *account && !p.has_ended);
                        prop_assert_eq!(placement.runs(&node, "shop", &account), scanned);
                    }
                }
                before = now;
            }
        }
    }
}
