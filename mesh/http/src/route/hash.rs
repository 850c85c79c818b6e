//! The hash of a request, by which balancers of the hashing kind choose.

use culvert_envoy::pb::envoy::config::route::v3::route_action::HashPolicy;
use culvert_envoy::pb::envoy::config::route::v3::route_action::hash_policy::{self as pb, PolicySpecifier};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use std::time::Duration;
use xxhash_rust::xxh64::xxh64;

use super::path::PathRewrite;
use crate::error::{CompileError, Within as _, take};
use crate::matching::query::parameter;
use crate::request::{Peer, cookie};
use crate::value::optional_duration;

/// What a request hashes to.
#[derive(Clone, Debug, Default)]
pub struct Hashed {
    /// The hash. None where no policy has one: the choice is random then.
    pub hash: Option<u64>,
    /// A cookie that a policy wants the client to have, and it has not: its value is the address of the client, hashed.
    pub cookie: Option<HashCookie>,
}

/// A cookie for the client.
#[derive(Clone, Debug)]
pub struct HashCookie(HeaderValue);

impl HashCookie {
    /// The value for `set-cookie`.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

/// Policies, in order.
#[derive(Debug)]
pub(super) struct HashPolicies(Vec<Policy>);

#[derive(Debug)]
struct Policy {
    by: By,
    terminal: bool,
}

#[derive(Debug)]
enum By {
    Header(HeaderName, Option<PathRewrite>),
    Cookie(Cookie),
    SourceAddress,
    Query(String),
}

#[derive(Debug)]
struct Cookie {
    name: String,
    /// Made where the client has none, if set; zero makes a session cookie.
    ttl: Option<Duration>,
    path: String,
    attributes: String,
}

impl HashPolicies {
    pub(super) fn compile(policies: &[HashPolicy]) -> Result<Self, CompileError> {
        let compile = |(index, policy)| Policy::compile(policy).within(|| format!("hash_policy[{index}]"));
        policies
            .iter()
            .enumerate()
            .map(compile)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn hash(&self, request: &Parts, peer: &Peer<'_>) -> Hashed {
        let mut hashed = Hashed::default();
        for policy in &self.0 {
            if let Some(new) = policy.by.hash(request, peer, &mut hashed.cookie) {
                // Rotated, so that two equal values do not cancel each other out.
                hashed.hash = Some(hashed.hash.map_or(new, |old| old.rotate_left(1) ^ new));
            }
            if policy.terminal && hashed.hash.is_some() {
                break;
            }
        }
        hashed
    }
}

impl Policy {
    fn compile(policy: &HashPolicy) -> Result<Self, CompileError> {
        take!(policy => HashPolicy { terminal, policy_specifier } unserved {});
        let by = match policy_specifier {
            Some(PolicySpecifier::Header(header)) => {
                take!(header => pb::Header { header_name, regex_rewrite } unserved {});
                let name = HeaderName::from_bytes(header_name.as_bytes()).map_err(|_| {
                    CompileError::invalid("header_name", format_args!("{header_name:?} is no header field's name"))
                })?;
                let rewrite = regex_rewrite.as_ref().map(PathRewrite::compile_regex).transpose();
                By::Header(name, rewrite.within(|| "regex_rewrite".into())?)
            }
            Some(PolicySpecifier::Cookie(cookie)) => By::Cookie(Cookie::compile(cookie).within(|| "cookie".into())?),
            Some(PolicySpecifier::ConnectionProperties(properties)) if properties.source_ip => By::SourceAddress,
            Some(PolicySpecifier::ConnectionProperties(_)) => {
                return Err(CompileError::invalid(
                    "connection_properties",
                    "source_ip is all there is",
                ));
            }
            Some(PolicySpecifier::QueryParameter(query)) => By::Query(query.name.clone()),
            Some(PolicySpecifier::FilterState(_)) => return Err(CompileError::unserved("filter_state")),
            None => return Err(CompileError::missing("policy_specifier")),
        };
        Ok(Self {
            by,
            terminal: *terminal,
        })
    }
}

impl By {
    fn hash(&self, request: &Parts, peer: &Peer<'_>, made: &mut Option<HashCookie>) -> Option<u64> {
        match self {
            Self::Header(name, rewrite) => {
                let rewritten = |value: &HeaderValue| match rewrite {
                    Some(rewrite) => rewrite.path(&String::from_utf8_lossy(value.as_bytes())),
                    None => value.as_bytes().to_vec(),
                };
                let mut values: Vec<Vec<u8>> = request.headers.get_all(name).iter().map(rewritten).collect();
                // In order, and each the seed of the next, so that the order of the lines means nothing.
                values.sort_unstable();
                let (first, rest) = values.split_first()?;
                Some(rest.iter().fold(xxh64(first, 0), |seed, value| xxh64(value, seed)))
            }
            Self::Cookie(cookie) => match cookie.value(request) {
                Some(value) => Some(xxh64(value, 0)),
                None => {
                    let (hash, cookie) = cookie.make(peer)?;
                    *made = Some(cookie);
                    Some(hash)
                }
            },
            Self::SourceAddress => peer
                .address
                .map(|address| xxh64(address.ip().to_string().as_bytes(), 0)),
            Self::Query(name) => parameter(request, name).map(|value| xxh64(value.as_bytes(), 0)),
        }
    }
}

impl Cookie {
    fn compile(cookie: &pb::Cookie) -> Result<Self, CompileError> {
        take!(cookie => pb::Cookie { name, ttl, path, attributes } unserved {});
        if name.is_empty() {
            return Err(CompileError::missing("name"));
        }
        let attribute = |attribute: &pb::CookieAttribute| match attribute.value.as_str() {
            "" => format!("; {}", attribute.name),
            value => format!("; {}={value}", attribute.name),
        };
        Ok(Self {
            name: name.clone(),
            ttl: optional_duration("ttl", ttl)?,
            path: path.clone(),
            attributes: attributes.iter().map(attribute).collect(),
        })
    }

    /// The value that the client sent, without quotes.
    fn value<'a>(&self, request: &'a Parts) -> Option<&'a [u8]> {
        cookie(request, &self.name)
    }

    fn make(&self, peer: &Peer<'_>) -> Option<(u64, HashCookie)> {
        let ttl = self.ttl?;
        let value = format!("{:x}", xxh64(peer.address?.to_string().as_bytes(), 0));
        let age = if ttl.is_zero() {
            String::new()
        } else {
            format!("; Max-Age={}", ttl.as_secs())
        };
        let path = if self.path.is_empty() {
            String::new()
        } else {
            format!("; Path={}", self.path)
        };
        let text = format!("{}=\"{value}\"{age}{path}{}; HttpOnly", self.name, self.attributes);
        Some((
            xxh64(value.as_bytes(), 0),
            HashCookie(HeaderValue::try_from(text).ok()?),
        ))
    }
}
