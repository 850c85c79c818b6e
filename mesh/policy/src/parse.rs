//! From the wire form to a [`Policy`].

use std::net::IpAddr;

use culvert_proto::security as proto;
use ipnet::IpNet;

use crate::{
    AUDIT, Action, Policy, Purpose, Scope, Shared,
    callers::Callers,
    rule::{Clause, Match, Rule, ServiceAccount, Text, Values},
};

/// What a policy asks for that cannot be enforced as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Name or namespace is empty.
    #[error("policy without a {0}")]
    Unnamed(&'static str),
    /// A number that is none of the values of its enumeration.
    #[error("{field} {value} is unknown")]
    UnknownValue {
        /// Which field.
        field: &'static str,
        /// As received.
        value: i32,
    },
    /// An extension may change what the policy means, and none is known here.
    #[error("extension `{0}` is unknown")]
    Extension(String),
    /// A policy that audits is not enforced, and this one says that it is.
    #[error("extension `{AUDIT}` in a policy that is no dry run")]
    EnforcedAudit,
    /// A text comparison of no kind, or of one that is unknown here.
    #[error("{0}: a comparison of no known kind")]
    Comparison(&'static str),
    /// A service account without its namespace or name.
    #[error("service account `{namespace}/{name}` is incomplete")]
    ServiceAccount {
        /// As received.
        namespace: String,
        /// As received.
        name: String,
    },
    /// An address that has neither 4 nor 16 bytes.
    #[error("{field}: an address has {bytes} bytes")]
    Address {
        /// Which field.
        field: &'static str,
        /// How many.
        bytes: usize,
    },
    /// A prefix that is longer than its address.
    #[error("{field}: prefix length {length} is too long for {address}")]
    Prefix {
        /// Which field.
        field: &'static str,
        /// The address.
        address: IpAddr,
        /// As received.
        length: u32,
    },
    /// A port beyond 65535.
    #[error("port {0} is beyond 65535")]
    Port(u32),
}

impl Policy {
    /// Checks a policy and makes it ready for evaluation.
    ///
    /// # Errors
    /// When a part of it cannot be enforced as written. Nothing is ever left out.
    pub fn from_proto(policy: &proto::Authorization) -> Result<Self, PolicyError> {
        Self::from_proto_sharing(policy, &mut Shared::default())
    }

    /// The same, sharing with all that were made with the same `shared` what they have in common.
    ///
    /// # Errors
    /// As [`Policy::from_proto`].
    pub fn from_proto_sharing(policy: &proto::Authorization, shared: &mut Shared) -> Result<Self, PolicyError> {
        if policy.name.is_empty() {
            return Err(PolicyError::Unnamed("name"));
        }
        if policy.namespace.is_empty() {
            return Err(PolicyError::Unnamed("namespace"));
        }
        let purpose = purpose(policy)?;
        let rules = policy.rules.iter().map(|r| rule(r, shared));
        let rules = rules.collect::<Result<Box<[Rule]>, _>>()?;
        Ok(Self {
            name: format!("{}/{}", policy.namespace, policy.name).into(),
            namespace: shared.text(&policy.namespace),
            scope: Scope::from_proto(policy.scope)?,
            action: action(policy.action)?,
            purpose,
            callers: Callers::of(&rules),
            rules,
        })
    }
}

impl Scope {
    /// Reads the number of a scope.
    ///
    /// # Errors
    /// When it is none of the three.
    pub fn from_proto(value: i32) -> Result<Self, PolicyError> {
        match proto::Scope::try_from(value) {
            Ok(proto::Scope::Global) => Ok(Self::Global),
            Ok(proto::Scope::Namespace) => Ok(Self::Namespace),
            Ok(proto::Scope::WorkloadSelector) => Ok(Self::WorkloadSelector),
            Err(_) => Err(PolicyError::UnknownValue { field: "scope", value }),
        }
    }
}

fn action(value: i32) -> Result<Action, PolicyError> {
    match proto::Action::try_from(value) {
        Ok(proto::Action::Allow) => Ok(Action::Allow),
        Ok(proto::Action::Deny) => Ok(Action::Deny),
        Err(_) => Err(PolicyError::UnknownValue { field: "action", value }),
    }
}

/// An auditing policy is never enforced, also by a proxy that does not know the extension: it must be a dry run besides.
fn purpose(policy: &proto::Authorization) -> Result<Purpose, PolicyError> {
    match (&*policy.extensions, policy.dry_run) {
        ([], false) => Ok(Purpose::Enforced),
        ([], true) => Ok(Purpose::DryRun),
        ([only], true) if only.name == AUDIT => Ok(Purpose::Audit),
        ([only], false) if only.name == AUDIT => Err(PolicyError::EnforcedAudit),
        ([first, ..], _) => Err(PolicyError::Extension(first.name.clone())),
    }
}

fn rule(rule: &proto::Rule, shared: &mut Shared) -> Result<Rule, PolicyError> {
    let clauses = rule.clauses.iter().map(|c| clause(c, shared));
    Ok(Rule {
        clauses: clauses.collect::<Result<_, _>>()?,
    })
}

fn clause(clause: &proto::Clause, shared: &mut Shared) -> Result<Clause, PolicyError> {
    let matches = clause.matches.iter().map(|m| one_match(m, shared));
    let matches = matches.collect::<Result<Vec<Match>, _>>()?;
    Ok(Clause {
        matches: shared.matches(matches),
    })
}

fn one_match(m: &proto::Match, shared: &mut Shared) -> Result<Match, PolicyError> {
    if let Some(extension) = m.extensions.first() {
        return Err(PolicyError::Extension(extension.name.clone()));
    }
    let any = Lists {
        ports: &m.destination_ports,
        namespaces: &m.namespaces,
        service_accounts: &m.service_accounts,
        principals: &m.principals,
        source_ips: &m.source_ips,
        destination_ips: &m.destination_ips,
    };
    let none = Lists {
        ports: &m.not_destination_ports,
        namespaces: &m.not_namespaces,
        service_accounts: &m.not_service_accounts,
        principals: &m.not_principals,
        source_ips: &m.not_source_ips,
        destination_ips: &m.not_destination_ips,
    };
    Ok(Match {
        any: any.parse(shared)?,
        none: none.parse(shared)?,
    })
}

/// The lists of a match that must hold, or those that must not.
struct Lists<'m> {
    ports: &'m [u32],
    namespaces: &'m [proto::StringMatch],
    service_accounts: &'m [proto::ServiceAccountMatch],
    principals: &'m [proto::StringMatch],
    source_ips: &'m [proto::Address],
    destination_ips: &'m [proto::Address],
}

