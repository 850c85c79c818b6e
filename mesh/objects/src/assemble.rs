//! Objects of a cluster: which of them are in force, updated with each change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::claims;
use crate::complaint::complaint;
use crate::finding::{Finding, Findings};
use crate::kinds::{Kind, Object, Objects, Presence, has_no_selector, service_of_slice};
use crate::name::ObjectName;
use crate::problem::Problem;

mod claim;
mod index;

use claim::Claim;
pub(crate) use claim::Place;
use index::Index;
pub(crate) use index::Reference;

/// All objects of a cluster, those of them that are in force, and what is wrong. A change costs what it concerns.
///
/// What is wrong with an object by itself keeps it out: its names or addresses could be read as something else. An object
/// whose namespace is not there is left out without a word: kinds are watched apart, so that a pod may arrive before
/// its namespace, and until then it is unknown whether it is enrolled. What Kubernetes makes of a Service's selector (its
/// slices) is left out as well: it adds nothing to the pods, and changes with every one of them.
///
/// An address belongs to one Service or pod. A Service's counts before a pod's, and an older Service's before a newer
/// one's, since the API server gives out each once. Pods' addresses are used again: the pod that is not being deleted
/// counts, then the one that started last. A pod that has ended holds none.
#[derive(Debug, Default)]
pub struct Assembly {
    /// Each is valid by itself.
    held: Objects,
    in_force: Objects,
    /// What of it concerns what else.
    index: Index,
    /// Where objects of files are written.
    places: HashMap<Reference, Place>,
    /// Whether slices are in force whatever their Services select.
    keeps_slices: bool,
    findings: Findings,
    /// What is wrong with an object by itself.
    refused: BTreeMap<Reference, Arc<Finding>>,
    /// What is wrong with an object beside the others.
    found: HashMap<Reference, Vec<Arc<Finding>>>,
    /// What has to be looked at again.
    open: BTreeSet<Reference>,
    /// About how many bytes the objects of a kind take.
    bytes: BTreeMap<Kind, usize>,
}

impl Assembly {
    /// All objects that are valid by themselves.
    pub fn held(&self) -> &Objects {
        &self.held
    }

    /// About how many bytes the objects of a kind take that are held.
    pub fn bytes(&self, kind: Kind) -> usize {
        self.bytes.get(&kind).copied().unwrap_or_default()
    }

    /// For objects of files: an address belongs to the first of those that claim it, an object whose namespace is not there
    /// is wrong, and nobody but their writer makes slices.
    pub(crate) fn of_files() -> Self {
        Self {
            keeps_slices: true,
            ..Self::default()
        }
    }

    /// Takes an object of a file in, or one that is there whatever the files say.
    pub(crate) fn apply_at(&mut self, object: Object, place: Option<Place>) {
        let reference = (object.kind(), object.name());
        if self.places.get(&reference) != place.as_ref() {
            self.open.insert(reference.clone());
            match place {
                Some(place) => drop(self.places.insert(reference, place)),
                None => drop(self.places.remove(&reference)),
            }
        }
        self.apply(object);
    }

    /// Takes an object in, in the place of its predecessor. True if anything is different from before.
    pub fn apply(&mut self, object: Object) -> bool {
        let (kind, name) = (object.kind(), object.name());
        let mended = self.accept(kind, &name);
        let before = self.held.get(kind, &name);
        if before.as_ref() == Some(&object) {
            return mended;
        }
        self.replace(kind, &name, before, Some(object));
        true
    }

    /// Leaves out an object that is wrong by itself. True if that is news.
    pub fn refuse(&mut self, kind: Kind, name: &ObjectName, problem: Problem) -> bool {
        let instead = match kind.descriptor().presence {
            Presence::Named => "the last good one holds, if there was one",
            Presence::Required | Presence::Optional => "the object is left out",
        };
        let message = format!("{} ({instead})", problem.message);
        let field = problem.field.unwrap_or_default();
        let finding = Arc::new(Finding::of_object(kind, name, &field, message));
        if self.refused.get(&(kind, name.clone())) == Some(&finding) {
            return false;
        }
        match kind.descriptor().presence {
            // What holds for the whole mesh does not vanish with a slip of the hand.
            Presence::Named => drop(self.accept(kind, name)),
            Presence::Required | Presence::Optional => drop(self.remove(kind, name)),
        }
        self.findings.insert(Arc::clone(&finding), ());
        self.refused.insert((kind, name.clone()), finding);
        true
    }

