//! Objects become resources, incrementally: a change of an object costs what depends on it.
//!
//! The mechanism is the same for whatever is derived (it is that of Istio's `krt`): **objects** are filed under keys by
//! their kind ([`culvert_objects::KindSpec::keys`]); a **unit** is derived as a whole by a function that reads objects by
//! name or key through a [`Reader`], which notes each key; a change of an object concerns its own unit and all that read
//! one of its keys, before or after; what comes out other than before becomes a change of the **snapshot**, with all keys by
//! which clients may have asked for it.
//!
//! So a further kind (a policy with a selector, a waypoint, a route) is: a line in the table of kinds, its keys, and a
//! function that derives a unit of its own or reads it while another is derived. Nothing has to know who depends on whom.
//!
//! | module | what |
//! |---|---|
//! | `unit` | what is derived as a whole |
//! | `derive` | what each unit is derived to |
//! | [`Reader`] | the objects, as a unit reads them |
//! | `refused` | what proxies have refused, said of the objects that it was made of |
//! | `index` | objects by key, and units by the keys that they read |
//! | [`pod`] | a pod becomes a Workload |
//! | `bypass` | nobody goes around a waypoint |
//! | `canary` | which second waypoint gets a part of what is for one |
//! | `gateways` | which Gateways are waypoints of ours |
//! | `health` | how it is |
//! | [`names`] | what telemetry calls it |
//! | `analysis` | what is wrong or without effect in all objects together |
//! | `agents` | which nodes have an agent |
//! | [`Allocations`] | which addresses the mesh chooses for hosts without any |
//! | `service` | a Service becomes a Service, and an entry in each of its Workloads |
//! | `service_entry` | a ServiceEntry becomes Services, and Workloads where it lists endpoints |
//! | `workload_entry` | a WorkloadEntry becomes a Workload |
//! | `outside` | Workloads that are no pods |
//! | `tunnel` | who takes connections through the tunnel by a word of Istio's |
//! | `owner` | who has an address |
//! | `policy` | who may connect to a workload: AuthorizationPolicy and PeerAuthentication |
//! | `not_enforced` | what nobody enforces, and whom that keeps everybody from |
//! | `origin` | the object that a policy was made of |
//! | `ports` | their ports |
//! | [`View`] | all that is known at one moment, for questions that take long |
//! | `preview` | what would be if the objects were others |
//! | `restriction` | what is denied since nobody enforces an object that restricts it |
//! | `route_status` | what a route comes to, as conditions say it |
//! | `routed` | what waypoints are told: a second round, which reads what the first has made |
//! | `slice` | endpoints written by hand become Workloads, or bring a pod's to a Service |
//! | `mesh` | what proxies are told of the mesh as a whole |
//! | `mesh_config` | what may be configured of the mesh while it runs |
//! | `ranges` | which addresses the mesh may have |
//! | `waypoint` | which waypoint one is to be reached through |
//! | `resource` | Workloads and Services as resources |
//! | `wire` | how objects are called on the wire |
//! | [`Settings`] | what holds for the whole mesh |

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use culvert_objects::{Binding, Findings, Key, Kind, KindSpec as _, Object, ObjectName, Objects};
use culvert_proto::ADDRESS_TYPE;
use culvert_proto::security::Authorization;
use culvert_proto::workload::Address;
use culvert_xds::Change;

use crate::keys::{Fetched, Source};
use crate::routing::read::tokens;
use crate::snapshot::{Resource, Snapshot};

mod agents;
mod allocation;
mod analysis;
mod bypass;
mod canary;
mod derive;
mod gateways;
mod health;
mod index;
mod mesh;
mod mesh_config;
pub mod names;
mod not_enforced;
mod origin;
mod outside;
mod owner;
pub mod pod;
mod policy;
mod ports;
mod preview;
mod ranges;
mod reader;
mod refused;
mod resource;
mod restriction;
mod route_status;
mod routed;
mod service;
mod service_entry;
mod settings;
mod slice;
mod tunnel;
mod unit;
mod view;
mod waypoint;
mod wire;
mod workload_entry;

