//! Whether a connection may reach a pod of this node.

use std::{net::SocketAddr, sync::Arc};

use culvert_identity::SpiffeId;
use culvert_policy::{Connection, Policy, Remarks, Scope, Strictness, Verdict, evaluate, remarks};

use crate::{
    Mesh, Workload,
    decision::{Awaited, Denial, Inbound},
    mesh::Bound,
    pod::Pod,
};

impl Mesh {
    /// Asks the policies that bind the pod. `identity` is what the peer proved, `destination` where in the pod it wants
    /// to go. Call it again for open connections when the mesh changes.
    pub fn inbound(
        &self,
        pod: &Pod,
        source: SocketAddr,
        identity: Option<&SpiffeId>,
        destination: SocketAddr,
    ) -> Inbound {
        if !self.synced {
            return Inbound::Pending(Awaited::Configuration);
        }
        let workload = self.workload_of(pod);
        if let Some(own) = pod
            .addresses
            .first()
            .filter(|_| workload.is_none() && self.may_select(pod))
        {
            return Inbound::Pending(Awaited::Own(*own));
        }
        if workload.is_some_and(|workload| workload.application_tunnel) {
            let reason = "the application expects the PROXY protocol, which this proxy does not send";
            return Inbound::Deny(Denial::Unsupported(reason.into()));
        }
        let mut usable: Vec<&Policy> = Vec::new();
        let mut missing = None;
        for (name, bound) in self.binding_policies(pod) {
            match bound {
                Some(Bound::Usable(policy)) => usable.push(policy),
                Some(Bound::Refused(name)) => return Inbound::Deny(Denial::PolicyMissing(name.clone())),
                None => missing = missing.or(name),
            }
        }
        if let Some(name) = missing {
            return Inbound::Pending(Awaited::Policy(name.clone()));
        }
        let connection = Connection {
            identity,
            source: source.ip(),
            destination,
        };
        match evaluate(usable, &connection) {
            Verdict::Allow => Inbound::Allow,
            Verdict::Deny { policy } => Inbound::Deny(Denial::Policy(policy.clone())),
            Verdict::NotAllowed => Inbound::Deny(Denial::NotAllowed),
        }
    }

    /// What policies that bind the pod say of such a connection without deciding about it. The arguments are those of
    /// [`inbound`](Self::inbound).
    pub fn remarks(
        &self,
        pod: &Pod,
        source: SocketAddr,
        identity: Option<&SpiffeId>,
        destination: SocketAddr,
    ) -> Option<Remarks> {
        let connection = Connection {
            identity,
            source: source.ip(),
            destination,
        };
        let usable = || {
            self.binding_policies(pod).filter_map(|(_, bound)| match bound {
                Some(Bound::Usable(policy)) => Some(&**policy),
                Some(Bound::Refused(_)) | None => None,
            })
        };
        if usable().all(Policy::is_enforced) {
            return None;
        }
        let policies: Vec<&Policy> = usable().collect();
        remarks(policies.iter().copied(), &connection)
    }

    /// The pod's ports that refuse every connection without a certificate. None while it is not known which policies bind the pod.
    /// One of these that has not arrived, or cannot be used, makes every port one of them.
    pub fn strictness(&self, pod: &Pod) -> Option<Strictness> {
        let workload = self.workload_of(pod);
        if !self.synced || (workload.is_none() && self.may_select(pod)) {
            return None;
        }
        if workload.is_some_and(|workload| workload.application_tunnel) {
            return Some(Strictness::EVERY_PORT);
        }
        let usable = |(_, bound): (_, Option<&'_ Bound>)| match bound {
            Some(Bound::Usable(policy)) => Some(Arc::clone(policy)),
            Some(Bound::Refused(_)) | None => None,
        };
        let policies: Option<Vec<Arc<Policy>>> = self.binding_policies(pod).map(usable).collect();
        Some(policies.map_or(Strictness::EVERY_PORT, |policies| {
            Strictness::of(policies.iter().map(|policy| &**policy))
        }))
    }

    /// Whether a connection of `pod` to `peer`, whose node has no proxy, may go direct: both ends want that, and the pod is not
    /// known to be strict, nor possibly so. A strict peer's own node lets nothing in
    /// but the tunnel, whether it has a proxy or not, and does not refuse that.
    pub fn may_go_direct(&self, pod: &Pod, peer: &Workload) -> bool {
        let own = self.workload_of(pod).is_some_and(|own| own.falls_back);
        own && peer.falls_back && self.strictness(pod).is_some_and(|own| !own.strict)
    }

    /// What [`inbound`](Self::inbound) depends on, to be compared with what it was.
    pub fn binding(&self, pod: &Pod) -> Binding {
        let workload = self.workload_of(pod);
        Binding {
            is_known: workload.is_some(),
            application_tunnel: workload.is_some_and(|workload| workload.application_tunnel),
            policies: self.binding_policies(pod).map(|(_, bound)| bound.cloned()).collect(),
        }
    }

    /// Of policies that the pod's workload names, the names too; one that has not arrived is none.
    fn binding_policies(&self, pod: &Pod) -> impl Iterator<Item = (Option<&Arc<str>>, Option<&Bound>)> {
        let scoped = ["", &*pod.namespace]
            .into_iter()
            .filter_map(|namespace| self.scoped.get(namespace))
            .flatten()
            .map(|bound| (None, Some(bound)));
        let named = self
            .workload_of(pod)
            .into_iter()
            .flat_map(|workload| &workload.policies);
        scoped.chain(named.map(|name| (Some(name), self.policies.get(&**name))))
    }

    /// Whether some policy may bind the pod by its labels, which the controller alone knows. One of another namespace does
    /// where that is the mesh's root namespace, which is not known here.
    fn may_select(&self, pod: &Pod) -> bool {
        let roots = self.scoped.get("").map_or(&[][..], |bound| bound);
        let namespace_of = |bound: &Bound| bound.name().split_once('/').map(|(namespace, _)| namespace.to_owned());
        let roots: Vec<String> = roots.iter().filter_map(namespace_of).collect();
        self.policies.iter().any(|(_, bound)| match bound {
            Bound::Usable(policy) if policy.scope() != Scope::WorkloadSelector => false,
            bound => {
                namespace_of(bound).is_none_or(|namespace| namespace == *pod.namespace || roots.contains(&namespace))
            }
        })
    }
}

/// The policies that bind a pod, and what else decides who may connect to it. Equal if a decision would be.
#[derive(Clone, Debug)]
pub struct Binding {
    is_known: bool,
    application_tunnel: bool,
    policies: Vec<Option<Bound>>,
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        let same = |one: &Option<Bound>, other: &Option<Bound>| match (one, other) {
            (Some(Bound::Usable(one)), Some(Bound::Usable(other))) => Arc::ptr_eq(one, other),
            (Some(Bound::Refused(one)), Some(Bound::Refused(other))) => one == other,
            (None, None) => true,
            _ => false,
        };
        self.is_known == other.is_known
            && self.application_tunnel == other.application_tunnel
            && self.policies.len() == other.policies.len()
            && self
                .policies
                .iter()
                .zip(&other.policies)
                .all(|(one, other)| same(one, other))
    }
}
