//! The filter: providers and rules.

use std::collections::BTreeMap;
use std::time::SystemTime;

use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, RequirementRule, requirement_rule::RequirementType,
};
use http::request::Parts;
use http::{HeaderValue, Method, header};
use serde_json::{Map, Value};

use super::challenge::challenge;
use super::per_route::PerRoute;
use super::provider::Provider;
use super::requirement::{Providers, Requirement};
use super::status::JwtStatus;
use crate::error::{CompileError, Within as _, take};
use crate::matching::route::RouteMatcher;
use crate::request::Peer;

/// The filter.
#[derive(Debug)]
pub struct JwtFilter {
    providers: Providers,
    rules: Vec<(RouteMatcher, Rule)>,
    named: BTreeMap<String, Requirement>,
    preflights_pass: bool,
    tells_nothing: bool,
}

#[derive(Debug)]
enum Rule {
    Own(Requirement),
    Named(String),
}

/// Dynamic metadata of the filter: payloads of tokens that were verified, by the names that providers give them.
pub type Verified = Map<String, Value>;

impl JwtFilter {
    /// Reads the filter's configuration.
    ///
    /// # Errors
    /// Where it is not valid, or has something set that is not served: keys that have to be fetched are not.
    pub fn compile(message: &JwtAuthentication) -> Result<Self, CompileError> {
        take!(message => JwtAuthentication {
            providers, rules, bypass_cors_preflight, requirement_map, strip_failure_response, stat_prefix,
        } unserved { filter_state_rules });
        let _ = stat_prefix;
        let provider = |(name, provider): (&String, _)| {
            Ok((
                name.clone(),
                Provider::compile(provider).within(|| format!("provider {name:?}"))?,
            ))
        };
        let providers = providers
            .iter()
            .map(provider)
            .collect::<Result<Providers, CompileError>>()?;
        let named = |(name, requirement): (&String, _)| {
            let compiled = Requirement::compile(requirement, &providers).within(|| format!("requirement {name:?}"))?;
            Ok((name.clone(), compiled))
        };
        let named = requirement_map
            .iter()
            .map(named)
            .collect::<Result<BTreeMap<_, _>, CompileError>>()?;
        let rule = |(index, rule): (usize, &RequirementRule)| {
            compile_rule(rule, &providers, &named).within(|| format!("rules[{index}]"))
        };
        let rules = rules.iter().enumerate().map(rule).collect::<Result<_, _>>()?;
        Ok(Self {
            providers,
            rules,
            named,
            preflights_pass: *bypass_cors_preflight,
            tells_nothing: *strip_failure_response,
        })
    }

    /// Verifies the tokens of a request and changes it: tokens that are not handed on go, fields with claims come. Fields of that name from the
    /// client go in any case. `route` is what the route says, if the filter is asked after it is known.
    ///
    /// # Errors
    /// Why the request does not go on: an answer with [`JwtStatus::http_status`] and [`body`](Self::body).
    pub fn verify(
        &self,
        request: &mut Parts,
        peer: &Peer<'_>,
        route: Option<&PerRoute>,
        now: SystemTime,
    ) -> Result<Verified, JwtStatus> {
        let preflight = request.method == Method::OPTIONS
            && request.headers.contains_key(header::ORIGIN)
            && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if preflight && self.preflights_pass {
            return Ok(Verified::new());
        }
        let requirement = match route {
            Some(PerRoute::Disabled) => None,
            // A name that is not there lets nobody pass.
            Some(PerRoute::Requirement(name)) => Some(self.named.get(name).ok_or(JwtStatus::UnknownIssuer)?),
            None => match self.rules.iter().find(|(matcher, _)| matcher.matches(request, peer)) {
                None => None,
                Some((_, Rule::Own(requirement))) => Some(requirement),
                Some((_, Rule::Named(name))) => Some(self.named.get(name).ok_or(JwtStatus::UnknownIssuer)?),
            },
        };
        for provider in self.providers.values() {
            provider.sanitize(request);
        }
        let Some(requirement) = requirement else {
            return Ok(Verified::new());
        };
        let accepted = requirement.verify(&self.providers, request, now)?;
        accepted.apply(request);
        Ok(accepted.metadata)
    }

    /// `www-authenticate` of the answer to what does not go on.
    pub fn challenge(&self, request: &Parts, status: JwtStatus) -> Option<HeaderValue> {
        if self.tells_nothing {
            return None;
        }
        challenge(request, status)
    }

    /// The body of the answer to what does not go on.
    pub fn body(&self, status: JwtStatus) -> String {
        if self.tells_nothing {
            String::new()
        } else {
            status.to_string()
        }
    }
}

fn compile_rule(
    rule: &RequirementRule,
    providers: &Providers,
    named: &BTreeMap<String, Requirement>,
) -> Result<(RouteMatcher, Rule), CompileError> {
    take!(rule => RequirementRule { r#match, requirement_type } unserved {});
    let matcher = r#match.as_ref().ok_or_else(|| CompileError::missing("match"))?;
    let matcher = RouteMatcher::compile(matcher).within(|| "match".into())?;
    let rule = match requirement_type {
        Some(RequirementType::Requires(requirement)) => {
            Rule::Own(Requirement::compile(requirement, providers).within(|| "requires".into())?)
        }
        Some(RequirementType::RequirementName(name)) if named.contains_key(name) => Rule::Named(name.clone()),
        Some(RequirementType::RequirementName(name)) => {
            return Err(CompileError::invalid(
                "requirement_name",
                format_args!("there is no requirement {name:?}"),
            ));
        }
        None => Rule::Own(Requirement::Nothing),
    };
    Ok((matcher, rule))
}