use agents::Agents;
pub use allocation::Allocations;
use allocation::Allocator;
pub use analysis::Problem;
use index::{Index, Units};
pub use not_enforced::NotEnforced;
pub use origin::{Origin, origin};
pub use preview::Preview;
pub use reader::Reader;
pub use refused::{IN_FORCE, OfGateway, REFUSED_BY_PROXY, Refusal, Refused, place_of};
pub use route_status::{Condition, ParentStatus, RouteStatus, RouteStatuses};
use routed::behind::{Behind, is_service};
pub use routed::explain::{BackendView, CanaryView, HostRules, PortRules, RuleView, ServiceRules};
pub use routed::in_force::PolicyView;

pub use settings::Settings;
use unit::{Product, Unit};
pub use view::View;

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Resources that are new, different or gone.
    pub resources: Vec<Change>,
    /// How many of them are gone.
    pub removed: usize,
    /// How many units were derived again.
    pub derived: usize,
}

/// Follows the objects and keeps the resources made from them.
#[derive(Debug)]
pub struct Model {
    settings: Settings,
    agents: Agents,
    allocator: Allocator,
    objects: Objects,
    index: Index,
    units: Units,
    /// How many units make a resource that several may make.
    makers: HashMap<Arc<str>, usize>,
    findings: Findings,
    routes: RouteStatuses,
    snapshot: Snapshot,
    behind: Behind,
    fetched: Fetched,
    /// What else is to be derived again at the next update.
    due: BTreeSet<Unit>,
    /// Of all tokens.
    sources: BTreeSet<Source>,
}

impl Default for Model {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Model {
    /// A model of nothing. Pods are in the mesh where their labels say so.
    pub fn new(settings: Settings) -> Self {
        Self::with_agents(settings, false)
    }

    /// A model of nothing, of a cluster: a pod is in the mesh where its label says so and an agent serves its node.
    pub fn of_cluster(settings: Settings) -> Self {
        Self::with_agents(settings, true)
    }

    fn with_agents(settings: Settings, are_pods: bool) -> Self {
        Self {
            settings,
            agents: Agents::new(are_pods),
            allocator: Allocator::default(),
            objects: Objects::default(),
            index: Index::default(),
            units: Units::default(),
            makers: HashMap::new(),
            findings: Findings::default(),
            routes: RouteStatuses::default(),
            snapshot: Snapshot::default(),
            behind: Behind::default(),
            fetched: Fetched::default(),
            due: BTreeSet::new(),
            sources: BTreeSet::new(),
        }
    }

    /// All resources of type Address, as messages, by name.
    pub fn addresses(&self) -> BTreeMap<String, Address> {
        self.snapshot.addresses()
    }

    /// All policies, as messages, by name.
    pub fn authorizations(&self) -> BTreeMap<String, Authorization> {
        self.snapshot.authorizations()
    }

    /// All resources, as they are served. A copy shares them.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Which addresses were chosen for hosts without any.
    pub fn allocations(&self) -> &Allocations {
        self.allocator.allocations()
    }

    /// What is wrong with objects, beside the findings of their source.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Everything that is wrong or without effect, the worst first: what the source of the objects has found, what is found here, and
    /// what shows between objects. Its cost grows with all of them: see [`Self::view`].
    pub fn analyze(&self, of_source: &Findings) -> Vec<Problem> {
        analysis::analyze(&self.reader(), &self.all_findings(of_source))
    }

    /// What is known now, to be asked elsewhere. `of_source` is what the source of the objects has found.
    pub fn view(&self, of_source: &Findings) -> View {
        View {
            settings: self.settings.clone(),
            objects: self.objects.clone(),
            allocations: self.allocator.allocations().clone(),
            snapshot: self.snapshot.clone(),
            fetched: self.fetched.clone(),
            findings: self.all_findings(of_source),
        }
    }

    fn all_findings(&self, of_source: &Findings) -> Findings {
        let mut found = of_source.clone();
        for finding in self.findings.keys() {
            found.insert(Arc::clone(finding), ());
        }
        found
    }

    /// What holds at a Service, rule by rule; none where there is no such Service.
    pub fn rules(&self, service: &ObjectName) -> Option<ServiceRules> {
        routed::explain::service(&self.reader(), service)
    }

    /// What a route object (HTTPRoute, GRPCRoute, TCPRoute, TLSRoute) comes to, as conditions say it; none where there is no such object.
    pub fn route_status(&self, kind: Kind, name: &ObjectName) -> Option<RouteStatus> {
        let status = self.routes.get(&(kind, name.clone()))?;
        Some(RouteStatus::clone(status))
    }

