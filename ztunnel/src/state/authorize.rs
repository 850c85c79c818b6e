//! Whether a connection may reach a pod of this node.

use std::net::SocketAddr;

use culvert_identity::SpiffeId;
use culvert_policy::{Connection, Policy, Verdict, evaluate};

use super::{Mesh, mesh::Bound};
use crate::seam::{Denial, Inbound, Pod};

impl Mesh {
    /// Asks the policies that bind the pod. `identity` is what the peer proved, `destination` where in the pod it wants
    /// to go. Call it again for open connections when the mesh changes.
    pub(crate) fn inbound(
        &self,
        pod: &Pod,
        source: SocketAddr,
        identity: Option<&SpiffeId>,
        destination: SocketAddr,
    ) -> Inbound {
        let Some(workload) = self.workload_of(pod).filter(|_| self.synced) else {
            return Inbound::Pending;
        };
        if workload.application_tunnel {
            let reason = "the application expects the PROXY protocol, which this proxy does not send";
            return Inbound::Deny(Denial::Unsupported(reason.into()));
        }
        let scoped = ["", &*workload.namespace]
            .into_iter()
            .filter_map(|namespace| self.scoped.get(namespace))
            .flatten();
        let mut usable: Vec<&Policy> = Vec::new();
        for bound in scoped {
            match bound {
                Bound::Usable(policy) => usable.push(policy),
                Bound::Refused(name) => return Inbound::Deny(Denial::PolicyMissing(name.clone())),
            }
        }
        for name in &workload.policies {
            match self.policies.get(&**name) {
                Some(Bound::Usable(policy)) => usable.push(policy),
                Some(Bound::Refused(_)) | None => return Inbound::Deny(Denial::PolicyMissing(name.clone())),
            }
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
}
