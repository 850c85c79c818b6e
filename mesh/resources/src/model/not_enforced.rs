//! The objects that would restrict somebody and that nobody enforces, and the pods that nobody may reach for it.

use culvert_objects::{Kind, ObjectName};
use culvert_proto::security::Scope;
use culvert_proto::workload::{TunnelProtocol, Workload, address};

use super::Model;
use super::origin::{Origin, origin};

/// An object that nobody enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEnforced {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: ObjectName,
    /// The pods of the mesh that it binds: nobody may reach them.
    pub pods: Vec<ObjectName>,
}

impl Model {
    /// What nobody enforces, by the policies that deny in its place.
    pub fn not_enforced(&self) -> Vec<NotEnforced> {
        let workloads: Vec<Workload> = self
            .addresses()
            .into_values()
            .filter_map(|address| match address.r#type? {
                address::Type::Workload(workload) => Some(workload),
                address::Type::Service(_) => None,
            })
            .filter(|workload| workload.tunnel_protocol() == TunnelProtocol::Hbone)
            .collect();
        let mut found = Vec::new();
        for (resource, policy) in self.authorizations() {
            let Some(Origin::NotEnforced(kind, name)) = origin(&resource) else {
                continue;
            };
            let is_bound = |workload: &&Workload| match policy.scope() {
                Scope::Global => true,
                Scope::Namespace => workload.namespace == *name.namespace,
                Scope::WorkloadSelector => workload.authorization_policies.contains(&resource),
            };
            let bound = workloads.iter().filter(is_bound);
            let pods = bound.map(|workload| ObjectName::new(workload.namespace.as_str(), workload.name.as_str()));
            found.push(NotEnforced {
                kind,
                pods: pods.collect(),
                name,
            });
        }
        found
    }
}
