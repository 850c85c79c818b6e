//! Asking policies about a connection.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use culvert_identity::SpiffeId;

use crate::{Action, Policy};

/// What policies may ask about.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The identity that the peer proved by its certificate; none for plaintext.
    pub identity: Option<&'a SpiffeId>,
    /// The peer's address.
    pub source: IpAddr,
    /// The workload's address and the port that the application listens on.
    pub destination: SocketAddr,
}

/// What the policies together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'p> {
    /// Let it through.
    Allow,
    /// A DENY policy matches.
    Deny {
        /// `namespace/name` of the first that does.
        policy: &'p Arc<str>,
    },
    /// There are ALLOW policies, and none matches.
    NotAllowed,
}

/// Whether `connection` may reach a workload that `policies` bind. Dry-run policies do not count.
pub fn evaluate<'p>(policies: impl IntoIterator<Item = &'p Policy>, connection: &Connection<'_>) -> Verdict<'p> {
    let mut restricted = false;
    let mut allowed = false;
    for policy in policies {
        if policy.dry_run {
            continue;
        }
        match policy.action {
            Action::Deny => {
                if policy.matches(connection) {
                    return Verdict::Deny { policy: &policy.name };
                }
            }
            Action::Allow => {
                restricted = true;
                allowed = allowed || policy.matches(connection);
            }
        }
    }
    if restricted && !allowed {
        Verdict::NotAllowed
    } else {
        Verdict::Allow
    }
}
