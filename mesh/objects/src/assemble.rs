//! Objects of a cluster: which of them are in force, updated with each change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::check as rules;
use crate::claims;
use crate::enrolment::service_account;
use crate::finding::{Finding, Findings};
use crate::kinds::{Kind, Object, Objects, has_no_selector, service_of_slice};
use crate::merge;
use crate::name::ObjectName;
use crate::problem::Problem;

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
    /// Who claims an address: mostly one.
    claims: HashMap<IpAddr, Vec<Claim>>,
    /// Pods by the service account that they name.
    of_account: HashMap<ObjectName, BTreeSet<ObjectName>>,
    /// Slices by the Service that they name.
    of_service: HashMap<ObjectName, BTreeSet<ObjectName>>,
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

type Reference = (Kind, ObjectName);

/// An object's claim on its addresses. The least of several counts. Names decide between equals, so that the outcome does
/// not depend on the order in which objects arrived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    rank: Rank,
    name: ObjectName,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Service(Option<Time>),
    /// Whether it is being deleted, and since when it runs.
    Pod(bool, Reverse<Option<Time>>),
}

impl Claim {
    fn reference(&self) -> Reference {
        let kind = match self.rank {
            Rank::Service(_) => Kind::Service,
            Rank::Pod(..) => Kind::Pod,
        };
        (kind, self.name.clone())
    }
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

    /// Takes an object in, in the place of its predecessor. True if anything is different from before.
    pub fn apply(&mut self, object: Object) -> bool {
        let (kind, name) = (object.kind(), object.name());
        if let Err(problem) = rules::object(&object) {
            return self.refuse(kind, &name, problem);
        }
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
        let message = format!("{} (the object is left out)", problem.message);
        let field = problem.field.unwrap_or_default();
        let finding = Arc::new(Finding::of_object(kind, name, &field, message));
        if self.refused.get(&(kind, name.clone())) == Some(&finding) {
            return false;
        }
        self.remove(kind, name);
        self.findings.insert(Arc::clone(&finding), ());
        self.refused.insert((kind, name.clone()), finding);
        true
    }