impl Lists<'_> {
    /// Those that have values.
    fn parse(&self, shared: &mut Shared) -> Result<Box<[Values]>, PolicyError> {
        let port = |port: &u32| u16::try_from(*port).map_err(|_| PolicyError::Port(*port));
        let lists = [
            list(self.ports, port, Values::DestinationPorts)?,
            list(self.namespaces, |t| text(t, "namespaces", shared), Values::Namespaces)?,
            list(
                self.service_accounts,
                |account| service_account(account, shared),
                Values::ServiceAccounts,
            )?,
            list(self.principals, |t| text(t, "principals", shared), Values::Principals)?,
            list(self.source_ips, |a| range(a, "source_ips"), Values::SourceIps)?,
            list(
                self.destination_ips,
                |a| range(a, "destination_ips"),
                Values::DestinationIps,
            )?,
        ];
        Ok(lists.into_iter().flatten().collect())
    }
}

/// A list, unless it has no values.
fn list<P, T>(
    wire: &[P],
    parse: impl FnMut(&P) -> Result<T, PolicyError>,
    values: impl FnOnce(Box<[T]>) -> Values,
) -> Result<Option<Values>, PolicyError> {
    if wire.is_empty() {
        return Ok(None);
    }
    Ok(Some(values(wire.iter().map(parse).collect::<Result<_, _>>()?)))
}

fn text(text: &proto::StringMatch, field: &'static str, shared: &mut Shared) -> Result<Text, PolicyError> {
    use proto::string_match::MatchType;
    match &text.match_type {
        Some(MatchType::Exact(exact)) => Ok(Text::exact(shared.text(exact))),
        Some(MatchType::Prefix(prefix)) => Ok(Text::Prefix(shared.text(prefix))),
        Some(MatchType::Suffix(suffix)) => Ok(Text::Suffix(shared.text(suffix))),
        Some(MatchType::Presence(_)) => Ok(Text::Presence),
        None => Err(PolicyError::Comparison(field)),
    }
}

fn service_account(account: &proto::ServiceAccountMatch, shared: &mut Shared) -> Result<ServiceAccount, PolicyError> {
    if account.namespace.is_empty() || account.service_account.is_empty() {
        return Err(PolicyError::ServiceAccount {
            namespace: account.namespace.clone(),
            name: account.service_account.clone(),
        });
    }
    Ok(ServiceAccount {
        namespace: shared.text(&account.namespace),
        name: shared.text(&account.service_account),
    })
}

/// Bits beyond the prefix are cleared: `10.1.2.3/8` means `10.0.0.0/8`.
fn range(range: &proto::Address, field: &'static str) -> Result<IpNet, PolicyError> {
    let bytes = range.address.as_ref();
    let address: IpAddr = if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        v4.into()
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        v6.into()
    } else {
        return Err(PolicyError::Address {
            field,
            bytes: bytes.len(),
        });
    };
    u8::try_from(range.length)
        .ok()
        .and_then(|length| IpNet::new(address, length).ok())
        .map(|net| net.trunc())
        .ok_or(PolicyError::Prefix {
            field,
            address,
            length: range.length,
        })
}
