//! The pods of this node, by uid and by address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use culvert_state::Pod;

#[derive(Debug, Default)]
pub(super) struct Pods {
    by_uid: HashMap<Arc<str>, Arc<Pod>>,
    /// The newest last: for a while, a pod may have the address of one that goes.
    by_address: HashMap<IpAddr, Vec<Arc<Pod>>>,
}

impl Pods {
    /// Adds a pod, in place of what was known of the same uid.
    pub(super) fn add(&mut self, pod: Arc<Pod>) {
        self.remove(&pod.uid);
        for address in &pod.addresses {
            self.by_address.entry(*address).or_default().push(Arc::clone(&pod));
        }
        self.by_uid.insert(Arc::clone(&pod.uid), pod);
    }

    pub(super) fn remove(&mut self, uid: &str) {
        let Some(pod) = self.by_uid.remove(uid) else { return };
        for address in &pod.addresses {
            if let Some(pods) = self.by_address.get_mut(address) {
                pods.retain(|other| *other.uid != *uid);
                if pods.is_empty() {
                    self.by_address.remove(address);
                }
            }
        }
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.by_uid.get(uid)
    }

    /// The pod with an address.
    pub(super) fn at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        self.by_address.get(&address)?.last()
    }
}
