//! Asking policies about a connection.

use std::sync::Arc;

use crate::{Action, Connection, Policy};

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