    /// Forgets an object. True if it was known.
    pub fn remove(&mut self, kind: Kind, name: &ObjectName) -> bool {
        let refused = self.accept(kind, name);
        let before = self.held.get(kind, name);
        let held = before.is_some();
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
                    self.put(kind, &name, object, None);
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
            for address in object.iter().flat_map(addresses) {
                let rivals = self.claims.get(&address).into_iter().flatten();
                next.extend(rivals.map(Claim::reference).filter(|rival| seen.insert(rival.clone())));
            }
            match object
                .and_then(|object| claim(&object, &name))
                .filter(|_| self.is_housed(&name))
            {
                Some(claim) => drop(group.insert(claim)),
                None => self.put(kind, &name, None, None),
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
            let addresses = addresses(&object);
            let taken = addresses.iter().find_map(|a| owners.get(a).map(|owner| (a, owner)));
            if let Some((address, (owner_kind, owner))) = taken {
                let message = format!("{address} already belongs to {owner_kind} {owner}: this object is left out");
                let field = if kind == Kind::Pod {
                    "status.podIPs"
                } else {
                    "spec.clusterIPs"
                };
                let finding = Finding::of_object(kind, &name, field, message);
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
            let complaints = merge::complaint(object, &self.held).into_iter();
            findings.extend(complaints.map(|(field, message)| Finding::of_object(kind, name, &field, message)));
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

    fn may_be_in_force(&self, name: &ObjectName, object: &Object) -> bool {
        if object.is_namespaced() && !self.is_housed(name) {
            return false;
        }
        let Object::EndpointSlice(slice) = object else {
            return true;
        };
        let service = service_of_slice(name, slice).and_then(|service| self.held.services.get(&service));
        service.is_some_and(|service| has_no_selector(service))
    }

    /// Replaces an object, keeps the indexes, and opens all that it concerns.
    fn replace(&mut self, kind: Kind, name: &ObjectName, before: Option<Object>, now: Option<Object>) {
        let bytes = self.bytes.entry(kind).or_default();
        *bytes -= before.as_ref().map_or(0, Object::bytes);
        *bytes += now.as_ref().map_or(0, Object::bytes);
        if let Some(before) = &before {
            self.unfile(name, before);
        }
        if let Some(now) = &now {
            self.file(name, now);
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
                let pods = self.of_account.get(name).into_iter().flatten();
                self.open.extend(pods.map(|pod| (Kind::Pod, pod.clone())));
            }
            Kind::Service => {
                let slices = self.of_service.get(name).into_iter().flatten();
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

    fn file(&mut self, name: &ObjectName, object: &Object) {
        if let Some(claim) = claim(object, name) {
            for address in addresses(object) {
                let claims = self.claims.entry(address).or_insert_with(|| Vec::with_capacity(1));
                self.open.extend(claims.iter().map(Claim::reference));
                claims.push(claim.clone());
            }
        }
        match object {
            Object::Pod(pod) => add(&mut self.of_account, account(name, pod), name),
            Object::EndpointSlice(slice) => {
                if let Some(service) = service_of_slice(name, slice) {
                    add(&mut self.of_service, service, name);
                }
            }
            _ => {}
        }
    }

    fn unfile(&mut self, name: &ObjectName, object: &Object) {
        if let Some(claim) = claim(object, name) {
            for address in addresses(object) {
                let Some(claims) = self.claims.get_mut(&address) else {
                    continue;
                };
                claims.retain(|other| *other != claim);
                self.open.extend(claims.iter().map(Claim::reference));
                if claims.is_empty() {
                    self.claims.remove(&address);
                }
            }
        }
        match object {
            Object::Pod(pod) => take(&mut self.of_account, &account(name, pod), name),
            Object::EndpointSlice(slice) => {
                if let Some(service) = service_of_slice(name, slice) {
                    take(&mut self.of_service, &service, name);
                }
            }
            _ => {}
        }
    }
}

/// The claim of a Service or pod; none for other objects.
fn claim(object: &Object, name: &ObjectName) -> Option<Claim> {
    let rank = match object {
        Object::Service(service) => Rank::Service(service.metadata.creation_timestamp.clone()),
        Object::Pod(pod) => seniority(pod),
        _ => return None,
    };
    Some(Claim {
        rank,
        name: name.clone(),
    })
}

fn seniority(pod: &Pod) -> Rank {
    let started = pod.status.as_ref().and_then(|status| status.start_time.clone());
    let since = started.or_else(|| pod.metadata.creation_timestamp.clone());
    Rank::Pod(pod.metadata.deletion_timestamp.is_some(), Reverse(since))
}

fn addresses(object: &Object) -> Vec<IpAddr> {
    match object {
        Object::Service(service) => claims::service_addresses(service),
        Object::Pod(pod) => claims::claimed_by_pod(pod),
        _ => Vec::new(),
    }
}

fn account(name: &ObjectName, pod: &Pod) -> ObjectName {
    ObjectName::new(Arc::clone(&name.namespace), service_account(pod))
}

fn add(index: &mut HashMap<ObjectName, BTreeSet<ObjectName>>, key: ObjectName, name: &ObjectName) {
    index.entry(key).or_default().insert(name.clone());
}

fn take(index: &mut HashMap<ObjectName, BTreeSet<ObjectName>>, key: &ObjectName, name: &ObjectName) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(yaml: &str) -> Vec<Object> {
        let parsed = crate::parse(yaml, false);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        parsed.documents.into_iter().map(|document| document.object).collect()
    }

    fn assembled(yaml: &str) -> (Objects, Vec<String>) {
        let mut assembly = Assembly::default();
        for object in objects(yaml) {
            assembly.apply(object);
        }
        let (objects, findings) = assembly.settle();
        (
            objects.clone(),
            findings.keys().map(|finding| finding.to_string()).collect(),
        )
    }

    fn pod(name: &str, more: &str, status: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop{more}}}\nstatus: {{{status}}}\n"
        )
    }

    const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\n\
        kind: ServiceAccount\nmetadata: {name: default, namespace: shop}\n";

    fn kept(yaml: &str) -> (Vec<String>, usize) {
        let (all, findings) = assembled(&(SHOP.to_owned() + yaml));
        (
            all.pods.keys().map(|name| name.name.to_string()).collect(),
            findings.len(),
        )
    }

    #[test]
    fn an_address_goes_to_the_pod_that_started_last_and_is_not_leaving() {
        let early = "podIP: 198.18.0.9, startTime: '2026-01-01T00:00:00Z'";
        let late = "podIP: 198.18.0.9, startTime: '2026-01-01T00:00:09Z'";
        let two = pod("a", "", early) + &pod("b", "", late);
        assert_eq!(kept(&two), (vec!["b".to_owned()], 1));
        let leaving = pod("a", "", early) + &pod("b", ", deletionTimestamp: '2026-01-01T00:00:10Z'", late);
        assert_eq!(kept(&leaving), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn a_pod_that_has_ended_holds_no_address() {
        for phase in ["Succeeded", "Failed"] {
            let ended = format!("phase: {phase}, podIP: 198.18.0.9, startTime: '2026-01-01T00:00:09Z'");
            let running = "phase: Running, podIP: 198.18.0.9, startTime: '2026-01-01T00:00:00Z'";
            let (names, findings) = kept(&(pod("ended", "", &ended) + &pod("runs", "", running)));
            assert_eq!((names, findings), (vec!["ended".to_owned(), "runs".to_owned()], 0));
        }
    }

    #[test]
    fn a_pod_without_its_namespace_waits_for_it() {
        let orphan = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: unheard}\n";
        assert_eq!(kept(orphan), (Vec::new(), 0));
    }

    #[test]
    fn a_service_keeps_its_address_before_a_pod_and_a_newer_service() {
        let service = |name: &str, year: u32| {
            format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop, creationTimestamp: \
                 '{year}-01-01T00:00:00Z'}}\nspec: {{clusterIP: 198.18.0.9}}\n"
            )
        };
        let yaml = SHOP.to_owned() + &pod("p", "", "podIP: 198.18.0.9") + &service("a", 2026) + &service("b", 2025);
        let (all, findings) = assembled(&yaml);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(all.pods.is_empty());
        assert_eq!(all.services.keys().map(|n| &*n.name).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn unknown_labels_and_missing_accounts_are_reported_by_object() {
        let (_, texts) = assembled(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {culvert.dev/mesh: on}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\n",
        );
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(
            texts[0].starts_with("Namespace shop: metadata.labels[culvert.dev/mesh]: "),
            "{texts:?}"
        );
        assert!(
            texts[1].starts_with("Pod shop/a: spec.serviceAccountName: "),
            "{texts:?}"
        );
    }

    #[test]
    fn an_annotation_that_would_close_connections_and_does_not_is_said() {
        let annotated = |value: &str| {
            format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: \
                 {{culvert.dev/close-open-connections: '{value}'}}}}\n"
            )
        };
        for known in ["true", "false"] {
            assert_eq!(assembled(&annotated(known)).1, [""; 0], "{known}");
        }
        for unknown in ["True", "yes", ""] {
            let (_, texts) = assembled(&annotated(unknown));
            assert!(
                texts.len() == 1
                    && texts[0]
                        .starts_with("Namespace shop: metadata.annotations[culvert.dev/close-open-connections]: ")
                    && texts[0].contains(&format!("{unknown:?}")),
                "{texts:?}"
            );
        }
        let pod = pod(
            "a",
            ", annotations: {culvert.dev/close-open-connections: 'true'}",
            "phase: Running",
        );
        let (_, texts) = assembled(&(SHOP.to_owned() + &pod));
        assert!(
            texts.len() == 1 && texts[0].contains("on a Namespace alone"),
            "{texts:?}"
        );
    }

    /// A small world in which most things collide.
    fn object(seed: u32) -> (Kind, ObjectName, Object) {
        let (what, number, address, more) = (seed % 7, seed / 7 % 4, seed / 28 % 5, seed / 140 % 4);
        let namespace = ["shop", "play"][(number % 2) as usize];
        let yaml = match what {
            0 => format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n"),
            1 => format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: default, namespace: {namespace}}}\n"),
            2 => format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: {namespace}, creationTimestamp: \
                 '202{more}-01-01T00:00:00Z'}}\nspec: {{clusterIP: 198.18.0.{address}, selector: {}}}\n",
                ["{}", "{app: a}"][(more % 2) as usize]
            ),
            3 => format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{number}, namespace: {namespace}, \
                 labels: {{kubernetes.io/service-name: s{more}}}}}\naddressType: IPv4\nendpoints: [{{addresses: \
                 [198.18.0.{address}]}}]\n"
            ),
            _ => pod(
                &format!("p{number}"),
                if more == 1 {
                    ", deletionTimestamp: '2026-01-01T00:00:00Z'"
                } else {
                    ""
                },
                &format!(
                    "podIPs: [{{ip: 198.18.0.{address}}}, {{ip: 198.18.0.{}}}], startTime: '202{more}-01-01T00:00:00Z'",
                    (address + more) % 5
                ),
            )
            .replace("shop", namespace)
            .trim_start_matches("---")
            .to_owned(),
        };
        // 198.18.0.0 would not be refused; it is as good an address as any.
        let object = objects(&yaml).pop().unwrap();
        (object.kind(), object.name(), object)
    }

    proptest::proptest! {
        /// In whatever order objects came and went: as if those that are left had come at once.
        #[test]
        fn the_outcome_is_that_of_what_is_left(
            steps in proptest::collection::vec((0_u32..560, proptest::bool::weighted(0.7), proptest::bool::ANY), 1..60),
        ) {
            let mut assembly = Assembly::default();
            let mut left = BTreeMap::new();
            for (seed, there, settle) in steps {
                let (kind, name, object) = object(seed);
                if there {
                    assembly.apply(object.clone());
                    left.insert((kind, name), object);
                } else {
                    assembly.remove(kind, &name);
                    left.remove(&(kind, name));
                }
                if settle {
                    assembly.settle();
                }
            }
            let mut at_once = Assembly::default();
            for object in left.into_values().rev() {
                at_once.apply(object);
            }
            let (objects, findings) = assembly.settle();
            let (expected, expected_findings) = at_once.settle();
            for kind in Kind::ALL {
                proptest::prop_assert!(objects.names(*kind).eq(expected.names(*kind)), "{kind}");
            }
            proptest::prop_assert_eq!(findings, expected_findings);
        }
    }
}