    /// What each route object (HTTPRoute, GRPCRoute, TCPRoute) comes to, as conditions say it.
    pub fn routes(&self) -> &RouteStatuses {
        &self.routes
    }

    /// From where keys of tokens are to be fetched.
    pub fn sources(&self) -> &BTreeSet<Source> {
        &self.sources
    }

    /// Takes in what was fetched: [`Self::update`] is to be called then.
    pub fn set_fetched(&mut self, fetched: Fetched) {
        for source in self.fetched.changed(&fetched) {
            self.due.extend(self.units.readers(source.key()).cloned());
        }
        self.fetched = fetched;
    }

    /// When to call [`Self::update`] again although nothing changed.
    pub fn next(&self) -> Option<Instant> {
        self.agents.next()
    }

    /// Takes a new state of the objects in. Objects are compared by pointer, so the states must come from the same
    /// source, which keeps the pointers of what did not change.
    pub fn update(&mut self, objects: &Objects, now: Instant) -> Changes {
        let first = self.units.is_empty().then_some(Unit::Mesh);
        let mut units: BTreeSet<Unit> = first.into_iter().chain(std::mem::take(&mut self.due)).collect();
        let tokens = self.objects.request_authentications.clone();
        let before = std::mem::replace(&mut self.objects, objects.clone());
        let mut entries = BTreeSet::new();
        for kind in Kind::ALL.iter().copied() {
            for name in before.changed(kind, objects) {
                self.concerned(kind, &name, &before, now, &mut units);
                entries.extend((kind == Kind::ServiceEntry).then_some(name));
            }
        }
        if !tokens.is_same(&objects.request_authentications) {
            let all = objects.request_authentications.values();
            // Others are enforced by nobody.
            let of_waypoints = all.filter(|object| matches!(object.binding(), Some(Binding::Targets(_))));
            self.sources = of_waypoints.flat_map(|object| tokens::sources(&object.spec)).collect();
        }
        let allocated = self.allocator.update(&entries, objects);
        units.extend(allocated.into_iter().map(Unit::ServiceEntry));
        for node in self.agents.overdue(now) {
            units.extend(self.units.readers(Key::agent_on(&node)).cloned());
        }
        let before = self.snapshot.clone();
        let (mut second, first): (BTreeSet<Unit>, BTreeSet<Unit>) = units.into_iter().partition(Unit::is_second);
        let mut touched = self.round(&first);
        second.extend(self.follow(&touched, &before));
        touched.extend(self.round(&second));
        let mut changes = Changes {
            derived: first.len() + second.len(),
            ..Changes::default()
        };
        for (type_url, name) in touched.into_keys() {
            let (was, is) = (before.version(type_url, &name), self.snapshot.version(type_url, &name));
            if was == is {
                continue;
            }
            changes.removed += usize::from(is.is_none());
            let mut keys = before.keys(type_url, &name);
            keys.extend(self.snapshot.keys(type_url, &name));
            changes.resources.push(Change {
                type_url,
                name,
                keys: keys.into_iter().collect(),
            });
        }
        changes
    }

    /// Derives units that do not read what one another are derived to.
    fn round(&mut self, units: &BTreeSet<Unit>) -> Touched {
        let mut touched = Touched::new();
        for unit in units {
            self.derive(unit, &mut touched);
        }
        // Only now: one unit may have given up what another has made.
        for ((type_url, name), _) in touched.iter().filter(|(_, is_made)| !**is_made) {
            if !self.makers.contains_key(name) {
                self.snapshot.remove(type_url, name);
            }
        }
        touched
    }

    /// The units of the second round that the first one concerns.
    fn follow(&mut self, touched: &Touched, before: &Snapshot) -> BTreeSet<Unit> {
        let mut keys = BTreeSet::new();
        let mut units = BTreeSet::new();
        for (type_url, name) in touched.keys().filter(|(type_url, _)| *type_url == ADDRESS_TYPE) {
            if before.version(type_url, name) == self.snapshot.version(type_url, name) {
                continue;
            }
            keys.insert(Key::derived(name));
            if is_service(name) {
                let hosts = self.behind.update(name, &self.snapshot);
                keys.extend(hosts.iter().map(|host| Key::behind(host)));
                units.extend(Unit::of_service(name));
            } else {
                let services = before.services_of(name).chain(self.snapshot.services_of(name));
                keys.extend(services.map(|service| Key::workloads_of(service)));
            }
        }
        for key in keys {
            units.extend(self.units.readers(key).filter(|unit| unit.is_second()).cloned());
        }
        units
    }

