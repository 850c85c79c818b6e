//! Asking policies about a connection.

use std::{fmt, sync::Arc};

use crate::{Action, Connection, Policy, Purpose, compared::Facts};

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

/// Whether `connection` may reach a workload that `policies` bind. Those that are tried out or audit do not count.
pub fn evaluate<'p>(policies: impl IntoIterator<Item = &'p Policy>, connection: &Connection<'_>) -> Verdict<'p> {
    let enforced = policies.into_iter().filter(|policy| policy.is_enforced());
    verdict(enforced, connection)
}

/// What policies say of a connection without deciding about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remarks {
    /// What would become of the connection if those that are tried out were enforced beside the others, where that is something else.
    pub dry_run: Option<Trial>,
    /// Those with the action AUDIT that match: `namespace/name`.
    pub audited: Box<[Arc<str>]>,
}

/// An outcome that is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It would be let through.
    Allowed,
    /// A DENY policy, `namespace/name`, would refuse it.
    Denied(Arc<str>),
    /// ALLOW policies would let others in alone.
    NotAllowed,
}

/// What those of `policies` that are not enforced say of `connection`; none if they say nothing.
pub fn remarks<'p, P>(policies: P, connection: &Connection<'_>) -> Option<Remarks>
where
    P: IntoIterator<Item = &'p Policy>,
    P::IntoIter: Clone,
{
    let policies = policies.into_iter();
    let any = |purpose| policies.clone().any(|policy| policy.purpose == purpose);
    let (tries, audits) = (any(Purpose::DryRun), any(Purpose::Audit));
    let dry_run = tries.then(|| {
        let all = policies.clone().filter(|policy| policy.purpose != Purpose::Audit);
        let (trial, now) = (verdict(all, connection), evaluate(policies.clone(), connection));
        // Which of several denies it is not the question.
        (std::mem::discriminant(&trial) != std::mem::discriminant(&now)).then(|| Trial::from(trial))
    });
    let audited = policies
        .clone()
        .filter(|policy| audits && policy.purpose == Purpose::Audit && policy.matches(connection))
        .map(|policy| Arc::clone(&policy.name));
    let remarks = Remarks {
        dry_run: dry_run.flatten(),
        audited: audited.collect(),
    };
    (remarks.dry_run.is_some() || !remarks.audited.is_empty()).then_some(remarks)
}

impl fmt::Display for Trial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => out.write_str("would be allowed"),
            Self::Denied(policy) => write!(out, "would be denied by {policy}"),
            Self::NotAllowed => out.write_str("would not be among those that policies allow"),
        }
    }
}

impl From<Verdict<'_>> for Trial {
    fn from(verdict: Verdict<'_>) -> Self {
        match verdict {
            Verdict::Allow => Self::Allowed,
            Verdict::Deny { policy } => Self::Denied(Arc::clone(policy)),
            Verdict::NotAllowed => Self::NotAllowed,
        }
    }
}

fn verdict<'p>(policies: impl Iterator<Item = &'p Policy>, connection: &Connection<'_>) -> Verdict<'p> {
    let facts = Facts::of(connection);
    let mut restricted = false;
    let mut allowed = false;
    for policy in policies {
        match policy.action {
            Action::Deny => {
                if policy.covers(&facts) {
                    return Verdict::Deny { policy: &policy.name };
                }
            }
            Action::Allow => {
                restricted = true;
                allowed = allowed || policy.covers(&facts);
            }
        }
    }
    if restricted && !allowed {
        Verdict::NotAllowed
    } else {
        Verdict::Allow
    }
}