    /// Forgets an object. True if it was known.
    pub fn remove(&mut self, kind: Kind, name: &ObjectName) -> bool {
        let refused = self.accept(kind, name);
        let before = self.held.get(kind, name);
        let held = before.is_some();
        self.places.remove(&(kind, name.clone()));
        if held {
            self.replace(kind, name, before, None);
        }
        held || refused
    }

    /// The names of all objects of a kind, invalid ones included.
    pub fn names(&self, kind: Kind) -> BTreeSet<ObjectName> {
        let refused = self.refused.keys().filter(|(refused, _)| *refused == kind);
        let names = self.held.names(kind).chain(refused.map(|(_, name)| name));
        names.cloned().collect()
    }

    /// What is in force, and what is wrong, after all that was taken in.
    pub fn settle(&mut self) -> (&Objects, &Findings) {
        let open = std::mem::take(&mut self.open);
        let mut contenders = BTreeSet::new();
        for (kind, name) in open {
            match kind {
                Kind::Service | Kind::Pod => drop(contenders.insert((kind, name))),
                _ => {
                    let object = self
                        .held
                        .get(kind, &name)
                        .filter(|object| self.may_be_in_force(&name, object));
                    let homeless = self.homeless(kind, &name);
                    self.put(kind, &name, object, homeless);
                }
            }
        }
        while let Some(first) = contenders.pop_first() {
            self.decide(&first, &mut contenders);
        }
        (&self.in_force, &self.findings)
    }

    /// Decides about one object and all that it shares addresses with, directly or not.
    fn decide(&mut self, first: &Reference, others: &mut BTreeSet<Reference>) {
        let mut group: BTreeSet<Claim> = BTreeSet::new();
        let mut seen = BTreeSet::from([first.clone()]);
        let mut next = vec![first.clone()];
        while let Some((kind, name)) = next.pop() {
            let object = self.held.get(kind, &name);
            for address in object.iter().flat_map(claims::addresses) {
                let rivals = self.index.claimants(address).iter().cloned();
                next.extend(rivals.filter(|rival| seen.insert(rival.clone())));
            }
            match object
                .and_then(|object| Claim::of(&object, &name, self.places.get(&(kind, name.clone()))))
                .filter(|_| self.is_housed(&name))
            {
                Some(claim) => drop(group.insert(claim)),
                None => self.put(kind, &name, None, self.homeless(kind, &name)),
            }
        }
        for reference in &seen {
            others.remove(reference);
        }
        let mut owners: HashMap<IpAddr, Reference> = HashMap::new();
        for claim in group {
            let (kind, name) = claim.reference();
            let Some(object) = self.held.get(kind, &name) else {
                continue;
            };
            let addresses = claims::addresses(&object);
            let taken = addresses.iter().find_map(|a| owners.get(a).map(|owner| (a, owner)));
            if let Some((address, (owner_kind, owner))) = taken {
                let message = format!("{address} already belongs to {owner_kind} {owner}: this object is left out");
                let field = if kind == Kind::Pod {
                    "status.podIPs"
                } else {
                    "spec.clusterIPs"
                };
                let finding = self.finding(kind, &name, field, message);
                self.put(kind, &name, None, Some(finding));
                continue;
            }
            owners.extend(addresses.into_iter().map(|address| (address, (kind, name.clone()))));
            self.put(kind, &name, Some(object), None);
        }
    }

    /// Puts an object in force, or out of it, and notes what is wrong with it.
    fn put(&mut self, kind: Kind, name: &ObjectName, object: Option<Object>, why_not: Option<Finding>) {
        let mut findings: Vec<Finding> = why_not.into_iter().collect();
        if let Some(object) = &object {
            let complaints = complaint(object, &self.held).into_iter();
            findings.extend(complaints.map(|(field, message)| self.finding(kind, name, &field, message)));
        }
        self.note(kind, name, findings);
        match object {
            Some(object) => {
                let before = self.in_force.get(kind, name);
                if before.is_none_or(|before| !before.is_same(&object)) {
                    self.in_force.insert(name.clone(), object);
                }
            }
            None => drop(self.in_force.remove(kind, name)),
        }
    }

