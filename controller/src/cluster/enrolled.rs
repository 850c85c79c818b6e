//! Which namespaces are in the mesh, and with how many pods. Kept up to date by what changed between two states, since a
//! large cluster always changes somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use culvert_objects::{Enrolment, Kind, ObjectName, Objects, Pod, enrolment, in_namespace};

/// How a namespace takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Membership {
    /// Whether its own label enrols its pods.
    pub(super) labelled: bool,
    /// Enrolled pods that have not ended.
    pub(super) running: usize,
    /// Enrolled pods.
    pub(super) pods: usize,
}

/// All namespaces that take part.
#[derive(Debug, Default)]
pub(super) struct Enrolled {
    objects: Objects,
    namespaces: BTreeMap<Arc<str>, Membership>,
}

impl Enrolled {
    /// Takes a new state in.
    pub(super) fn update(&mut self, now: &Objects) {
        let before = std::mem::replace(&mut self.objects, now.clone());
        let namespaces: BTreeSet<ObjectName> = before.changed(Kind::Namespace, now).into_iter().collect();
        for name in before.changed(Kind::Pod, now) {
            if namespaces.contains(&name.home()) {
                continue;
            }
            let membership = self.namespaces.entry(Arc::clone(&name.namespace)).or_default();
            if let Some(pod) = before.pods.get(&name) {
                let counted = counted(&before, &name.namespace, pod);
                membership.pods -= counted.0;
                membership.running -= counted.1;
            }
            if let Some(pod) = now.pods.get(&name) {
                membership.add(counted(now, &name.namespace, pod));
            }
            if *membership == Membership::default() {
                self.namespaces.remove(&name.namespace);
            }
        }
        for name in namespaces {
            self.count(&name.name);
        }
    }

    /// Those that take part.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = (&Arc<str>, &Membership)> {
        self.namespaces.iter()
    }

    fn count(&mut self, namespace: &Arc<str>) {
        let labels = self
            .objects
            .namespace(namespace)
            .and_then(|n| n.metadata.labels.as_ref());
        let mut membership = Membership {
            labelled: enrolment(labels, &Pod::default()) == Ok(Enrolment::Ambient),
            ..Membership::default()
        };
        for (_, pod) in in_namespace(&self.objects.pods, namespace) {
            membership.add(counted(&self.objects, namespace, pod));
        }
        if membership == Membership::default() {
            self.namespaces.remove(namespace);
        } else {
            self.namespaces.insert(Arc::clone(namespace), membership);
        }
    }
}

impl Membership {
    fn add(&mut self, (pods, running): (usize, usize)) {
        self.pods += pods;
        self.running += running;
    }
}

/// Whether a pod is enrolled, and whether it also has not ended, as numbers.
fn counted(objects: &Objects, namespace: &str, pod: &Pod) -> (usize, usize) {
    let labels = objects.namespace(namespace).and_then(|n| n.metadata.labels.as_ref());
    let enrolled = enrolment(labels, pod) == Ok(Enrolment::Ambient);
    (enrolled.into(), (enrolled && !pod.has_ended).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(texts: &[String]) -> Objects {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::write(dir.path().join("all.yaml"), texts.join("---\n")).unwrap();
        culvert_objects::Directory::open(dir.path())
            .unwrap()
            .loaded()
            .objects
            .clone()
    }

    #[test]
    fn what_changed_leads_to_what_a_count_of_all_would() {
        let namespace = |label: &str| {
            format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{culvert.dev/mesh: {label}}}}}\n"
            )
        };
        let pod = |name: &str, phase: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\nstatus: {{phase: {phase}}}\n"
            )
        };
        let states = [
            vec![namespace("ambient"), pod("a", "Running"), pod("b", "Succeeded")],
            vec![namespace("ambient"), pod("a", "Failed"), pod("c", "Running")],
            vec![namespace("none"), pod("a", "Failed"), pod("c", "Running")],
            vec![namespace("ambient"), pod("c", "Running"), pod("d", "Running")],
            vec![],
        ];
        let mut by_steps = Enrolled::default();
        for state in states {
            let objects = objects(&state);
            by_steps.update(&objects);
            let mut at_once = Enrolled::default();
            at_once.update(&objects);
            assert_eq!(by_steps.namespaces, at_once.namespaces, "{state:?}");
        }
    }
}
