//! Kubernetes objects become resources of the type `istio.workload.Address`.
//!
//! | module | what |
//! |---|---|
//! | [`pod`] | a pod becomes a Workload |
//! | [`names`] | what telemetry calls it |
//! | [`service`] | a Service becomes a Service, and an entry in each of its Workloads |
//! | [`slice`] | endpoints written by hand become Workloads |
//! | `touched` | which of them a change concerns |

use std::collections::{BTreeMap, BTreeSet, HashMap};

use culvert_objects::{ObjectName, Objects};
use culvert_proto::workload::{Address, address};

use crate::snapshot::Snapshot;

pub mod names;
pub mod pod;
pub mod service;
pub mod slice;
mod touched;

pub(crate) use touched::in_namespace;

/// What holds for the whole mesh.
#[derive(Clone, Debug)]
pub struct Settings {
    /// First segment of every workload's uid.
    pub cluster_id: String,
    /// The trust domain of every identity.
    pub trust_domain: String,
    /// Policies in this namespace bind everywhere.
    pub root_namespace: String,
    /// What comes after `svc.` in the names of services.
    pub cluster_domain: String,
    /// The mesh's own namespace, which takes no part in it whatever its labels say.
    pub system_namespace: String,
}

impl Default for Settings {
    fn default() -> Self {
        let domain = "cluster.local".to_owned();
        Self {
            cluster_id: "Kubernetes".to_owned(),
            trust_domain: domain.clone(),
            root_namespace: "istio-system".to_owned(),
            cluster_domain: domain,
            system_namespace: "culvert-system".to_owned(),
        }
    }
}

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names of resources that are new or different.
    pub updated: BTreeSet<String>,
    /// Names of resources that are gone.
    pub removed: BTreeSet<String>,
    /// How many objects were looked at again.
    pub recomputed: usize,
}

/// Follows the objects and keeps the resources made from them.
#[derive(Debug)]
pub struct Model {
    settings: Settings,
    objects: Objects,
    produced: HashMap<Source, Vec<String>>,
    addresses: BTreeMap<String, Address>,
    snapshot: Snapshot,
}

/// The object that a resource is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    Pod(ObjectName),
    Service(ObjectName),
    Slice(ObjectName),
}

impl Model {
    /// A model of nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            objects: Objects::default(),
            produced: HashMap::new(),
            addresses: BTreeMap::new(),
            snapshot: Snapshot::default(),
        }
    }

    /// What holds for the whole mesh.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All resources, as messages, by name.
    pub fn addresses(&self) -> &BTreeMap<String, Address> {
        &self.addresses
    }

    /// All resources, as they are served. Cloning is cheap beside an update: contents are shared.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Takes a new state of the objects in. Objects are compared by pointer, so the states must come from the same
    /// source, which keeps the pointers of what did not change.
    pub fn update(&mut self, objects: &Objects) -> Changes {
        let touched = touched::touched(&self.objects, objects);
        let links = slice::Links::new(objects);
        let mut changes = Changes {
            recomputed: touched.len(),
            ..Changes::default()
        };
        for source in touched {
            let made = self.make(&source, objects, &links);
            let before = self.produced.remove(&source).unwrap_or_default();
            for name in before.into_iter().filter(|name| !made.iter().any(|(n, _)| n == name)) {
                self.addresses.remove(&name);
                self.snapshot.remove(&name);
                changes.removed.insert(name);
            }
            let names: Vec<String> = made.iter().map(|(name, _)| name.clone()).collect();
            for (name, address) in made {
                if self.addresses.get(&name) != Some(&address) {
                    self.snapshot.set(&name, &address);
                    self.addresses.insert(name.clone(), address);
                    changes.updated.insert(name);
                }
            }
            if !names.is_empty() {
                self.produced.insert(source, names);
            }
        }
        self.objects = objects.clone();
        changes
    }

    /// The resources that one object stands for.
    fn make(&self, source: &Source, objects: &Objects, links: &slice::Links) -> Vec<(String, Address)> {
        let workload = |w: culvert_proto::workload::Workload| {
            (
                w.uid.clone(),
                Address {
                    r#type: Some(address::Type::Workload(w)),
                },
            )
        };
        match source {
            Source::Pod(name) => {
                let pod = objects.pods.get(name);
                pod.and_then(|p| pod::workload(&self.settings, objects, links, name, p))
                    .map(workload)
                    .into_iter()
                    .collect()
            }
            Source::Slice(name) => {
                let slice = objects.endpoint_slices.get(name);
                let made = slice
                    .map(|s| slice::workloads(&self.settings, objects, name, s))
                    .unwrap_or_default();
                made.into_iter().map(workload).collect()
            }
            Source::Service(name) => {
                let service = objects.services.get(name);
                let made = service.and_then(|s| service::service(&self.settings, objects, name, s));
                let named = made.map(|s| {
                    let name = service::resource_name(&self.settings, name);
                    (
                        name,
                        Address {
                            r#type: Some(address::Type::Service(s)),
                        },
                    )
                });
                named.into_iter().collect()
            }
        }
    }
}