    /// Files a changed object anew, and collects the units that it concerns.
    fn concerned(&mut self, kind: Kind, name: &ObjectName, before: &Objects, now: Instant, units: &mut BTreeSet<Unit>) {
        let (was, is) = (before.get(kind, name), self.objects.get(kind, name));
        let mut keys = vec![Key::named(kind.name(), name), Key::all(kind.name())];
        if let Some(was) = &was {
            keys.extend(self.index.unfile(name, was));
        }
        if let Some(is) = &is {
            keys.extend(self.index.file(name, is));
        }
        keys.extend(self.agent_changed(name, is.as_ref(), kind, now));
        units.extend(Unit::of(kind, name));
        for key in keys {
            units.extend(self.units.readers(key).cloned());
        }
    }

    /// What a change says about who serves a node.
    fn agent_changed(&mut self, name: &ObjectName, is: Option<&Object>, kind: Kind, now: Instant) -> Option<Key> {
        match is {
            Some(Object::Node(node)) => self
                .agents
                .node(&name.name, node, now)
                .then(|| Key::agent_on(&name.name)),
            None if kind == Kind::Node => self.agents.node_gone(&name.name).then(|| Key::agent_on(&name.name)),
            Some(Object::Pod(pod))
                if *name.namespace == *self.settings.system_namespace && culvert_objects::is_agent(pod) =>
            {
                let node: Arc<str> = pod::node_name(pod)?.into();
                self.agents.agent(&node).then(|| Key::agent_on(&node))
            }
            _ => None,
        }
    }

    fn reader(&self) -> Reader<'_> {
        let allocations = self.allocator.allocations();
        Reader::new(
            &self.settings,
            &self.objects,
            &self.index,
            allocations,
            &self.snapshot,
            &self.behind,
            &self.fetched,
        )
    }

    /// Derives a unit again, and collects the resources that it had or has.
    fn derive(&mut self, unit: &Unit, touched: &mut Touched) {
        let reader = self.reader();
        let made = derive::make(unit, &reader, &self.agents);
        let keys = reader.into_keys();
        let before = self.units.take(unit);
        for resource in before.resources {
            if bypass::is_shared(&resource.1) {
                self.given_up(&resource.1);
            }
            touched.entry(resource).or_insert(false);
        }
        for finding in &before.findings {
            self.findings.remove(&**finding);
        }
        if let Unit::Route(kind, name) = unit {
            let reference = (*kind, name.clone());
            match made.status {
                Some(status) if self.routes.get(&reference).is_some_and(|before| **before == status) => {}
                Some(status) => drop(self.routes.insert(reference, Arc::new(status))),
                None => drop(self.routes.remove(&reference)),
            }
        }
        let named = |resource: &Resource| (resource.type_url, Arc::clone(&resource.name));
        let product = Product {
            resources: made.resources.iter().map(named).collect(),
            findings: made.findings.into_iter().map(Arc::new).collect(),
        };
        let shared = product.resources.iter().filter(|(_, name)| bypass::is_shared(name));
        for (_, name) in shared {
            *self.makers.entry(Arc::clone(name)).or_insert(0) += 1;
        }
        touched.extend(product.resources.iter().map(|resource| (resource.clone(), true)));
        for resource in made.resources {
            self.snapshot.set(resource);
        }
        for finding in &product.findings {
            self.findings.insert(Arc::clone(finding), ());
        }
        if keys.is_empty() && product.resources.is_empty() {
            self.units.remove(unit);
            return;
        }
        self.units.set(unit, keys, product);
    }

    /// One of those who made a resource that several may make does so no longer.
    fn given_up(&mut self, name: &Arc<str>) {
        if let Some(makers) = self.makers.get_mut(name) {
            *makers -= 1;
            if *makers == 0 {
                self.makers.remove(name);
            }
        }
    }
}

/// Resources that units had before an update or have after it, by type and name, and whether they have them after it.
type Touched = BTreeMap<(&'static str, Arc<str>), bool>;

#[cfg(test)]
mod tests;
