//! Which providers' tokens a request needs.

use std::collections::BTreeMap;
use std::time::SystemTime;

use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtRequirement, jwt_requirement::RequiresType,
};
use http::request::Parts;

use super::provider::{Accepted, Provider, bare};
use super::status::JwtStatus;
use crate::error::{CompileError, Within as _};

/// A requirement.
#[derive(Debug)]
pub(super) enum Requirement {
    Nothing,
    Provider {
        name: String,
        audiences: Option<Vec<String>>,
    },
    /// One of these; with `or_missing` also that there is no token for any of them.
    Any {
        of: Vec<Requirement>,
        or_missing: bool,
        or_failed: bool,
    },
    All(Vec<Requirement>),
}

/// Providers by their names.
pub(super) type Providers = BTreeMap<String, Provider>;

impl Requirement {
    pub(super) fn compile(message: &JwtRequirement, providers: &Providers) -> Result<Self, CompileError> {
        let known = |name: &String| {
            if providers.contains_key(name) {
                Ok(name.clone())
            } else {
                Err(CompileError::invalid(
                    "provider_name",
                    format_args!("there is no provider {name:?}"),
                ))
            }
        };
        Ok(match &message.requires_type {
            None => Self::Nothing,
            Some(RequiresType::ProviderName(name)) => Self::Provider {
                name: known(name)?,
                audiences: None,
            },
            Some(RequiresType::ProviderAndAudiences(with)) => Self::Provider {
                name: known(&with.provider_name)?,
                audiences: Some(
                    with.audiences
                        .iter()
                        .map(|audience| bare(audience).to_owned())
                        .collect(),
                ),
            },
            Some(RequiresType::RequiresAll(list)) => Self::All(
                list.requirements
                    .iter()
                    .map(|one| Self::compile(one, providers))
                    .collect::<Result<_, _>>()
                    .within(|| "requires_all".into())?,
            ),
            Some(RequiresType::RequiresAny(list)) => {
                let (mut of, mut or_missing, mut or_failed) = (Vec::new(), false, false);
                for one in &list.requirements {
                    match one.requires_type {
                        Some(RequiresType::AllowMissing(_)) => or_missing = true,
                        Some(RequiresType::AllowMissingOrFailed(_)) => or_failed = true,
                        _ => of.push(Self::compile(one, providers).within(|| "requires_any".into())?),
                    }
                }
                Self::Any {
                    of,
                    or_missing,
                    or_failed,
                }
            }
            // By itself it is for all providers that there are.
            Some(RequiresType::AllowMissing(_)) => Self::Any {
                of: Self::each(providers),
                or_missing: true,
                or_failed: false,
            },
            Some(RequiresType::AllowMissingOrFailed(_)) => Self::Any {
                of: Self::each(providers),
                or_missing: false,
                or_failed: true,
            },
            #[allow(unreachable_patterns, reason = "later versions have more")]
            Some(_) => return Err(CompileError::unserved("requires_type")),
        })
    }

    fn each(providers: &Providers) -> Vec<Self> {
        let one = |name: &String| Self::Provider {
            name: name.clone(),
            audiences: None,
        };
        providers.keys().map(one).collect()
    }

    pub(super) fn verify(
        &self,
        providers: &Providers,
        request: &Parts,
        now: SystemTime,
    ) -> Result<Accepted, JwtStatus> {
        match self {
            Self::Nothing => Ok(Accepted::default()),
            Self::Provider { name, audiences } => match providers.get(name) {
                Some(provider) => provider.verify(request, audiences.as_deref(), now),
                None => Err(JwtStatus::UnknownIssuer),
            },
            Self::All(all) => all.iter().try_fold(Accepted::default(), |before, one| {
                Ok(before.and(one.verify(providers, request, now)?))
            }),
            Self::Any {
                of,
                or_missing,
                or_failed,
            } => {
                // What is told is the most that was found: a bad token rather than that another provider knows of none.
                let mut told = JwtStatus::Missing;
                for one in of {
                    match one.verify(providers, request, now) {
                        Ok(accepted) => return Ok(accepted),
                        Err(status) if !status.is_absent() => told = status,
                        Err(status) if told == JwtStatus::Missing => told = status,
                        Err(_) => {}
                    }
                }
                // As Envoy: a token of another provider is none for this one, and one of nobody's is a bad one.
                let is_missing = || match told {
                    JwtStatus::Missing => true,
                    JwtStatus::UnknownIssuer => {
                        providers.values().any(|other| other.verify(request, None, now).is_ok())
                    }
                    _ => false,
                };
                if *or_failed || (*or_missing && is_missing()) {
                    Ok(Accepted::default())
                } else {
                    Err(told)
                }
            }
        }
    }
}