    fn note(&mut self, kind: Kind, name: &ObjectName, findings: Vec<Finding>) {
        let reference = (kind, name.clone());
        let before = self.found.remove(&reference).unwrap_or_default();
        if before.iter().map(|finding| &**finding).eq(findings.iter()) {
            if !before.is_empty() {
                self.found.insert(reference, before);
            }
            return;
        }
        for finding in &before {
            self.findings.remove(&**finding);
        }
        let findings: Vec<Arc<Finding>> = findings.into_iter().map(Arc::new).collect();
        for finding in &findings {
            self.findings.insert(Arc::clone(finding), ());
        }
        if !findings.is_empty() {
            self.found.insert(reference, findings);
        }
    }

    fn accept(&mut self, kind: Kind, name: &ObjectName) -> bool {
        let finding = self.refused.remove(&(kind, name.clone()));
        if let Some(finding) = &finding {
            self.findings.remove(&**finding);
        }
        finding.is_some()
    }

    fn is_housed(&self, name: &ObjectName) -> bool {
        self.held.namespaces.contains_key(&name.home())
    }

    /// What is said of an object in a namespace that is not there: nothing where the namespace may still come.
    fn homeless(&self, kind: Kind, name: &ObjectName) -> Option<Finding> {
        let is_of_file = kind.descriptor().namespaced && self.places.contains_key(&(kind, name.clone()));
        (is_of_file && !self.is_housed(name)).then(|| {
            let message = format!("there is no Namespace {}: the object is left out", name.namespace);
            self.finding(kind, name, "metadata.namespace", message)
        })
    }

    fn finding(&self, kind: Kind, name: &ObjectName, field: &str, message: String) -> Finding {
        let finding = Finding::of_object(kind, name, field, message);
        match self.places.get(&(kind, name.clone())) {
            Some(place) => place.of(finding),
            None => finding,
        }
    }

    fn may_be_in_force(&self, name: &ObjectName, object: &Object) -> bool {
        if object.is_namespaced() && !self.is_housed(name) {
            return false;
        }
        let Object::EndpointSlice(slice) = object else {
            return true;
        };
        if self.keeps_slices {
            return true;
        }
        let service = service_of_slice(name, slice).and_then(|service| self.held.services.get(&service));
        service.is_some_and(|service| has_no_selector(service))
    }

    /// Replaces an object, keeps the indexes, and opens all that it concerns.
    fn replace(&mut self, kind: Kind, name: &ObjectName, before: Option<Object>, now: Option<Object>) {
        let bytes = self.bytes.entry(kind).or_default();
        *bytes -= before.as_ref().map_or(0, Object::bytes);
        *bytes += now.as_ref().map_or(0, Object::bytes);
        if let Some(before) = &before {
            self.open.extend(self.index.unfile(name, before));
        }
        if let Some(now) = &now {
            self.open.extend(self.index.file(name, now));
        }
        self.open.insert((kind, name.clone()));
        match kind {
            Kind::Namespace if before.is_some() != now.is_some() => {
                for kind in Kind::ALL.iter().copied().filter(|kind| kind.descriptor().namespaced) {
                    let names = self.held.names_in(kind, &name.name);
                    self.open.extend(names.into_iter().map(|name| (kind, name)));
                }
            }
            Kind::ServiceAccount => {
                let pods = self.index.pods_of(name);
                self.open.extend(pods.map(|pod| (Kind::Pod, pod.clone())));
            }
            Kind::Service => {
                let slices = self.index.slices_of(name);
                self.open
                    .extend(slices.map(|slice| (Kind::EndpointSlice, slice.clone())));
            }
            _ => {}
        }
        match now {
            Some(now) => drop(self.held.insert(name.clone(), now)),
            None => drop(self.held.remove(kind, name)),
        }
    }
}

#[cfg(test)]
mod tests;
