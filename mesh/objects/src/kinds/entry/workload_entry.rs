//! WorkloadEntry: a workload that is no pod.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::super::key::Key;
use super::super::loose::Loose;
use super::super::prune;
use super::super::spec::KindSpec;
use super::endpoint::EntryEndpoint;
use super::reading::Reading;
use crate::defaults;
use crate::known;
use crate::labels::Labels;
use crate::name::ObjectName;
use crate::network::{self, NETWORK_LABEL};
use crate::problem::Problem;

/// A workload that is no pod.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadEntry {
    /// Namespace and name.
    pub name: ObjectName,
    /// Tells it from others of the same name, before and after.
    uid: Box<str>,
    /// Since when it is there; none for one from a file.
    pub created: Option<Time>,
    /// Its own labels and those in its `spec`; of two values of one, its own counts.
    pub labels: Labels,
    /// Those annotations that are read.
    pub annotations: Labels,
    /// Where it is; none where that cannot be told.
    pub endpoint: Option<EntryEndpoint>,
    /// What is wrong with it by itself.
    problems: Box<[Problem]>,
}

impl WorkloadEntry {
    /// What is wrong with it by itself, and what holds instead.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl KindSpec for WorkloadEntry {
    type Wire = Loose;

    fn with_defaults(mut wire: Loose) -> Loose {
        defaults::namespaced(&mut wire.metadata);
        wire
    }

    fn keep(wire: Loose) -> Self {
        let mut reading = Reading::default();
        for (field, instead) in known::unserved_fields(&known::istio::WORKLOAD_ENTRY, &json!({"spec": wire.spec})) {
            reading.note(&field, instead);
        }
        let own = wire
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(NETWORK_LABEL));
        let own = own.filter(|network| !network.is_empty()).cloned();
        if let Some(own) = &own {
            let field = format!("metadata.labels[{NETWORK_LABEL}]");
            reading.note(&field, network::of_endpoint(own));
        }
        let mut labels: BTreeMap<String, String> = reading.labels(&wire.spec["labels"], "spec.labels");
        let name = prune::namespaced(&wire.metadata);
        labels.extend(wire.metadata.labels.unwrap_or_default());
        Self {
            name,
            uid: wire.metadata.uid.unwrap_or_default().into(),
            created: wire.metadata.creation_timestamp,
            labels: Labels::of(Some(&labels)),
            annotations: prune::kept_annotations(wire.metadata.annotations),
            endpoint: EntryEndpoint::read(&mut reading, &wire.spec, None).map(|endpoint| match own {
                // Its own labels come before those in its `spec`, and what the `spec` says by itself before any label.
                Some(own) if wire.spec["network"].as_str().is_none_or(str::is_empty) => EntryEndpoint {
                    network: own.as_str().into(),
                    ..endpoint
                },
                _ => endpoint,
            }),
            problems: reading.into_problems(),
        }
    }

    fn name(&self) -> ObjectName {
        self.name.clone()
    }

    fn uid(&self) -> Option<&str> {
        Some(&self.uid)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    fn keys(&self, _name: &ObjectName) -> Vec<Key> {
        let address = self.endpoint.as_ref().and_then(EntryEndpoint::address);
        address.map(Key::endpoint_at).into_iter().collect()
    }

    fn heap(&self) -> usize {
        self.name.name.len() + self.uid.len() + self.endpoint.as_ref().map_or(0, EntryEndpoint::heap)
    }
}
